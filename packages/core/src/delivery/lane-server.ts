import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import { toPublicId } from '../ids.ts'
import type { LaneHolder } from '../lanes/lane-keeper.ts'
import type { TakenLane } from '../lanes/lane-store.ts'
import type { Lifecycle } from '../lifecycle/events.ts'
import { errorFields, type Logger } from '../logger.ts'
import type { Sql } from '../storage/connection.ts'
import type { Attempt, AttemptDependencies } from './attempt.ts'
import { AttemptFollowUp } from './attempt-follow-up.ts'
import type { DeliveryExpirer } from './delivery-expirer.ts'
import { createDeliveryReader } from './delivery-reader.ts'
import type { EndpointConfigs } from './endpoint-config.ts'
import type { DeliveryItem } from './endpoint-state.ts'
import { EndpointUpkeep } from './endpoint-upkeep.ts'
import { createEndpointWriter } from './endpoint-writer.ts'
import { LaneFollower } from './lane-follower.ts'
import { ManualRetries } from './manual-retries.ts'
import { ReadAhead } from './read-ahead.ts'
import { createRecorder } from './recorder.ts'
import { ResultWriter } from './result-writer.ts'
import type { RetrySchedule } from './retry-schedule.ts'
import { Sender } from './sender.ts'
import { ServedLanes } from './served-lanes.ts'
import { WaitingExpiry } from './waiting-expiry.ts'
import { createWakeReader } from './wake-reader.ts'

export interface LaneServerOptions {
  sql: Sql
  schema: string
  configs: EndpointConfigs
  schedule: RetrySchedule
  expirer: DeliveryExpirer
  attempt: Omit<AttemptDependencies, 'mayStart'>
  clock: Clock
  loops: Loops
  logger: Logger
  lifecycle: Lifecycle
  /** Sends under way at once in this process. */
  concurrency: number
  /** Sends to one endpoint at once, where it sets no limit of its own. */
  endpointConcurrency: number
  idlePollMs: number
  /** From the lane keeper. */
  token(): number
  leaseCovers(ms: number): boolean
  onFenced(): void
  /** A command row was written: dispatch it soon. */
  nudge(): void
}

const UPKEEP_EVERY_MS = 1_000
const STUCK_AFTER_MS = 5_000

/** Serves the endpoints of the lanes that this worker owns: read, send, judge, record. Wiring only. */
export class LaneServer implements LaneHolder {
  readonly #o: LaneServerOptions
  readonly #served: ServedLanes
  readonly #readAhead: ReadAhead
  readonly #follower: LaneFollower
  readonly #sender: Sender
  readonly #writer: ResultWriter
  readonly #upkeep: EndpointUpkeep
  readonly #expiry: WaitingExpiry
  readonly #followUp: AttemptFollowUp
  readonly #manual: ManualRetries
  #upkeepLoop: BackgroundLoop | null = null
  #stuckTimer: NodeJS.Timeout | null = null
  /** Lanes that are being given up, and who waits for each to be empty. */
  readonly #draining = new Map<number, () => void>()

