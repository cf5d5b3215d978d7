import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import { LookPace } from '../dispatch/look-pace.ts'
import { laneOf } from '../lanes/lane-number.ts'
import type { OpenWork } from '../lanes/lane-progress.ts'
import type { TakenLane } from '../lanes/lane-store.ts'
import type { Logger } from '../logger.ts'
import { RETRIES_FROM_START } from './delivery-reader.ts'
import { DueRetryFinder } from './due-retry-finder.ts'
import { type EndpointConfigs, EndpointUnreadable } from './endpoint-config.ts'
import type { ReadAhead } from './read-ahead.ts'
import type { WrittenRetry } from './recorder.ts'
import type { ServedLanes } from './served-lanes.ts'
import { NO_EVENT } from './wake-marks.ts'
import type { BacklogRow, LaneCommand, WakePage, WakeReader } from './wake-reader.ts'

export interface LaneFollowerOptions {
  served: ServedLanes
  wakes: WakeReader
  configs: EndpointConfigs
  readAhead: ReadAhead
  clock: Clock
  loops: Loops
  logger: Logger
  /** Pause between looks for wake-ups while nothing happens, in ms. */
  idlePollMs: number
  /** The database is in another life than when the first lanes were taken: nothing of what is in memory is true. */
  onOtherLife(): void
  /** A delivery is to be tried again; `work` is to be done when it is recorded. */
  onRetry(command: LaneCommand, work: OpenWork): void
}

const PAGES_PER_READ = 4
/** Endpoints that wait to be read, beyond which no further page is looked at. */
const MOST_WAITING = 1_000
const BUSY_PAUSE_MS = 20

