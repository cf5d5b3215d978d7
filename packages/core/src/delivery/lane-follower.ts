import { type BackgroundLoop, startLoop } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import { laneOf } from '../lanes/lane-number.ts'
import type { TakenLane } from '../lanes/lane-store.ts'
import type { Logger } from '../logger.ts'
import { DueRetryFinder } from './due-retry-finder.ts'
import type { EndpointConfigs } from './endpoint-config.ts'
import type { EndpointState } from './endpoint-state.ts'
import type { ReadAhead } from './read-ahead.ts'
import type { WrittenRetry } from './recorder.ts'
import type { ServedLanes } from './served-lanes.ts'
import type { LaneCommand, WakePage, WakeReader } from './wake-reader.ts'

export interface LaneFollowerOptions {
  served: ServedLanes
  wakes: WakeReader
  configs: EndpointConfigs
  readAhead: ReadAhead
  clock: Clock
  logger: Logger
  /** Pause between looks for wake-ups while nothing happens, in ms. */
  idlePollMs: number
}

const NO_EVENT = '00000000-0000-0000-0000-000000000000'
const PAGES_PER_READ = 200

/** Follows the log of dispatches for the lanes that are served: who has new deliveries, and which commands there are. */
export class LaneFollower {
  readonly #o: LaneFollowerOptions
  readonly #due: DueRetryFinder
  #loop: BackgroundLoop | null = null
  /** Pages are applied, and lanes adopted, one after the other. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: LaneFollowerOptions) {
    this.#o = options
    this.#due = new DueRetryFinder(options.wakes, options.clock)
  }

  start(): void {
    const { logger } = this.#o
    this.#loop = startLoop({ name: 'reading wake-ups', logger, step: () => this.#inTurn(() => this.#follow()) })
  }

  async stop(): Promise<void> {
    await this.#loop?.stop()
  }

  /** The dispatcher of this process has just committed. */
  wake(): void {
    this.#loop?.wake()
  }

  /** Retries that were just written: those already behind the look for due ones must not be missed. */
  noteRetries(retries: readonly WrittenRetry[]): void {
    for (const { endpoint, dueMs } of retries) {
      if (this.#due.isBehind(dueMs)) this.#hasRetries(endpoint)
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
          this.#hasRetries(endpoint)
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
      this.#hasRetries(retry.endpoint)
    }
    await this.#refresh()
    return pages.length >= PAGES_PER_READ || this.#due.more ? 0 : idlePollMs
  }

  #hasRetries(endpoint: number): void {
    const { served, readAhead } = this.#o
    if (served.lanes.get(laneOf(endpoint))?.frozen !== false) return
    // Opened at sequence number 1: none of its deliveries is unread until a page says so.
    readAhead.hasRetries(served.open(endpoint, 1, NO_EVENT))
  }

  #openBacklog(endpoint: number, cursor: number, oldest: string, newestSeq: number): EndpointState {
    const state = this.#o.served.open(endpoint, cursor + 1, oldest)
    state.cursor = Math.min(state.cursor, cursor)
    state.checkThrough = Math.max(state.checkThrough, newestSeq)
    state.backlogged = true
    state.wake(newestSeq, oldest, null, 0)
    this.#o.readAhead.hasRetries(state)
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
      this.#o.readAhead.feed(state)
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
      this.#loop?.wake()
    }
  }

  /** Reads this endpoint's configuration anew. */
  refresh(endpoint: number): void {
    this.#stale.add(endpoint)
    this.#loop?.wake()
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
        // One that was not forgotten meanwhile knows more exactly where it stands.
        if (served.states.get(endpoint)?.backlogged === true) continue
        this.#openBacklog(row.endpoint, row.cursor, row.oldest, newest!.seq)
      }
      this.#hasRetries(endpoint)
      this.#resume.delete(endpoint)
    }
    for (const endpoint of endpoints) {
      this.#stale.delete(endpoint)
      const state = served.states.get(endpoint)
      const config = loaded.get(endpoint)
      if (state === undefined || config === undefined) continue
      this.#o.readAhead.configure(state, config, clock.monotonic())
    }
  }
}
