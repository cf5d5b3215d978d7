import { type BackgroundLoop, startLoop } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import { laneOf } from '../lanes/lane-number.ts'
import type { TakenLane } from '../lanes/lane-store.ts'
import type { Logger } from '../logger.ts'
import { type DeliveryReader, RETRIES_FROM_START } from './delivery-reader.ts'
import { DueRetryFinder } from './due-retry-finder.ts'
import { type EndpointConfig, type EndpointConfigs, EndpointUnreadable } from './endpoint-config.ts'
import type { DeliveryItem, EndpointState } from './endpoint-state.ts'
import type { WrittenRetry } from './recorder.ts'
import type { ServedLanes } from './served-lanes.ts'
import type { LaneCommand, WakePage, WakeReader } from './wake-reader.ts'

const NO_EVENT = '00000000-0000-0000-0000-000000000000'

export interface FeederOptions {
  served: ServedLanes
  wakes: WakeReader
  reader: DeliveryReader
  configs: EndpointConfigs
  clock: Clock
  logger: Logger
  /** Pause between looks for wake-ups while nothing happens, in ms. */
  idlePollMs: number
  /** Something of this endpoint may be sendable now. */
  onReady(state: EndpointState): void
  /** A configuration was read anew. */
  onConfig(state: EndpointState): void
}

const PAGES_PER_READ = 200
const ENDPOINTS_PER_READ = 1_000
const ROWS_PER_READ = 2_000
const BYTES_PER_READ = 8_000_000
/** Bounds of what is read and not yet begun. */
const MOST_QUEUED_ROWS = 8_000
const MOST_QUEUED_CHARACTERS = 16_000_000

/** Follows the log of dispatches for the lanes that are served, and reads deliveries ahead of sending. */
export class Feeder {
  readonly #o: FeederOptions
  readonly #hungry = new Set<EndpointState>()
  readonly #due: DueRetryFinder
  #wakeLoop: BackgroundLoop | null = null
  #fillLoop: BackgroundLoop | null = null
  /** Pages are applied, and lanes adopted, one after the other. */
  #turn: Promise<unknown> = Promise.resolve()
  #queuedRows = 0
  #queuedCharacters = 0

  constructor(options: FeederOptions) {
    this.#o = options
    this.#due = new DueRetryFinder(options.wakes, options.clock)
  }

  start(): void {
    const { logger } = this.#o
    this.#wakeLoop = startLoop({ name: 'reading wake-ups', logger, step: () => this.#inTurn(() => this.#follow()) })
    this.#fillLoop = startLoop({ name: 'reading deliveries', logger, step: () => this.#fill() })
  }

  async stop(): Promise<void> {
    await Promise.all([this.#wakeLoop?.stop(), this.#fillLoop?.stop()])
  }

  /** The dispatcher of this process has just committed. */
  wake(): void {
    this.#wakeLoop?.wake()
  }

  clear(): void {
    this.#hungry.clear()
    this.#queuedRows = 0
    this.#queuedCharacters = 0
  }

  /** An item left the queue of what was read ahead. */
  left(state: EndpointState, characters: number): void {
    this.#queuedRows--
    this.#queuedCharacters -= characters
    if (state.queued * 2 <= state.readAhead) this.feed(state)
    if (this.#hungry.size > 0 && this.#queuedRows * 2 < MOST_QUEUED_ROWS) this.#fillLoop?.wake()
  }

  /** This endpoint may have something to read. */
  feed(state: EndpointState): void {
    if (this.#hungry.has(state) || state.reading || state.unreadable) return
    if (!state.unread && !state.retriesWaiting && state.config !== null) return
    this.#hungry.add(state)
    this.#fillLoop?.wake()
  }

  /** Retries that were just written: those already behind the look for due ones must not be missed. */
  noteRetries(retries: readonly WrittenRetry[]): void {
    for (const { endpoint, dueMs } of retries) {
      if (!this.#due.isBehind(dueMs)) continue
      const state = this.#o.served.states.get(endpoint)
      if (state !== undefined) this.#hasRetries(state)
      else this.#hasRetries(this.#o.served.open(endpoint, 1, NO_EVENT))
    }
  }

  /** Whatever is due of this endpoint, from the oldest. */
  rereadRetries(state: EndpointState): void {
    state.retryKey = RETRIES_FROM_START
    this.#hasRetries(state)
  }

  /** It was taken and not sent: it waits again. */
  returned(item: DeliveryItem): void {
    item.endpoint.putBack(item)
    this.#queuedRows++
    this.#queuedCharacters += item.dataText.length
  }

  /** Forgets what was read ahead of an endpoint. */
  unread(state: EndpointState): void {
    for (const item of state.unreadQueued()) {
      this.#queuedRows--
      this.#queuedCharacters -= item.dataText.length
    }
  }

  /** Takes lanes into service: what was behind, what was not recorded at their positions, and their due retries. */
  adopt(taken: readonly TakenLane[]): Promise<void> {
    return this.#inTurn(async () => {
      const { served, wakes } = this.#o
      const newest = await wakes.newest()
      served.readN ??= newest.n
      const readN = served.readN
      const lanes = taken.map(({ lane }) => lane)
      const backlogs = await wakes.backlogs({ lanes })
      for (const { lane, position } of taken) served.addLane(lane, position, newest.seq)
      try {
        for (const backlog of backlogs) this.#openBacklog(backlog.endpoint, backlog.cursor, backlog.oldest, newest.seq)
        const adopted = new Set(lanes)
        let from = Math.min(...taken.map(({ position }) => position))
        while (from < readN) {
          const pages = (await wakes.pages(from, PAGES_PER_READ)).filter((page) => page.n <= readN)
          for (const page of pages) this.#apply(page, adopted)
          from = pages.at(-1)?.n ?? readN
        }
        for (const endpoint of await this.#due.seenIn(lanes)) {
          this.#hasRetries(served.open(endpoint, newest.seq + 1, NO_EVENT))
        }
      } catch (error) {
        for (const lane of lanes) served.removeLane(lane)
        throw error
      }
    })
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#turn.then(work)
    this.#turn = next.catch(() => {})
    return next
  }

  async #follow(): Promise<number> {
    const { served, wakes, idlePollMs } = this.#o
    if (served.readN === null) return idlePollMs
    const epoch = served.epoch
    const pages = await wakes.pages(served.readN, PAGES_PER_READ)
    if (epoch !== served.epoch) return 0
    for (const page of pages) {
      this.#apply(page, null)
      served.readN = page.n
    }
    for (const retry of await this.#due.next()) {
      if (epoch !== served.epoch) return 0
      // Opened at sequence number 1: none of its deliveries is unread until a page says so.
      if (served.lanes.get(retry.lane)?.frozen === false) this.#hasRetries(served.open(retry.endpoint, 1, NO_EVENT))
    }
    return pages.length >= PAGES_PER_READ || this.#due.more ? 0 : idlePollMs
  }

  #hasRetries(state: EndpointState): void {
    state.retriesWaiting = true
    this.feed(state)
  }

  #openBacklog(endpoint: number, cursor: number, oldest: string, newestSeq: number): EndpointState {
    const state = this.#o.served.open(endpoint, cursor + 1, oldest)
    state.cursor = Math.min(state.cursor, cursor)
    state.checkThrough = Math.max(state.checkThrough, newestSeq)
    state.backlogged = true
    state.wake(newestSeq, oldest, null, 0)
    this.#hasRetries(state)
    return state
  }