/** Follows the log of dispatches for the lanes that are served: who has new deliveries, and which commands there are. */
export class LaneFollower {
  readonly #o: LaneFollowerOptions
  readonly #due: DueRetryFinder
  #loop: BackgroundLoop | null = null
  #newest = { n: 0, at: Number.NEGATIVE_INFINITY }
  readonly #pace = new LookPace()
  /** Pages are applied, and lanes adopted, one after the other. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: LaneFollowerOptions) {
    this.#o = options
    this.#due = new DueRetryFinder(options.wakes, options.loops)
  }

  start(): void {
    const { loops, logger } = this.#o
    this.#loop = loops.start({ name: 'reading wake-ups', logger, step: () => this.#inTurn(() => this.#follow()) })
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
    for (const retry of retries) {
      // It may also lie behind what was read of this endpoint: a record that took longer than the pause that it asks for.
      if (this.#due.isBehind(retry)) this.#hasRetries(retry.endpoint)
    }
  }

  /** Takes lanes into service: what was behind, what was not recorded at their positions, and their due retries. */
  adopt(taken: readonly TakenLane[]): Promise<void> {
    return this.#inTurn(async () => {
      const { served, wakes } = this.#o
      const newest = await wakes.newest()
      served.readN ??= newest.n
      if (served.life === null) this.#due.life = null
      served.life ??= newest.life
      const readN = served.readN
      const lanes = taken.map(({ lane }) => lane)
      const backlogs = await wakes.backlogs({ lanes })
      for (const { lane, position } of taken) served.addLane(lane, position, newest.seq)
      try {
        const seqs = await wakes.seqAt(lanes.map((lane) => this.#readThrough(lane)))
        for (const backlog of backlogs) {
          const { endpoint } = backlog
          if (this.#openBacklog(backlog, seqs.get(this.#readThrough(laneOf(endpoint)))!)) continue
          // Something of it that was asked for by hand has begun meanwhile: it is looked at again, as after a resume.
          this.#resume.add(endpoint)
          this.#stale.add(endpoint)
        }
        const adopted = new Set(lanes)
        let from = Math.min(...taken.map(({ position }) => position))
        while (from < readN) {
          const pages = (await wakes.pages(from, PAGES_PER_READ)).filter((page) => page.n <= readN)
          for (const page of pages) {
            this.#takeCommands(page, adopted)
            this.#apply(page, adopted)
          }
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

  /** The newest row of `dispatches`, seen by a look of this process's dispatcher that has just ended. */
  sawNewest(n: number): void {
    this.#newest = { n, at: this.#o.clock.monotonic() }
    if (n > (this.#o.served.readN ?? n)) this.wake()
  }

  /** The dispatcher of this process has looked within three pauses of ours (a busy machine makes pauses longer), and there was nothing. */
  #isCurrent(readN: number): boolean {
    const { n, at } = this.#newest
    return n <= readN && this.#o.clock.monotonic() - at <= 3 * this.#o.idlePollMs
  }

  async #follow(): Promise<number> {
    const { served, readAhead, idlePollMs, loops } = this.#o
    if (served.readN === null) return idlePollMs
    const epoch = served.epoch
    // Enough to read as it is: who comes later waits in the log, where it takes no memory.
    const busy = readAhead.waiting > MOST_WAITING
    const full = busy || (!this.#isCurrent(served.readN) && (await this.#readPages(served.readN)))
    const due = await this.#due.next()
    if (epoch !== served.epoch || this.#isOtherLife(this.#due.life)) return idlePollMs
    // What was read before lies in the future of such a clock, and what is written now before it.
    if (this.#due.wentBack) for (const state of served.states.values()) state.retryKey = RETRIES_FROM_START
    for (const [endpoint, first] of due) this.#hasRetries(endpoint, first)
    await this.#refresh()
    if (busy) return BUSY_PAUSE_MS
    if (full || this.#due.more) return 0
    return this.#pace.pauseMs(loops.monotonic(), idlePollMs)
  }

  /** Answers whether there may be more. */
  async #readPages(after: number): Promise<boolean> {
    const { served, wakes } = this.#o
    const epoch = served.epoch
    const pages = await wakes.pages(after, PAGES_PER_READ)
    if (epoch !== served.epoch) return true
    if (pages.length > 0) this.#pace.found(this.#o.loops.monotonic())
    for (const page of pages) {
      if (this.#isOtherLife(page.life)) return false
      // Commands first: what was held comes before what the same page brings.
      if (this.#takeCommands(page, null)) await this.#refresh()
      if (epoch !== served.epoch) return true
      this.#apply(page, null)
      served.readN = page.n
    }
    return pages.length >= PAGES_PER_READ
  }

  /** Asked of what was written, or read, since the lanes were taken. */
  #isOtherLife(life: string | null): boolean {
    const { served } = this.#o
    if (life === null || served.life === null || life === served.life) return false
    this.#o.onOtherLife()
    return true
  }

  /** `first`: when the first was due, where none that is due earlier can be unread. */
  #hasRetries(endpoint: number, first: string | null = null): void {
    const { served, readAhead } = this.#o
    if (served.lanes.get(laneOf(endpoint))?.frozen !== false) return
    // Opened at sequence number 1: none of its deliveries is unread until a page says so.
    const state = served.open(endpoint, 1, NO_EVENT)
    // From there on, and not through those that are over: their rows are dead and, beside an old transaction, still there.
    if (first === null) state.retryKey = RETRIES_FROM_START
    else state.retryKey ??= { afterDue: first, afterId: NO_EVENT }
    readAhead.hasRetries(state)
  }

  /** The row of `dispatches` through which a lane's work is known: later ones are still to come to `#apply`. */
  #readThrough(lane: number): number {
    const { lanes, readN } = this.#o.served
    return Math.max(readN ?? 0, lanes.get(lane)?.from ?? 0)
  }

  /**
   * Serves an endpoint from its `backlogs` row, through the sequence number that the rows read so far go to. Not further: what
   * comes with later rows would be read twice if the endpoint were forgotten in between. False while something of it is
   * under way, whose end has to be waited for.
   */
  #openBacklog({ endpoint, cursor, oldest }: BacklogRow, throughSeq: number): boolean {
    const { served, readAhead } = this.#o
    const state = served.open(endpoint, cursor + 1, oldest)
    // One that was not forgotten meanwhile knows more exactly where it stands; but while it was held, some may have expired.
    if (state.backlogged) {
      state.checkThrough = Math.max(state.checkThrough, throughSeq)
      return true
    }
    readAhead.unread(state)
    if (state.underWay) {
      state.rewinding = true
      return false
    }
    const { target } = state
    readAhead.rewind(state, cursor, oldest)
    state.checkThrough = Math.max(
      state.checkThrough,
      served.lanes.get(state.lane)?.checkThrough ?? 0,
      throughSeq,
      target,
    )
    state.wake(Math.max(throughSeq, target), oldest, null, 0)
    readAhead.hasRetries(state)
    return true
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
      state.wake(page.lasts[index]!, page.oldest!, state.covers(page.oldest!) ? null : lane.open(page.n), now)
      this.#o.readAhead.feed(state)
    }
  }

  /** Answers whether one of them resumes an endpoint. */
  #takeCommands(page: WakePage, only: ReadonlySet<number> | null): boolean {
    const { served } = this.#o
    let resumes = false
    for (const command of page.commands) {
      const number = laneOf(command.endpoint)
      const lane = served.lanes.get(number)
      if (lane === undefined || (only !== null && !only.has(number))) continue
      if (command.kind !== 'retry') this.#command(command)
      else if (!lane.frozen && page.n > lane.from) this.#o.onRetry(command, lane.open(page.n))
      resumes ||= command.kind === 'resume'
    }
    return resumes
  }

  #command(command: LaneCommand): void {
    const { served } = this.#o
    served.configChanged(command.endpoint)
    if (command.kind === 'resume') this.#resume.add(command.endpoint)
    const state = served.states.get(command.endpoint)
    // What was read may be gone: it is read again, as far as it is there.
    if (command.kind === 'erased' && state !== undefined) {
      this.#o.readAhead.unread(state)
      this.#o.readAhead.feed(state)
    }
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
    const held = new Map(endpoints.map((endpoint) => [endpoint, served.states.get(endpoint)?.holders ?? []]))
    const loaded = await configs.load(endpoints)
    for (const endpoint of resumed) {
      const [row] = await wakes.backlogs({ endpoint })
      const n = this.#readThrough(laneOf(endpoint))
      const seqs = await wakes.seqAt([n])
      // Lost meanwhile: its next owner finds the row.
      if (served.lanes.get(laneOf(endpoint))?.frozen !== false) this.#resume.delete(endpoint)
      else if (row === undefined || this.#openBacklog(row, seqs.get(n)!)) {
        this.#resume.delete(endpoint)
        this.#hasRetries(endpoint)
      }
    }
    for (const endpoint of endpoints) {
      // What is still to be resumed is looked at again.
      if (!this.#resume.has(endpoint)) this.#stale.delete(endpoint)
      const state = served.states.get(endpoint)
      const config = loaded.get(endpoint)
      if (state === undefined) {
        // Forgotten while this was read: with it, what was true before was kept.
        served.dropConfig(endpoint)
        continue
      }
      if (config === undefined) {
        this.#o.readAhead.vanished(state)
        continue
      }
      // A delivery that waited for a retry and was erased holds nobody any more.
      if (!(config instanceof EndpointUnreadable)) {
        state.releaseHold(held.get(endpoint)!.filter((id) => !config.openRetries.includes(id)))
      }
      this.#o.readAhead.configure(state, config, clock.monotonic())
    }
  }
}
