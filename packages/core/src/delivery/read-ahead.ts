import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import type { Logger } from '../logger.ts'
import { type DeliveryReader, type DeliveryRow, RETRIES_FROM_START } from './delivery-reader.ts'
import { type EndpointConfig, type EndpointConfigs, EndpointUnreadable } from './endpoint-config.ts'
import type { DeliveryItem, EndpointState } from './endpoint-state.ts'
import type { ServedLanes } from './served-lanes.ts'

export interface ReadAheadOptions {
  served: ServedLanes
  reader: DeliveryReader
  configs: EndpointConfigs
  clock: Clock
  loops: Loops
  logger: Logger
  /** Something of this endpoint may be sendable now. */
  onReady(state: EndpointState): void
  /** This endpoint cannot be served from now on. */
  onUnreadable(endpoint: EndpointUnreadable): void
  /** A configuration was read. */
  onConfig(state: EndpointState): void
  /** There is enough to send, of endpoints that may send, for a while. */
  hasEnough(): boolean
}

const ENDPOINTS_PER_READ = 1_000
const ROWS_PER_READ = 1_000
const BYTES_PER_READ = 8_000_000
/**
 * Bounds of what is read and not yet begun: enough for the time that a read takes. What waits longer only grows old in memory:
 * with 4,000 rows the garbage collector had twice the work, and the process 100 MB more.
 */
const MOST_QUEUED_ROWS = 2_000
const MOST_QUEUED_CHARACTERS = 16_000_000
/**
 * Rows of endpoints that may not send now (backed off, limited, asked to wait) stay queued. Beyond the bounds above, where too little
 * is left for those that may, whoever has nothing queued is read all the same, a little at a time, up to this many times as much:
 * else a few hundred such endpoints would hold up all others.
 */
const BEYOND = 10
const ROWS_BEYOND = 8
/** With nothing to read the loop sleeps until it is woken. */
const ASLEEP_MS = 1_000

/** Reads deliveries and due retries ahead of sending: many endpoints in one query, each as far as it sends well. */
export class ReadAhead {
  readonly #o: ReadAheadOptions
  readonly #hungry = new Set<EndpointState>()
  #loop: BackgroundLoop | null = null
  #queuedRows = 0
  #queuedCharacters = 0

  constructor(options: ReadAheadOptions) {
    this.#o = options
  }

  start(): void {
    const { loops, logger } = this.#o
    this.#loop = loops.start({ name: 'reading deliveries', logger, step: () => this.#fill() })
  }

  async stop(): Promise<void> {
    await this.#loop?.stop()
  }

  clear(): void {
    this.#hungry.clear()
    this.#queuedRows = 0
    this.#queuedCharacters = 0
  }

  /** Endpoints that wait to be read. */
  get waiting(): number {
    return this.#hungry.size
  }

