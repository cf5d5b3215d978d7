import type { Clock } from '../clock.ts'
import type { DeliveryExpirer } from './delivery-expirer.ts'
import type { EndpointState } from './endpoint-state.ts'
import type { ServedLanes } from './served-lanes.ts'

export interface WaitingExpiryOptions {
  served: ServedLanes
  expirer: DeliveryExpirer
  clock: Clock
  token(): number
  onFenced(): void
  /** It may have something to read again. */
  feed(state: EndpointState): void
}

const AGAIN_MS = 600_000

/**
 * Ends what has waited too long behind endpoints that this worker serves: backed off for most of two weeks, or too slow, too
 * limited or unreadable until the declared limit. Only what is neither queued nor under way, so that nothing is both sent
 * and ended.
 */
export class WaitingExpiry {
  readonly #o: WaitingExpiryOptions

  constructor(options: WaitingExpiryOptions) {
    this.#o = options
  }

  async run(): Promise<void> {
    const now = this.#o.clock.now()
    const due = [...this.#o.served.states.values()].filter((state) => now >= state.expiryAtMs && mayWait(state))
    for (const state of due) await this.#expire(state)
  }

  async #expire(state: EndpointState): Promise<void> {
    const { served, expirer, clock, token, onFenced, feed } = this.#o
    const { epoch } = served
    // Nothing of it is read meanwhile.
    if (served.states.get(state.no) !== state || state.reading) return
    state.reading = true
    try {
      for (let more = true; more; ) {
        const found = await expirer.expire({
          endpoint: state.no,
          after: state.cursor,
          through: state.target,
          oldest: `${state.oldest.slice(0, 13)}-0000-0000-000000000000`,
          except: state.inHand,
          token: token(),
          reason: state.pace.breaker.open ? 'degraded' : 'waiting',
        })
        if (found === null) return onFenced()
        if (epoch !== served.epoch) return
        if (found.deliveries.length > 0 || found.more) state.ended(found.deliveries, found.through)
        more = found.more
      }
      state.expiryAtMs = clock.now() + AGAIN_MS
    } finally {
      state.reading = false
      feed(state)
    }
  }
}

/** Endpoints that are switched off or deleted have nobody who serves them, and others see to what they hold. */
function mayWait(state: EndpointState): boolean {
  if (state.reading || state.noting || state.draining || state.rewinding) return false
  if (!state.unreadable && state.config?.state !== 'active') return false
  return state.pace.breaker.open || state.backlogged
}
