import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import type { Logger } from '../logger.ts'
import type { Attempt, AttemptDependencies } from './attempt.ts'
import { makeTracedAttempt } from './attempt-channels.ts'
import type { DeliveryItem, EndpointState } from './endpoint-state.ts'
import { Queue } from './queue.ts'
import { SendSlots, STANDINGS, type Standing } from './send-slots.ts'

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

const TICK_MS = 50
/** With so many endpoints that may send, for each send under way at once, there is enough to send for a while. */
const ENOUGH_READY = 2
/** How soon to look again where the lease did not cover a send. */
const LEASE_PAUSE_MS = 250
/** How soon to look again at the latest where this host's own way out was down: it may work again. */
const LONGEST_HOLD_MS = 1_000
/** More than a clock is slewed by between two ticks, and less than anybody waits for. */
const CLOCK_STEP_MS = 1_000

/**
 * Decides who may send next: endpoints in turn, each within its own share of slots, so that a hanging endpoint holds only
 * what is its own.
 */
export class Sender {
  readonly #o: SenderOptions
  /** Endpoints that have something to send, by their standing when they were put here. */
  readonly #ready: Record<Standing, Queue<EndpointState>> = {
    proven: new Queue(),
    unproven: new Queue(),
    quiet: new Queue(),
  }
  readonly #isReady = new Set<EndpointState>()
  /** Endpoints that wait for a moment: a probe, a `Retry-After`, a token. */
  readonly #timed = new Map<EndpointState, number>()
  /** What is under way, and when each has ended. */
  readonly #flights = new Map<DeliveryItem, Promise<void>>()
  readonly #slots: SendSlots
  /** By how much the wall clock was ahead of the monotonic one when it was last looked at. */
  #aheadMs = 0
  #pausedUntil = 0
  #loop: BackgroundLoop | null = null
  #pumping = false

  constructor(options: SenderOptions) {
    this.#o = options
    this.#slots = new SendSlots(options.concurrency)
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
    for (const standing of STANDINGS) this.#ready[standing].clear()
    this.#isReady.clear()
    this.#timed.clear()
    this.#flights.clear()
    this.#slots.clear()
  }

  get inFlight(): number {
    return this.#flights.size
  }

  /** Resolves when every send under way at this moment has ended. */
  async landed(): Promise<void> {
    await Promise.all(this.#flights.values())
  }

  /** So many endpoints have something to send, and get their turn soon, that nothing more need be read for them. */
  get hasEnough(): boolean {
    const { proven, unproven } = this.#ready
    const soon = this.#slots.unprovenAreAnswering(this.#o.clock.monotonic()) ? unproven.length : 0
    return proven.length + soon >= this.#o.concurrency * ENOUGH_READY
  }

  /** Something of this endpoint may be sendable. */
  ready(state: EndpointState): void {
    if (this.#isReady.has(state)) return
    if (state.sendable === 0 && state.waitMs(this.#o.clock.now(), this.#o.clock.monotonic()) === null) return
    this.#isReady.add(state)
    this.#ready[this.#slots.standingOf(state)].push(state)
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
    const monotonic = this.#o.clock.monotonic()
    if (monotonic < this.#pausedUntil) return
    // One of each standing in turn, as long as there is room for any.
    for (let began = true; began; ) {
      began = false
      for (const standing of STANDINGS) {
        if (this.#o.blocked()) return
        const state = this.#next(standing)
        if (state === null) continue
        if (!this.#o.mayStart()) {
          this.#pausedUntil = monotonic + LEASE_PAUSE_MS
          this.#ready[standing].unshift(state)
          return
        }
        this.#begin(state, standing, monotonic)
        began = true
      }
    }
  }

  /** The next endpoint of this standing, where there is room for one. */
  #next(standing: Standing): EndpointState | null {
    const queue = this.#ready[standing]
    while (queue.length > 0 && this.#slots.hasRoom(standing)) {
      const state = queue.shift() as EndpointState
      const now = this.#slots.standingOf(state)
      // Its next answer brings it here again.
      if (this.#slots.mustAnswer(state)) this.#isReady.delete(state)
      else if (now === standing) return state
      else this.#ready[now].push(state)
    }
    return null
  }

  /** Begins a send of this endpoint, or notes for what it waits. */
  #begin(state: EndpointState, standing: Standing, monotonic: number): void {
    const { clock, attempt } = this.#o
    const heldMs = state.config === null ? 0 : (attempt.transport.heldMs?.(state.config.url) ?? 0)
    if (heldMs > 0) {
      this.#isReady.delete(state)
      this.#timed.set(state, monotonic + Math.min(heldMs, LONGEST_HOLD_MS))
      return
    }
    const item = state.take(clock.now(), monotonic)
    if (item === null) {
      this.#isReady.delete(state)
      const waitMs = state.waitMs(clock.now(), monotonic)
      if (waitMs !== null) this.#timed.set(state, monotonic + waitMs)
      return
    }
    this.#ready[standing].push(state)
    this.#o.onTaken(state, item)
    this.send(item)
  }

  /** Sends now, whatever else waits: the slot of this endpoint is taken already. */
  send(item: DeliveryItem): void {
    const state = item.endpoint
    const config = state.config
    if (config === null) return
    this.#slots.began(state, this.#o.clock.monotonic())
    const landed = makeTracedAttempt(this.#o.attempt, item, config, this.#o.logger).then((attempt) => {
      if (!this.#flights.delete(item)) return
      this.#slots.ended(state, attempt.result.timings.total, this.#o.clock.monotonic())
      this.#o.onAttempt(item, attempt)
    })
    this.#flights.set(item, landed)
  }

  #tick(): void {
    const { clock } = this.#o
    const monotonic = clock.monotonic()
    // The clock was set, or the machine slept (which stops the monotonic one): the moments they wait for are other ones now.
    const aheadMs = clock.now() - monotonic
    const stepped = Math.abs(aheadMs - this.#aheadMs) > CLOCK_STEP_MS
    if (stepped) this.#aheadMs = aheadMs
    // A copy: who still has to wait is put back at once.
    for (const [state, at] of stepped ? [...this.#timed] : this.#timed) {
      if (at > monotonic && !stepped) continue
      this.#timed.delete(state)
      this.ready(state)
    }
    for (const state of this.#slots.look(monotonic)) this.#o.onSlow(state)
    this.pump()
  }
}
