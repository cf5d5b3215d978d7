import { Breaker } from './breaker.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import { RateBucket } from './rate-bucket.ts'

/** Where read-ahead and concurrency begin; both grow while an endpoint answers well, so a hanging one never holds much. */
const FIRST_READ_AHEAD = 8
const MOST_READ_AHEAD = 500
const FIRST_ALLOWANCE = 4

/** How much of an endpoint may be sent, and read ahead, at a time: what it bore so far, what it asked for, and its limits. */
export class EndpointPace {
  /** Deliveries to have at hand. */
  readAhead = FIRST_READ_AHEAD
  /** Sends at once, as far as its answers go. */
  allowance = FIRST_ALLOWANCE
  breaker = new Breaker()
  failingSinceMs: number | null = null
  bucket: RateBucket | null = null
  /** `Retry-After`: nothing before this wall-clock ms. */
  notBeforeMs = 0
  #maxConcurrency = Number.POSITIVE_INFINITY

  /** `before`: the configuration until now. What was learnt since is kept, unless the database's health was begun anew. */
  applyConfig(config: EndpointConfig, before: EndpointConfig | null, monotonicMs: number): void {
    this.#maxConcurrency = config.fifo ? 1 : (config.maxConcurrency ?? Number.POSITIVE_INFINITY)
    if (before === null || before.health.epoch !== config.health.epoch) {
      const { backoffMs, backoffUntilMs, failingSinceMs } = config.health
      this.breaker = new Breaker({ backoffMs, untilMs: backoffUntilMs ?? 0 })
      this.failingSinceMs = failingSinceMs
      // Held without being backed off: its receiver asked for it.
      this.notBeforeMs = backoffMs === null ? (backoffUntilMs ?? 0) : 0
    }
    const rate = config.rateLimit
    if (rate === null) this.bucket = null
    else if (this.bucket === null || before?.rateLimit?.limit !== rate.limit || before.rateLimit.perMs !== rate.perMs) {
      this.bucket = new RateBucket(rate.limit, rate.perMs, monotonicMs)
    }
  }

  /** As many are under way as may be at once. */
  isFull(inFlight: number): boolean {
    return inFlight >= Math.min(this.allowance, this.#maxConcurrency)
  }

  /** Another may be sent now, as far as the rate limit allows it. */
  allows(nowMs: number, inFlight: number): boolean {
    return nowMs >= this.notBeforeMs && !this.isFull(inFlight) && this.breaker.allows(nowMs, inFlight)
  }

  /** Takes one off the rate limit, if there is one left. */
  takeToken(monotonicMs: number): boolean {
    if (this.bucket === null) return true
    if (this.bucket.waitMs(monotonicMs) > 0) return false
    this.bucket.take()
    return true
  }

  /** In how many ms another may be sent; null where time alone changes nothing. */
  waitMs(nowMs: number, monotonicMs: number, inFlight: number): number | null {
    if (nowMs < this.notBeforeMs) return this.notBeforeMs - nowMs
    if (this.breaker.open && inFlight === 0) return this.breaker.waitMs(nowMs)
    if (this.bucket !== null && !this.isFull(inFlight)) return this.bucket.waitMs(monotonicMs)
    return null
  }

  /** It answered in time while `inFlight` were under way: send more at once, up to `most`. */
  allowMore(inFlight: number, most: number): void {
    if (inFlight + 1 >= this.allowance && this.allowance < most) this.allowance = Math.min(most, this.allowance + 1)
  }

  /** It answered in time, and nothing more was at hand. */
  readFurther(): void {
    this.readAhead = Math.min(MOST_READ_AHEAD, Math.max(FIRST_READ_AHEAD, this.readAhead * 2))
  }

  shrink(): void {
    this.allowance = Math.max(1, Math.floor(this.allowance / 2))
    this.readAhead = FIRST_READ_AHEAD
  }

  /** A send of it hangs: read no further ahead than what may be sent next. */
  stall(): void {
    this.readAhead = 1
  }

  /** It is as when it was made, or nearly. */
  get learntNothing(): boolean {
    return (
      this.readAhead <= FIRST_READ_AHEAD * 4 &&
      this.allowance === FIRST_ALLOWANCE &&
      this.failingSinceMs === null &&
      this.bucket === null &&
      this.notBeforeMs === 0 &&
      !this.breaker.open
    )
  }
}