  constructor(options: LaneServerOptions) {
    this.#o = options
    this.#served = new ServedLanes(options.clock)
    const { sql, schema, clock, loops, logger, lifecycle } = options
    const endpointWriter = createEndpointWriter(sql, schema)
    const covers = () => options.leaseCovers(options.attempt.deadlineMs)
    const reader = createDeliveryReader(sql, schema)
    this.#readAhead = new ReadAhead({
      served: this.#served,
      reader,
      configs: options.configs,
      clock,
      loops,
      logger,
      onReady: (state) => this.#sender.ready(state),
      hasEnough: () => this.#sender.hasEnough,
      onUnreadable: ({ id, account, cause }) => {
        const endpointId = toPublicId('ep', id)
        logger.error('posthaste: an endpoint is paused, its secrets cannot be read', {
          endpoint: endpointId,
          ...errorFields(cause),
        })
        lifecycle.raise('endpoint.unreadable', { account, endpointId })
      },
      // What waits is noted at once, so that its lane's position moves on.
      onConfig: (state) => {
        if (!state.serving) this.#upkeepLoop?.wake()
      },
    })
    this.#follower = new LaneFollower({
      served: this.#served,
      wakes: createWakeReader(sql, schema),
      configs: options.configs,
      readAhead: this.#readAhead,
      clock,
      loops,
      logger,
      idlePollMs: options.idlePollMs,
      onOtherLife: options.onFenced,
      onRetry: (command, work) => this.#manual.ask(command, work),
    })
    this.#manual = new ManualRetries({
      served: this.#served,
      reader,
      configs: options.configs,
      readAhead: this.#readAhead,
      clock,
      loops,
      logger,
      mayStart: () => covers() && !this.#writer.full,
      send: (item) => this.#sender.send(item),
    })
    this.#writer = new ResultWriter({
      recorder: createRecorder(sql, schema),
      token: options.token,
      keepResponses: options.attempt.keepResponses,
      loops,
      logger,
      onWritten: (outcomes, retries) => {
        for (const { item, attempt } of outcomes) this.#manual.recorded(item, attempt.number)
        this.#followUp.written(outcomes)
        this.#follower.noteRetries(retries)
        this.#checkDrained()
      },
      onFenced: options.onFenced,
    })
    this.#sender = new Sender({
      attempt: { ...options.attempt, mayStart: covers },
      clock,
      loops,
      logger,
      concurrency: options.concurrency,
      mayStart: covers,
      blocked: () => this.#writer.full,
      onTaken: (state, item) => this.#readAhead.left(state, item.dataText.length),
      onAttempt: (item, attempt) => this.#onAttempt(item, attempt),
      onSlow: (state) => {
        state.pace.stall()
        this.#readAhead.unread(state)
      },
    })
    this.#upkeep = new EndpointUpkeep({
      served: this.#served,
      writer: endpointWriter,
      clock,
      token: options.token,
      onFenced: options.onFenced,
      onUnreadable: (endpoint) => this.#follower.refresh(endpoint),
    })
    this.#expiry = new WaitingExpiry({
      served: this.#served,
      expirer: options.expirer,
      clock,
      token: options.token,
      onFenced: options.onFenced,
      feed: (state) => this.#readAhead.feed(state),
    })
    this.#followUp = new AttemptFollowUp({
      schedule: options.schedule,
      clock,
      logger,
      lifecycle,
      endpointWriter,
      endpointConcurrency: options.endpointConcurrency,
      token: options.token,
      onFenced: options.onFenced,
      nudge: options.nudge,
      record: (outcome) => this.#writer.add(outcome),
      sendAgain: (item) => this.#sender.send(item),
      giveBack: (state) => {
        this.#readAhead.unread(state)
        this.#readAhead.feed(state)
      },
      putBack: (item) => (item.manual === null ? this.#readAhead.returned(item) : this.#manual.notSent(item)),
      manualWritten: (item, succeeded) => this.#manual.written(item, succeeded),
      refresh: (endpoint) => this.#follower.refresh(endpoint),
      ready: (state) => this.#sender.ready(state),
      feed: (state) => {
        if (state.sendable === 0) this.#readAhead.feed(state)
      },
      forget: (state) => this.#served.forget(state),
      readRetries: (state) => this.#readAhead.rereadRetries(state),
    })
  }

  start(): void {
    this.#readAhead.start()
    this.#follower.start()
    this.#manual.start()
    this.#sender.start()
    this.#upkeepLoop = this.#o.loops.start({
      name: 'endpoint upkeep',
      logger: this.#o.logger,
      step: async () => {
        await this.#upkeep.run()
        await this.#expiry.run()
        this.#checkDrained()
        return UPKEEP_EVERY_MS
      },
    })
  }

  /**
   * Before the lanes are released. What is under way may end and be recorded; a database that does not take the records is not
   * waited for longer than `STUCK_AFTER_MS`, and whoever serves the lanes next sends those deliveries once more.
   */
  beginStop(): void {
    const { clock, logger } = this.#o
    let since = clock.monotonic()
    this.#stuckTimer ??= setInterval(() => {
      if (this.#sender.inFlight > 0 || !this.#writer.busy) since = clock.monotonic()
      if (clock.monotonic() - since < STUCK_AFTER_MS) return
      logger.warn('posthaste: the last attempts could not be recorded before the end; they will be made again')
      this.abandon()
    }, 100)
  }

  /** After all lanes were released. */
  async stop(): Promise<void> {
    await Promise.all([
      this.#follower.stop(),
      this.#manual.stop(),
      this.#readAhead.stop(),
      this.#sender.stop(),
      this.#upkeepLoop?.stop(),
    ])
    await this.#writer.flushed()
    if (this.#stuckTimer !== null) clearInterval(this.#stuckTimer)
  }

  /** The dispatcher of this process has committed something. */
  wake(): void {
    this.#follower.wake()
  }

  /** The newest row of `dispatches`, as the dispatcher of this process has just seen it. */
  sawNewest(n: number): void {
    this.#follower.sawNewest(n)
  }

  get inFlight(): number {
    return this.#sender.inFlight
  }

  /** Resolves when nothing is under way or unwritten at this moment. Answers whether anything was. */
  async atRest(): Promise<boolean> {
    let busy = false
    while (this.#sender.inFlight > 0 || this.#writer.busy || this.#followUp.busy) {
      busy = true
      await this.#sender.landed()
      await this.#writer.flushed()
      await this.#followUp.flushed()
    }
    return busy
  }

  async adopt(lanes: readonly TakenLane[]): Promise<void> {
    await this.#follower.adopt(lanes)
  }

  async release(lane: number): Promise<number> {
    this.#served.lanes.get(lane)?.freeze(this.#served.readN ?? 0)
    for (const state of this.#served.inLane(lane)) {
      state.draining = true
      this.#readAhead.unread(state)
    }
    const epoch = this.#served.epoch
    await new Promise<void>((resolve) => {
      this.#draining.set(lane, resolve)
      this.#checkDrained()
    })
    // A failure to write it is no reason to keep the lane.
    await this.#upkeep.handOver(this.#served.inLane(lane)).catch((error: unknown) => {
      this.#o.logger.warn('posthaste: what is known of endpoints could not be handed over', errorFields(error))
    })
    const position = epoch === this.#served.epoch ? this.#position(lane) : 0
    if (epoch === this.#served.epoch) this.#served.removeLane(lane)
    return position
  }

  positions(): { lanes: number[]; positions: number[] } {
    const lanes = [...this.#served.lanes.keys()]
    return { lanes, positions: lanes.map((lane) => this.#position(lane)) }
  }

  abandon(): void {
    this.#served.clear()
    this.#readAhead.clear()
    this.#manual.clear()
    this.#sender.clear()
    this.#writer.clear()
    this.#upkeep.clear()
    for (const resolve of this.#draining.values()) resolve()
    this.#draining.clear()
  }

  #position(lane: number): number {
    return this.#served.lanes.get(lane)?.position(this.#served.readN ?? 0) ?? 0
  }

  #onAttempt(item: DeliveryItem, attempt: Attempt): void {
    try {
      this.#followUp.finished(item, attempt)
    } catch (error) {
      // A defect of ours: the delivery is left to the database, where its attempt is missing and it will be made again.
      this.#o.logger.error('posthaste: an attempt could not be judged', errorFields(error))
      item.endpoint.inFlight--
    }
    this.#sender.pump()
  }

  /** A lane is empty when nothing of it is under way and everything that was is written. */
  #checkDrained(): void {
    for (const [lane, resolve] of this.#draining) {
      const busy = this.#served.inLane(lane).some((state) => state.inFlight > 0 || state.unwritten > 0)
      if (busy) continue
      this.#draining.delete(lane)
      resolve()
    }
  }
}
