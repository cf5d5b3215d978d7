import type { Loops } from '../background-loop.ts'
import type { WrittenRetry } from './recorder.ts'
import type { DueKey, WakeReader } from './wake-reader.ts'

const ROWS_PER_LOOK = 1_000
const LOOK_EVERY_MS = 300
const NIL = '00000000-0000-0000-0000-000000000000'
/** Behind every retry of the same moment. */
const TOP = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/**
 * Finds retries as they become due, by a lower bound that moves with the database's clock, so that no look reads through the
 * rows that earlier ones have dealt with. Only the owner of a lane writes retries: what it writes behind the bound it notes
 * itself (`isBehind`), and what lay behind the bound when a lane was taken is asked for then (`seenIn`).
 */
export class DueRetryFinder {
  readonly #wakes: WakeReader
  readonly #loops: Pick<Loops, 'monotonic'>
  #key: DueKey = { due: '-infinity', id: NIL }
  #boundMs = Number.NEGATIVE_INFINITY
  #lookAt = 0
  /** Retries that were written while a look was under way: it may not have seen them, and yet ends with a bound behind them. */
  #meanwhile: WrittenRetry[] | null = null
  /** The life that the database was in at the last look. */
  life: string | null = null
  /** The database's clock went back before the last look. */
  wentBack = false
  /** The last look was cut: look again at once. */
  more = false

  constructor(wakes: WakeReader, loops: Pick<Loops, 'monotonic'>) {
    this.#wakes = wakes
    this.#loops = loops
  }

  /**
   * The endpoints with retries that have become due, each with when the first of these was due; null where that is one that was
   * written behind the bound, and so may have been due earlier than any that is known.
   */
  async next(): Promise<Map<number, string | null>> {
    const monotonic = this.#loops.monotonic()
    const found = new Map<number, string | null>()
    if (!this.more && monotonic < this.#lookAt) return found
    this.#lookAt = monotonic + LOOK_EVERY_MS
    const meanwhile: WrittenRetry[] = []
    this.#meanwhile = meanwhile
    const { rows, now, nowMs, life } = await this.#wakes.dueRetries(this.#key, ROWS_PER_LOOK).finally(() => {
      this.#meanwhile = null
    })
    this.life = life
    const last = rows.at(-1)
    this.more = rows.length === ROWS_PER_LOOK
    // A database clock that went back takes the bound with it: retries are written by that clock.
    if (this.more && last !== undefined) this.#key = { due: last.due, id: last.id }
    else this.#key = { due: now, id: TOP }
    this.wentBack = nowMs < this.#boundMs
    this.#boundMs = nowMs
    for (const { endpoint, due } of rows) if (!found.has(endpoint)) found.set(endpoint, due)
    for (const retry of meanwhile) if (this.#lies(retry)) found.set(retry.endpoint, null)
    return found
  }

  /** Whether a retry that was just written lies behind the bound already. */
  isBehind(retry: WrittenRetry): boolean {
    this.#meanwhile?.push(retry)
    return this.#lies(retry)
  }

  /** Behind the bound, which is kept to the microsecond: hence a millisecond of slack. */
  #lies({ dueMs }: WrittenRetry): boolean {
    return dueMs <= this.#boundMs + 1
  }

  /** Endpoints of these lanes with retries behind the bound. */
  async seenIn(lanes: readonly number[]): Promise<number[]> {
    if (this.#boundMs === Number.NEGATIVE_INFINITY) return []
    return await this.#wakes.endpointsWithRetries(lanes, this.#boundMs)
  }
}
