/**
 * A token bucket on this process's monotonic clock. An endpoint is served by one worker at a time, so it needs no
 * coordination; it begins empty, because whoever served the endpoint before may just have emptied its own.
 */
export class RateBucket {
  readonly #perToken: number
  readonly #limit: number
  #tokens = 0
  #at: number

  constructor(limit: number, perMs: number, nowMs: number) {
    this.#limit = limit
    this.#perToken = perMs / limit
    this.#at = nowMs
  }

  #refill(nowMs: number): void {
    // Never more than a second's worth, or one: a minute's limit is not sent in one burst after a pause.
    const most = Math.max(1, Math.min(this.#limit, 1_000 / this.#perToken))
    this.#tokens = Math.min(most, this.#tokens + Math.max(0, nowMs - this.#at) / this.#perToken)
    this.#at = nowMs
  }

  /** In how many ms a send may begin; 0: now. */
  waitMs(nowMs: number): number {
    this.#refill(nowMs)
    return this.#tokens >= 1 ? 0 : (1 - this.#tokens) * this.#perToken
  }

  take(): void {
    this.#tokens -= 1
  }
}
