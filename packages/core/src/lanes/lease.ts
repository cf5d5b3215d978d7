import type { Clock } from '../clock.ts'

/**
 * What this worker may rely on: it was not fenced before its newest renewal, counted from before that renewal was asked
 * for, plus the lease. All on this process's monotonic clock, so a stepped wall clock changes nothing.
 */
export class Lease {
  readonly #clock: Clock
  readonly #leaseMs: number
  #askedAt = Number.NEGATIVE_INFINITY

  constructor(clock: Clock, leaseMs: number) {
    this.#clock = clock
    this.#leaseMs = leaseMs
  }

  /** Notes a renewal that succeeded; `askedAt` is the monotonic time from before it was sent. */
  renewed(askedAt: number): void {
    this.#askedAt = Math.max(this.#askedAt, askedAt)
  }

  lost(): void {
    this.#askedAt = Number.NEGATIVE_INFINITY
  }

  /** Whether something that takes at most `durationMs` ends within the lease when it begins now. */
  covers(durationMs: number): boolean {
    return this.#clock.monotonic() + durationMs <= this.#askedAt + this.#leaseMs
  }
}

/** Watches other workers' renewals on this process's monotonic clock. */
export class LeaseObserver {
  readonly #clock: Clock
  readonly #leaseMs: number
  #seen = new Map<number, { renewal: number; since: number }>()
  #lookedAt = Number.NEGATIVE_INFINITY

  constructor(clock: Clock, leaseMs: number) {
    this.#clock = clock
    this.#leaseMs = leaseMs
  }

  /**
   * Answers the tokens whose newest renewal has not changed for a whole lease. Who did not look for a while (frozen, or the
   * database was away, for the others too) begins to count anew: nobody could renew while nobody could look.
   */
  observe(workers: readonly { token: number; renewal: number }[]): number[] {
    const now = this.#clock.monotonic()
    if (now - this.#lookedAt > this.#leaseMs / 2) this.#seen.clear()
    this.#lookedAt = now
    const next = new Map<number, { renewal: number; since: number }>()
    const expired: number[] = []
    for (const { token, renewal } of workers) {
      const before = this.#seen.get(token)
      const entry = before !== undefined && before.renewal === renewal ? before : { renewal, since: now }
      next.set(token, entry)
      if (now - entry.since >= this.#leaseMs) expired.push(token)
    }
    this.#seen = next
    return expired
  }
}
