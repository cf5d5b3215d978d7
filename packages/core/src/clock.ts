/**
 * The process's two clocks, injected so that tests need not sleep. Rules that several processes share (when a retry is
 * due, when an overlap ends) use the database's clock instead: `posthaste.clock()`.
 */
export interface Clock {
  /** Wall clock in ms since 1970, for timestamps that people and receivers read. */
  now(): number
  /** Milliseconds that never go back, for deadlines and leases. */
  monotonic(): number
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
}
