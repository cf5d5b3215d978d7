/**
 * Backs an endpoint off as a whole when it is down, so that its deliveries neither hold slots nor use up their schedule.
 * Five failures in a row, of at least two deliveries, that say "down" open it; then one probe at a time, after 10 s, doubling
 * to 5 min. One success closes it.
 */
export interface BreakerState {
  /** Null while closed. */
  backoffMs: number | null
  /** When the next probe may go, in ms of this process's wall clock. */
  untilMs: number
}

export const FAILURES_TO_OPEN = 5
export const FIRST_BACKOFF_MS = 10_000
export const LONGEST_BACKOFF_MS = 300_000

export class Breaker {
  #failures = 0
  #firstDelivery: string | null = null
  #several = false
  #backoffMs: number | null
  #untilMs: number

  constructor(state: BreakerState = { backoffMs: null, untilMs: 0 }) {
    this.#backoffMs = state.backoffMs
    this.#untilMs = state.untilMs
  }

  get open(): boolean {
    return this.#backoffMs !== null
  }

  get state(): BreakerState {
    return { backoffMs: this.#backoffMs, untilMs: this.#untilMs }
  }

  /** Whether a send may begin: always while closed; while open one probe, when its time has come. */
  allows(nowMs: number, inFlight: number): boolean {
    return this.#backoffMs === null || (inFlight === 0 && this.waitMs(nowMs) === 0)
  }

  /** How long until the next probe may go; 0 while closed. */
  waitMs(nowMs: number): number {
    if (this.#backoffMs === null) return 0
    // No probe is further away than a whole back-off, but where the clock went back: then it begins again, once.
    this.#untilMs = Math.min(this.#untilMs, nowMs + this.#backoffMs)
    return Math.max(0, this.#untilMs - nowMs)
  }

  /** Answers whether this closed it. */
  succeeded(): boolean {
    this.#failures = 0
    this.#firstDelivery = null
    this.#several = false
    const closed = this.#backoffMs !== null
    this.#backoffMs = null
    return closed
  }

  /** A failure that says "down". Answers whether this opened it or moved its next probe. */
  failed(deliveryId: string, nowMs: number): boolean {
    this.#failures++
    this.#firstDelivery ??= deliveryId
    if (this.#firstDelivery !== deliveryId) this.#several = true
    if (this.#backoffMs !== null) {
      // Failures of sends that were under way when it opened say nothing new.
      if (nowMs < this.#untilMs) return false
      this.#backoffMs = Math.min(this.#backoffMs * 2, LONGEST_BACKOFF_MS)
    } else if (this.#failures >= FAILURES_TO_OPEN && this.#several) {
      this.#backoffMs = FIRST_BACKOFF_MS
    } else {
      return false
    }
    this.#untilMs = nowMs + this.#backoffMs
    return true
  }

  /** A failure that says nothing about the endpoint as a whole ends a row of those that do. */
  answered(): void {
    this.#failures = 0
    this.#firstDelivery = null
    this.#several = false
  }
}
