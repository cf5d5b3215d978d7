/** While events keep coming, those of this time share a page: 500 events/s then cost 55 looks a second, not one each. */
const FLOWING_PAUSE_MS = 15
/** Two finds this close together mean that events keep coming. */
const FLOWING_WITHIN_MS = 100

/**
 * How long to wait between looks for work that other processes bring, of which nobody tells: densely while finds follow one
 * another, so that a steady load is not kept for half an idle pause at the median; then ever more thinly, down to the idle pause.
 * A single find changes nothing, so that a trickle of events costs no more than silence.
 */
export class LookPace {
  #foundAt = Number.NEGATIVE_INFINITY
  #flowing = false

  /** A look at `nowMs` (monotonic) found something. */
  found(nowMs: number): void {
    this.#flowing = nowMs - this.#foundAt <= FLOWING_WITHIN_MS
    this.#foundAt = nowMs
  }

  /** How long ago the last find was, in ms. */
  sinceFound(nowMs: number): number {
    return nowMs - this.#foundAt
  }

  /** The pause before the next look, in ms: never longer than `idleMs`. */
  pauseMs(nowMs: number, idleMs: number): number {
    if (!this.#flowing) return idleMs
    return Math.min(idleMs, Math.max(FLOWING_PAUSE_MS, this.sinceFound(nowMs) / 2))
  }
}