  /** An item left the queue of what was read ahead. */
  left(state: EndpointState, characters: number): void {
    this.#queuedRows--
    this.#queuedCharacters -= characters
    if (state.sendable * 2 <= state.pace.readAhead) this.feed(state)
    if (this.#hungry.size === 0) return
    if (this.#queuedRows * 2 < MOST_QUEUED_ROWS || !this.#o.hasEnough()) this.#loop?.wake()
  }

  #isFull(times: number): boolean {
    return this.#queuedRows >= MOST_QUEUED_ROWS * times || this.#queuedCharacters >= MOST_QUEUED_CHARACTERS * times
  }

  /** This endpoint may have something to read. */
  feed(state: EndpointState): void {
    if (this.#hungry.has(state) || state.reading || state.unreadable) return
    if (!state.wantsFresh && !state.retriesWaiting && state.config !== null) return
    this.#hungry.add(state)
    this.#loop?.wake()
  }

  /** There may be due retries of it. */
  hasRetries(state: EndpointState): void {
    state.retriesWaiting = true
    this.feed(state)
  }

  /** Whatever is due of this endpoint, from the oldest. */
  rereadRetries(state: EndpointState): void {
    state.retryKey = RETRIES_FROM_START
    this.hasRetries(state)
  }

  /** It was taken and not sent: it waits again. */
  returned(item: DeliveryItem): void {
    item.endpoint.putBack(item)
    this.#queuedRows++
    this.#queuedCharacters += item.dataText.length
    // Switched off meanwhile: it lives in its backlogs row alone.
    if (!item.endpoint.serving) this.unread(item.endpoint)
  }

  /** Forgets what was read ahead of an endpoint. */
  unread(state: EndpointState): void {
    this.#dropped(state.unreadQueued())
  }

  /** Begins an endpoint anew at its `backlogs` row. Only while nothing of it is under way. */
  rewind(state: EndpointState, cursor: number, oldest: string): void {
    this.#dropped(state.rewind(cursor, oldest))
  }

  #dropped(items: readonly DeliveryItem[]): void {
    for (const item of items) {
      this.#queuedRows--
      this.#queuedCharacters -= item.dataText.length
    }
  }

  /** Takes a configuration that was just read. */
  configure(state: EndpointState, config: EndpointConfig | EndpointUnreadable, now: number): void {
    if (config instanceof EndpointUnreadable) {
      if (!state.unreadable) this.#o.onUnreadable(config)
      state.unreadable = true
      this.unread(state)
      this.#o.onConfig(state)
      return
    }
    state.unreadable = false
    state.applyConfig(config, now)
    if (config.state !== 'active') this.unread(state)
    this.#o.onConfig(state)
    this.feed(state)
    this.#o.onReady(state)
  }

  /** Its row is gone: nothing can be sent, or be held, any more. */
  vanished(state: EndpointState): void {
    this.unread(state)
    state.coverMarks()
    this.#o.served.states.delete(state.no)
  }

  /** Reads the next deliveries and due retries of the endpoints that have room for more, many in one query each. */
  async #fill(): Promise<number> {
    const { served, configs, clock } = this.#o
    if (this.#hungry.size === 0 || this.#isFull(BEYOND)) return ASLEEP_MS
    const full = this.#isFull(1)
    if (full && this.#o.hasEnough()) return ASLEEP_MS
    const epoch = served.epoch
    const chosen: EndpointState[] = []
    for (const state of this.#hungry) {
      if (full && state.sendable > 0) continue
      this.#hungry.delete(state)
      if (served.states.get(state.no) !== state || state.draining) continue
      if (state.config !== null && state.config.state !== 'active') continue
      if (state.pace.breaker.open && state.sendable > 0) {
        // One is enough for the next probe, whose time may have come.
        this.#o.onReady(state)
        continue
      }
      state.reading = true
      chosen.push(state)
      if (chosen.length >= ENDPOINTS_PER_READ) break
    }
    if (chosen.length === 0) return this.#hungry.size > 0 && !full ? 0 : ASLEEP_MS
    const most = full ? ROWS_BEYOND : ROWS_PER_READ
    const watch = served.watchConfigs()
    try {
      const unknown = chosen.filter((state) => state.config === null)
      // Each to its end, also where another one fails: what is still being read would be read, and sent, a second time.
      const [configured, ...read] = await Promise.allSettled([
        unknown.length > 0 ? configs.load(unknown.map((state) => state.no)) : null,
        this.#readFresh(chosen, epoch, most),
        this.#readRetries(chosen, epoch, most),
      ])
      if (configured.status === 'rejected') throw configured.reason
      const loaded = configured.value
      for (const part of read) if (part.status === 'rejected') throw part.reason
      if (epoch !== served.epoch) return 0
      for (const state of unknown) {
        // Somebody else has read it since, or it has to be read once more.
        if (state.config !== null || watch.changed.has(state.no)) continue
        const config = loaded?.get(state.no)
        if (config !== undefined) this.configure(state, config, clock.monotonic())
        else this.vanished(state)
      }
    } catch (error) {
      for (const state of chosen) this.#hungry.add(state)
      throw error
    } finally {
      watch.end()
      for (const state of chosen) state.reading = false
    }
    for (const state of chosen) {
      this.#o.onReady(state)
      if (state.sendable * 2 <= state.pace.readAhead) this.feed(state)
    }
    return this.#hungry.size > 0 ? 0 : ASLEEP_MS
  }

  async #readFresh(states: readonly EndpointState[], epoch: number, most: number): Promise<void> {
    const wanted = states.filter((state) => state.wantsFresh)
    if (wanted.length === 0) return
    const share = Math.max(1, Math.min(most, Math.floor(ROWS_PER_READ / wanted.length)))
    let oldest = wanted[0]!.oldest
    const requests = wanted.map((state) => {
      if (state.oldest < oldest) oldest = state.oldest
      return {
        endpoint: state.no,
        after: state.cursor,
        through: state.target,
        checkThrough: state.checkThrough,
        limit: state.pace.breaker.open ? 1 : Math.min(share, Math.max(1, state.pace.readAhead - state.fresh.length)),
      }
    })
    // A delivery's id begins with the milliseconds of its event's.
    const floor = `${oldest.slice(0, 13)}-0000-0000-000000000000`
    const generations = wanted.map((state) => state.readGeneration)
    const { rows, cut } = await this.#o.reader.read(requests, floor, BYTES_PER_READ)
    if (epoch !== this.#o.served.epoch) return
    const current = this.#stillWanted(wanted, generations)
    const counts = this.#queue(rows, current, (state, row) => state.addFresh(row))
    for (const [index, state] of wanted.entries()) {
      const request = requests[index]!
      if (current.get(state.no) !== state) continue
      if (!cut && (counts.get(state.no) ?? 0) < request.limit) state.readThrough(request.through)
    }
  }

  async #readRetries(states: readonly EndpointState[], epoch: number, most: number): Promise<void> {
    const wanted = states.filter((state) => state.retriesWaiting)
    if (wanted.length === 0) return
    const share = Math.max(1, Math.min(most, Math.floor(ROWS_PER_READ / wanted.length)))
    const requests = wanted.map((state) => ({
      endpoint: state.no,
      ...(state.retryKey ?? RETRIES_FROM_START),
      limit: state.pace.breaker.open ? 1 : Math.min(share, Math.max(1, state.pace.readAhead - state.retries.length)),
    }))
    const generations = wanted.map((state) => state.readGeneration)
    // Before the query: a retry that is written while it runs sets this again.
    for (const state of wanted) state.retriesWaiting = false
    const { rows, cut } = await this.#o.reader.readRetries(requests, BYTES_PER_READ).catch((error: unknown) => {
      for (const state of wanted) state.retriesWaiting = true
      throw error
    })
    if (epoch !== this.#o.served.epoch) return
    const current = this.#stillWanted(wanted, generations)
    const counts = this.#queue(rows, current, (state, row) => state.addRetry(row))
    for (const [index, state] of wanted.entries()) {
      const complete = current.get(state.no) === state && !cut && (counts.get(state.no) ?? 0) < requests[index]!.limit
      if (!complete) state.retriesWaiting = true
    }
  }

  /** Queues what was read, and answers how many rows each endpoint had. */
  #queue<Row extends DeliveryRow>(
    rows: readonly Row[],
    current: ReadonlyMap<number, EndpointState>,
    add: (state: EndpointState, row: Row) => DeliveryItem | null,
  ): Map<number, number> {
    const counts = new Map<number, number>()
    for (const row of rows) {
      const state = current.get(row.endpoint)
      if (state === undefined) continue
      counts.set(row.endpoint, (counts.get(row.endpoint) ?? 0) + 1)
      if (add(state, row) === null) continue
      this.#queuedRows++
      this.#queuedCharacters += row.dataText.length
    }
    return counts
  }

  /** Of those that were read: the ones that nothing happened to in the meantime. */
  #stillWanted(states: readonly EndpointState[], generations: readonly number[]): Map<number, EndpointState> {
    const { served } = this.#o
    const same = states.filter(
      (state, index) =>
        served.states.get(state.no) === state && state.readGeneration === generations[index] && !state.draining,
    )
    return new Map(same.map((state) => [state.no, state]))
  }
}