  /** Notes whom a page wakes, in the lanes that are served (`only` some of them while these are being adopted). */
  #apply(page: WakePage, only: ReadonlySet<number> | null): void {
    const { served, clock } = this.#o
    const now = clock.monotonic()
    for (let index = 0; index < page.endpoints.length; index++) {
      const endpoint = page.endpoints[index]!
      const number = laneOf(endpoint)
      const lane = served.lanes.get(number)
      if (lane === undefined || lane.frozen || page.n <= lane.from || (only !== null && !only.has(number))) continue
      const state = served.open(endpoint, page.firsts[index]!, page.oldest!)
      if (!state.unread) state.readThrough(page.firsts[index]! - 1)
      state.checkThrough = Math.max(state.checkThrough, lane.checkThrough)
      state.wake(page.lasts[index]!, page.oldest!, state.backlogged ? null : lane.open(page.n), now)
      this.feed(state)
    }
    for (const command of page.commands) {
      const number = laneOf(command.endpoint)
      if (served.lanes.has(number) && (only === null || only.has(number))) this.#command(command)
    }
  }

  #command(command: LaneCommand): void {
    const { served } = this.#o
    served.dropConfig(command.endpoint)
    if (command.kind === 'resume') this.#resume.add(command.endpoint)
    const state = served.states.get(command.endpoint)
    if (state !== undefined || command.kind === 'resume') {
      this.#stale.add(command.endpoint)
      this.#fillLoop?.wake()
    }
  }

  /** Reads this endpoint's configuration anew. */
  refresh(endpoint: number): void {
    this.#stale.add(endpoint)
    this.#fillLoop?.wake()
  }

  /** Endpoints whose configuration is to be read anew, and those whose held deliveries go on. */
  readonly #stale = new Set<number>()
  readonly #resume = new Set<number>()

  async #refresh(): Promise<void> {
    if (this.#stale.size === 0) return
    const { served, configs, wakes, clock } = this.#o
    const endpoints = [...this.#stale]
    const resumed = endpoints.filter((endpoint) => this.#resume.has(endpoint))
    const newest = resumed.length > 0 ? await wakes.newest() : null
    const loaded = await configs.load(endpoints)
    for (const endpoint of resumed) {
      for (const row of await wakes.backlogs({ endpoint })) {
        const state = served.states.get(endpoint)
        if (state !== undefined) this.unread(state)
        this.#openBacklog(row.endpoint, row.cursor, row.oldest, newest!.seq)
      }
      this.#hasRetries(served.open(endpoint, newest!.seq + 1, NO_EVENT))
      this.#resume.delete(endpoint)
    }
    for (const endpoint of endpoints) {
      this.#stale.delete(endpoint)
      const state = served.states.get(endpoint)
      const config = loaded.get(endpoint)
      if (state === undefined || config === undefined) continue
      this.#configure(state, config, clock.monotonic())
    }
  }

  #configure(state: EndpointState, config: EndpointConfig | EndpointUnreadable, now: number): void {
    if (config instanceof EndpointUnreadable) {
      this.#o.logger.error('posthaste: an endpoint is paused, its secrets cannot be read', {
        endpoint: state.no,
        error: (config.cause as Error).message,
      })
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
  #vanished(state: EndpointState): void {
    this.unread(state)
    state.coverMarks()
    this.#o.served.states.delete(state.no)
  }

  /** Reads the next deliveries and due retries of the endpoints that have room for more, many in one query each. */
  async #fill(): Promise<number> {
    const { served, configs, clock } = this.#o
    await this.#refresh()
    if (
      this.#hungry.size === 0 ||
      this.#queuedRows >= MOST_QUEUED_ROWS ||
      this.#queuedCharacters >= MOST_QUEUED_CHARACTERS
    ) {
      return 1_000
    }
    const epoch = served.epoch
    const chosen: EndpointState[] = []
    for (const state of this.#hungry) {
      this.#hungry.delete(state)
      if (served.states.get(state.no) !== state || state.draining) continue
      if (state.config !== null && state.config.state !== 'active') continue
      state.reading = true
      chosen.push(state)
      if (chosen.length >= ENDPOINTS_PER_READ) break
    }
    if (chosen.length === 0) return this.#hungry.size > 0 ? 0 : 1_000
    try {
      const unknown = chosen.filter((state) => state.config === null)
      const [loaded] = await Promise.all([
        unknown.length > 0 ? configs.load(unknown.map((state) => state.no)) : null,
        this.#readFresh(chosen, epoch),
        this.#readRetries(chosen, epoch),
      ])
      if (epoch !== served.epoch) return 0
      for (const state of unknown) {
        const config = loaded?.get(state.no)
        if (config !== undefined) this.#configure(state, config, clock.monotonic())
        else this.#vanished(state)
      }
    } catch (error) {
      for (const state of chosen) this.#hungry.add(state)
      throw error
    } finally {
      for (const state of chosen) state.reading = false
    }
    for (const state of chosen) {
      this.#o.onReady(state)
      if (state.queued * 2 <= state.readAhead) this.feed(state)
    }
    return this.#hungry.size > 0 ? 0 : 1_000
  }

  async #readFresh(states: readonly EndpointState[], epoch: number): Promise<void> {
    const wanted = states.filter((state) => state.unread && state.fifoHeld.size === 0)
    if (wanted.length === 0) return
    const share = Math.max(1, Math.floor(ROWS_PER_READ / wanted.length))
    let oldest = wanted[0]!.oldest
    const requests = wanted.map((state) => {
      if (state.oldest < oldest) oldest = state.oldest
      return {
        endpoint: state.no,
        after: state.cursor,
        through: state.target,
        checkThrough: state.checkThrough,
        limit: state.breaker.open ? 1 : Math.min(share, Math.max(1, state.readAhead - state.fresh.length)),
      }
    })
    // A delivery's id begins with the milliseconds of its event's.
    const floor = `${oldest.slice(0, 13)}-0000-0000-000000000000`
    const generations = wanted.map((state) => state.readGeneration)
    const { rows, cut } = await this.#o.reader.read(requests, floor, BYTES_PER_READ)
    if (epoch !== this.#o.served.epoch) return
    const current = this.#stillWanted(wanted, generations)
    const counts = new Map<number, number>()
    for (const row of rows) {
      const state = current.get(row.endpoint)
      if (state === undefined) continue
      counts.set(row.endpoint, (counts.get(row.endpoint) ?? 0) + 1)
      state.addFresh(row)
      this.#queuedRows++
      this.#queuedCharacters += row.dataText.length
    }
    for (const [index, state] of wanted.entries()) {
      const request = requests[index]!
      if (current.get(state.no) !== state) continue
      if (!cut && (counts.get(state.no) ?? 0) < request.limit) state.readThrough(request.through)
    }
  }

  async #readRetries(states: readonly EndpointState[], epoch: number): Promise<void> {
    const wanted = states.filter((state) => state.retriesWaiting)
    if (wanted.length === 0) return
    const share = Math.max(1, Math.floor(ROWS_PER_READ / wanted.length))
    const requests = wanted.map((state) => ({
      endpoint: state.no,
      ...state.retryKey,
      limit: state.breaker.open ? 1 : Math.min(share, Math.max(1, state.readAhead - state.retries.length)),
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
    const counts = new Map<number, number>()
    for (const row of rows) {
      const state = current.get(row.endpoint)
      if (state === undefined) continue
      counts.set(row.endpoint, (counts.get(row.endpoint) ?? 0) + 1)
      if (state.addRetry(row) === null) continue
      this.#queuedRows++
      this.#queuedCharacters += row.dataText.length
    }
    for (const [index, state] of wanted.entries()) {
      const complete = current.get(state.no) === state && !cut && (counts.get(state.no) ?? 0) < requests[index]!.limit
      if (!complete) state.retriesWaiting = true
    }
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
