import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import type { Logger } from '../logger.ts'
import type { Attempt, AttemptDependencies } from './attempt.ts'
import { makeTracedAttempt } from './attempt-channels.ts'
import type { DeliveryItem, EndpointState } from './endpoint-state.ts'
import { Queue } from './queue.ts'

export interface SenderOptions {
  attempt: AttemptDependencies
  clock: Clock
  loops: Loops
  logger: Logger
  /** Sends under way at once, over all endpoints. */
  concurrency: number
  /** Whether a send that begins now ends within the lease. */
  mayStart(): boolean
  /** Too much is unwritten: begin nothing. */
  blocked(): boolean
  /** An item left the queue. */
  onTaken(state: EndpointState, item: DeliveryItem): void
  onAttempt(item: DeliveryItem, attempt: Attempt): void
  /** A send of this endpoint has been under way for long: what was read ahead of it only takes room. */
  onSlow(state: EndpointState): void
}

/** An endpoint whose send is this old counts as slow; slow ones together get only a part of the slots. */
const SLOW_AFTER_MS = 1_000
const SLOW_SHARE = 0.5
const TICK_MS = 50
/** How soon to look again where the lease did not cover a send. */
const LEASE_PAUSE_MS = 250
/** How soon to look again at the latest where this host's own way out was down: it may work again. */
const LONGEST_HOLD_MS = 1_000

interface Flight {
  state: EndpointState
  startedAt: number
  landed: Promise<void>
}

/**
 * Decides who may send next: endpoints in turn, each within its own share of slots, so that a hanging endpoint holds only
 * what is its own.
 */
export class Sender {
  readonly #o: SenderOptions
  readonly #ready = new Queue<EndpointState>()
  readonly #isReady = new Set<EndpointState>()
  /** Endpoints that wait for a moment: a probe, a `Retry-After`, a token. */
  readonly #timed = new Map<EndpointState, number>()
  readonly #flights = new Map<DeliveryItem, Flight>()
  #slow = new Set<EndpointState>()
  #slowFlights = 0
  #pausedUntil = 0
  #loop: BackgroundLoop | null = null
  #pumping = false

  constructor(options: SenderOptions) {
    this.#o = options
  }

  start(): void {
    const { loops, logger } = this.#o
    this.#loop = loops.start({
      name: 'sending',
      logger,
      step: async () => {
        this.#tick()
        return TICK_MS
      },
    })
  }

  async stop(): Promise<void> {
    await this.#loop?.stop()
  }

  /** Fenced: what is under way ends by itself and is ignored. */
  clear(): void {
    this.#ready.clear()
    this.#isReady.clear()
    this.#timed.clear()
    this.#flights.clear()
    this.#slow.clear()
    this.#slowFlights = 0
  }

  get inFlight(): number {
    return this.#flights.size
  }

  /** Resolves when every send under way at this moment has ended. */
  async landed(): Promise<void> {
    await Promise.all([...this.#flights.values()].map(({ landed }) => landed))
  }

  /** Something of this endpoint may be sendable. */
  ready(state: EndpointState): void {
    if (this.#isReady.has(state)) return
    if (state.queued === 0 && state.waitMs(this.#o.clock.now(), this.#o.clock.monotonic()) === null) return
    this.#isReady.add(state)
    this.#ready.push(state)
    this.pump()
  }

  pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    try {
      this.#fillSlots()
    } finally {
      this.#pumping = false
    }
  }

  #fillSlots(): void {
    const { clock, concurrency } = this.#o
    const monotonic = clock.monotonic()
    if (monotonic < this.#pausedUntil) return
    // Endpoints that are passed over for being slow go to the end; each is looked at once.
    let passes = this.#ready.length
    while (this.#flights.size < concurrency && passes > 0 && !this.#o.blocked()) {
      const state = this.#ready.shift()
      if (state === undefined) return
      if (this.#slow.has(state) && this.#slowFlights >= concurrency * SLOW_SHARE) {
        this.#ready.push(state)
        passes--
        continue
      }
      if (!this.#o.mayStart()) {
        this.#pausedUntil = monotonic + LEASE_PAUSE_MS
        this.#ready.unshift(state)
        return
      }
      const heldMs = state.config === null ? 0 : (this.#o.attempt.transport.heldMs?.(state.config.url) ?? 0)
      if (heldMs > 0) {
        this.#isReady.delete(state)
        this.#timed.set(state, monotonic + Math.min(heldMs, LONGEST_HOLD_MS))
        passes--
        continue
      }
      const item = state.take(clock.now(), monotonic)
      if (item === null) {
        this.#isReady.delete(state)
        const waitMs = state.waitMs(clock.now(), monotonic)
        if (waitMs !== null) this.#timed.set(state, monotonic + waitMs)
        passes--
        continue
      }
      this.#ready.push(state)
      this.#o.onTaken(state, item)
      this.send(item)
    }
  }

  /** Sends now, whatever else waits: the slot of this endpoint is taken already. */
  send(item: DeliveryItem): void {
    const state = item.endpoint
    const config = state.config
    if (config === null) return
    const startedAt = this.#o.clock.monotonic()
    if (this.#slow.has(state)) this.#slowFlights++
    const landed = makeTracedAttempt(this.#o.attempt, item, config, this.#o.logger).then((attempt) => {
      if (!this.#flights.delete(item)) return
      if (this.#slow.has(state) && this.#slowFlights > 0) this.#slowFlights--
      if (attempt.result.timings.total > SLOW_AFTER_MS) this.#slow.add(state)
      else this.#slow.delete(state)
      this.#o.onAttempt(item, attempt)
    })
    this.#flights.set(item, { state, startedAt, landed })
  }

  #tick(): void {
    const monotonic = this.#o.clock.monotonic()
    for (const [state, at] of this.#timed) {
      if (at > monotonic) continue
      this.#timed.delete(state)
      this.ready(state)
    }
    let slowFlights = 0
    for (const { state, startedAt } of this.#flights.values()) {
      if (monotonic - startedAt > SLOW_AFTER_MS && !this.#slow.has(state)) {
        this.#slow.add(state)
        this.#o.onSlow(state)
      }
      if (this.#slow.has(state)) slowFlights++
    }
    this.#slowFlights = slowFlights
    for (const state of this.#slow) if (state.inFlight === 0 && state.queued === 0) this.#slow.delete(state)
    this.pump()
  }
}
