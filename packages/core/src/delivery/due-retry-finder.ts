import type { Clock } from '../clock.ts'
import type { DueKey, DueRetry, WakeReader } from './wake-reader.ts'

const ROWS_PER_LOOK = 1_000
const LOOK_EVERY_MS = 100
const NIL = '00000000-0000-0000-0000-000000000000'

/**
 * Finds retries as they become due, by a lower bound that moves with the database's clock, so that no look reads through the
 * rows that earlier ones have dealt with. Only the owner of a lane writes retries: what it writes behind the bound it notes
 * itself (`isBehind`), and what lay behind the bound when a lane was taken is asked for then (`seenIn`).
 */
export class DueRetryFinder {
  readonly #wakes: WakeReader
  readonly #clock: Clock
  #key: DueKey = { due: '-infinity', id: NIL }
  #boundMs = Number.NEGATIVE_INFINITY
  #lookAt = 0
  /** The last look was cut: look again at once. */
  more = false

  constructor(wakes: WakeReader, clock: Clock) {
    this.#wakes = wakes
    this.#clock = clock
  }

  async next(): Promise<DueRetry[]> {
    const monotonic = this.#clock.monotonic()
    if (!this.more && monotonic < this.#lookAt) return []
    this.#lookAt = monotonic + LOOK_EVERY_MS
    const { rows, now, nowMs } = await this.#wakes.dueRetries(this.#key, ROWS_PER_LOOK)
    const last = rows.at(-1)
    this.more = rows.length === ROWS_PER_LOOK
    // A database clock that went back takes the bound with it: retries are written by that clock.
    if (this.more && last !== undefined) this.#key = { due: last.due, id: last.id }
    else this.#key = { due: now, id: NIL }
    this.#boundMs = nowMs
    return rows
  }

  /** Whether a retry due then lies behind the bound already (a millisecond of slack: the bound is kept to the microsecond). */
  isBehind(dueMs: number): boolean {
    return dueMs <= this.#boundMs + 1
  }

  /** Endpoints of these lanes with retries behind the bound. */
  async seenIn(lanes: readonly number[]): Promise<number[]> {
    if (this.#boundMs === Number.NEGATIVE_INFINITY) return []
    return await this.#wakes.endpointsWithRetries(lanes, this.#boundMs)
  }
}
