import { laneOf } from '../lanes/lane-number.ts'
import type { OpenWork } from '../lanes/lane-progress.ts'
import type { DeliveryRow, RetryRow } from './delivery-reader.ts'
import { RETRIES_FROM_START } from './delivery-reader.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import { EndpointPace } from './endpoint-pace.ts'
import { FifoOrder } from './fifo-order.ts'
import { Queue } from './queue.ts'
import { NO_EVENT, WakeMarks } from './wake-marks.ts'

/** One delivery in memory, between being read and its attempt being recorded. */
export interface DeliveryItem {
  endpoint: EndpointState
  /** The delivery's uuid. */
  id: string
  seq: number
  eventId: string
  type: string
  dataText: string
  occurredAtMs: number
  envelope: 0 | 1
  /** The number of the next attempt, from 1. */
  number: number
  /** Step of the retry schedule that the next attempt uses; null for a manual one, which uses none. */
  step: number | null
  /** The key of the `retries` row that this came from. */
  retryStep: number | null
  /** Its attempt is recorded, or it is left to a `retries` or `backlogs` row. */
  recorded: boolean
  /** The first secret of an overlap was refused: use this one. Null: use what the endpoint accepted last. */
  usePrevious: boolean | null
  /** Send on a connection of its own: the kept-alive one was gone. */
  freshConnection: boolean
  /** Somebody asked for this attempt; null for what is sent by itself. */
  manual: ManualRequest | null
}

/** An attempt that somebody asked for. Where the delivery had none, it is its first one, ahead of its turn; else it uses no step. */
export interface ManualRequest {
  /** How many attempts there were when it was asked for. */
  attempts: number
  /** The schedule has another attempt for it; when, in wall-clock ms. */
  retryAtMs: number | null
  /** Open until it is recorded, so that a crash repeats the request. */
  work: OpenWork
}

/**
 * One endpoint in the memory of its lane's owner: what was read and not yet sent, what is under way, and how far its work is
 * recorded. Only the owner has one, so none of this needs coordination.
 */
export class EndpointState {
  readonly no: number
  readonly lane: number
  config: EndpointConfig | null = null
  /** Deliveries are read through this sequence number, … */
  cursor: number
  /** … exist through this one, … */
  target: number
  /** … and may have been attempted by an earlier owner through this one. */
  checkThrough = 0
  /** Lower bound of the event ids of what is unread. */
  oldest: string
  readonly fresh = new Queue<DeliveryItem>()
  readonly retries = new Queue<DeliveryItem>()
  /** Fresh deliveries that were read and are not recorded yet, in order. */
  readonly #open = new Queue<DeliveryItem>()
  readonly #marks = new WakeMarks()
  readonly pace = new EndpointPace()
  // Most endpoints never need these collections, and there may be 50,000 endpoints: each is made when it is needed.
  /** Ids of retries that are queued or under way: they are still in the table and must not be read twice. */
  #retrying: Set<string> | null = null
  /** Ids of what is in `#open`, was given back to its row in `retries`, and ends as what is read from there. */
  #comesBack: Set<string> | null = null
  /** What somebody asked for and is under way, by delivery. */
  #manual: Map<string, DeliveryItem> | null = null
  /** Retries are read beyond this. Null: nothing of it that is due is unread, so the first that is heard of says where to begin. */
  retryKey: { afterDue: string; afterId: string } | null = null
  /** There may be due retries that were not read. */
  retriesWaiting = false
  readonly #order = new FifoOrder()
  inFlight = 0
  /** Outcomes that are not in the database yet. */
  unwritten = 0
  /** Its lane is being given up. */
  draining = false
  /** It is to begin again at its `backlogs` row, when nothing of it is under way. */
  rewinding = false
  #reading = false
  /** Attempts that were recorded during a read, by delivery: the read may still have found the retries that they used. */
  #settledMeanwhile: Map<string, number> | null = null
  /** Its `backlogs` row is being written. */
  noting = false
  /** What has waited too long is looked for next at this wall-clock ms. */
  expiryAtMs = 0
  /** Changes when what was read was forgotten: rows that were asked for before are of no use then. */
  readGeneration = 0
  /** Its secrets cannot be read with the keys of this process: it waits, nothing of it fails. */
  unreadable = false

  constructor(no: number, cursor: number, oldest: string) {
    this.no = no
    this.lane = laneOf(no)
    this.cursor = cursor
    this.target = cursor
    this.oldest = oldest
  }

  applyConfig(config: EndpointConfig, monotonicMs: number): void {
    const before = this.config
    this.config = config
    this.#order.applyConfig(config, before)
    this.pace.applyConfig(config, before, monotonicMs)
  }

  /** New deliveries through `last` exist; `work` is done when they are all recorded. */
  wake(last: number, oldest: string, work: OpenWork | null, monotonicMs: number): void {
    if (oldest < this.oldest || (!this.unread && this.#open.length === 0)) this.oldest = oldest
    this.target = Math.max(this.target, last)
    if (work !== null) this.#marks.add(last, oldest, work, monotonicMs)
  }

  get unread(): boolean {
    return this.cursor < this.target
  }

  /** Its deliveries or retries are being read. */
  get reading(): boolean {
    return this.#reading
  }

  set reading(reading: boolean) {
    this.#reading = reading
    this.#settledMeanwhile = null
  }

  /** A `backlogs` row stands for everything unrecorded, so that the lane's position may pass it. */
  get backlogged(): boolean {
    return this.#marks.isCovered
  }

  /** Its `backlogs` row stands for events from this one on, too. */
  covers(oldest: string): boolean {
    return this.#marks.covers(oldest)
  }

  /** Events that are older than what its `backlogs` row says have been committed since it was written. */
  get outgrewBacklog(): boolean {
    return this.backlogged && this.unread && !this.#marks.covers(this.oldest)
  }

  /** There are deliveries to be read that may be sent: of a fifo endpoint none while a retry holds them. */
  get wantsFresh(): boolean {
    return this.unread && !this.#order.isHeld
  }

  #hold(id: string): void {
    this.#retrying ??= new Set()
    this.#retrying.add(id)
  }

  get queued(): number {
    return this.fresh.length + this.retries.length
  }

  /** Of what is queued: what may be sent as far as order goes. */
  get sendable(): number {
    return this.#order.isHeld ? this.retries.length : this.queued
  }

  get serving(): boolean {
    return this.config?.state === 'active' && !this.draining && !this.unreadable && !this.rewinding
  }

  /** Null where it is under way already, because somebody asked for it. */
  addFresh(row: DeliveryRow): DeliveryItem | null {
    const manual = this.#manual?.get(row.id)
    const item = manual ?? this.#item(row, 1, 0, null)
    if (manual === undefined) this.fresh.push(item)
    this.#open.push(item)
    this.cursor = row.seq
    return manual === undefined ? item : null
  }

  addRetry(row: RetryRow): DeliveryItem | null {
    this.retryKey = { afterDue: row.due, afterId: row.id }
    if (this.#retrying?.has(row.id) || row.number <= (this.#settledMeanwhile?.get(row.id) ?? 0)) return null
    this.#hold(row.id)
    const item = this.#item(row, row.number, row.step, row.step)
    this.retries.push(item)
    return item
  }

  /** What is in memory of a delivery: queued, and taken out of its queue by this; or under way. Null: nothing. */
  takeOut(id: string): DeliveryItem | 'under way' | null {
    const queued = this.fresh.remove((item) => item.id === id) ?? this.retries.remove((item) => item.id === id)
    if (queued !== null) return queued
    if (this.#manual?.has(id) || this.#retrying?.has(id)) return 'under way'
    for (const item of this.#open) if (item.id === id && !item.recorded) return 'under way'
    return null
  }

  /**
   * Begins an attempt that somebody asked for. Rows of this delivery that are being read at this moment, or are read before it is
   * recorded, are not sent a second time.
   */
  beginManual(row: DeliveryRow, attempts: number, manual: ManualRequest): DeliveryItem {
    const first = attempts === 0 && manual.retryAtMs === null
    const item = { ...this.#item(row, attempts + 1, 0, null), step: first ? 0 : null, manual }
    this.#manual ??= new Map()
    this.#manual.set(row.id, item)
    if (manual.retryAtMs !== null) this.#hold(row.id)
    if (first) this.checkThrough = Math.max(this.checkThrough, row.seq)
    this.readGeneration++
    this.inFlight++
    return item
  }

  /** Recorded, or not sent at all. */
  endManual(item: DeliveryItem): void {
    this.#manual?.delete(item.id)
    this.#retrying?.delete(item.id)
    this.readGeneration++
  }

  #item(row: DeliveryRow, number: number, step: number, retryStep: number | null): DeliveryItem {
    return {
      endpoint: this,
      id: row.id,
      seq: row.seq,
      eventId: row.eventId,
      type: row.type,
      dataText: row.dataText,
      occurredAtMs: row.occurredAtMs,
      envelope: row.envelope,
      number,
      step,
      retryStep,
      recorded: false,
      usePrevious: null,
      freshConnection: false,
      manual: null,
    }
  }

  /** The next item to send, if one may be sent now. Retries go first: they are older. */
  take(nowMs: number, monotonicMs: number): DeliveryItem | null {
    if (!this.serving || !this.pace.allows(nowMs, this.inFlight)) return null
    // What became of the one before decides who is next.
    if (this.config?.fifo && this.unwritten > 0) return null
    if (this.sendable === 0) return null
    if (!this.pace.takeToken(monotonicMs)) return null
    const item = this.retries.shift() ?? this.fresh.shift()
    if (item === undefined) return null
    this.inFlight++
    return item
  }

  /** It was taken and not sent: it is the next one again. */
  putBack(item: DeliveryItem): void {
    if (item.retryStep === null) this.fresh.unshift(item)
    else this.retries.unshift(item)
  }

  /**
   * It has a row in `retries` and goes on in memory all the same: that row is not for reading. Of a fifo endpoint it holds what is
   * behind it, since it may yet have to be read from there.
   */
  holdRetry(item: DeliveryItem): void {
    this.#hold(item.id)
    if (this.config?.fifo) this.settleFifo(item, true)
  }

  /** Of a fifo endpoint: what fails holds what is behind it until it is final. */
  settleFifo(item: DeliveryItem, retries: boolean): void {
    if (retries) this.#order.hold(item.id)
    else this.#order.release(item.id)
  }

  /** Something of its own keeps it behind: failures, limits, order, or more work than its share of slots. */
  isImpeded(nowMs: number): boolean {
    const { breaker, notBeforeMs, bucket } = this.pace
    return (
      breaker.open ||
      nowMs < notBeforeMs ||
      bucket !== null ||
      this.config?.fifo === true ||
      this.pace.isFull(this.inFlight)
    )
  }

  /** In how many ms something that waits may be sent; null where time alone changes nothing. */
  waitMs(nowMs: number, monotonicMs: number): number | null {
    if (!this.serving || (this.sendable === 0 && !this.unread && !this.retriesWaiting)) return null
    return this.pace.waitMs(nowMs, monotonicMs, this.inFlight)
  }

  /** It answered in time: read further ahead and send more at once, up to `most`. */
  grow(most: number): void {
    this.pace.allowMore(this.inFlight, most)
    if (this.sendable === 0) this.pace.readFurther()
  }

  /** Its attempt and what follows from it are written. */
  settle(item: DeliveryItem): void {
    item.recorded = true
    if (this.#comesBack?.delete(item.id)) for (const open of this.#open) if (open.id === item.id) open.recorded = true
    this.#retrying?.delete(item.id)
    if (this.#reading) {
      this.#settledMeanwhile ??= new Map()
      this.#settledMeanwhile.set(item.id, item.number)
    }
    this.#advance()
  }

  #advance(): void {
    for (let head = this.#open.peek(); head?.recorded === true; head = this.#open.peek()) this.#open.shift()
    this.#marks.recorded(this.recordedThrough)
  }

  /** Nothing was found between cursor and `seq`: it is read through there. */
  readThrough(seq: number): void {
    this.cursor = Math.max(this.cursor, seq)
    this.#advance()
  }

  /** Of a fifo endpoint: the deliveries whose retries hold the ones behind them. */
  get holders(): string[] {
    return this.#order.holders
  }

  /** These hold nobody any more. */
  releaseHold(ids: readonly string[]): void {
    for (const id of ids) this.#order.release(id)
  }

  /** What is under way or queued: whoever ends what has waited too long leaves it alone. */
  get inHand(): string[] {
    return [...(this.#retrying ?? []), ...(this.#manual?.keys() ?? [])]
  }

  /** These have ended without a send, and everything unread through `seq` has. */
  ended(ids: readonly string[], seq: number): void {
    this.releaseHold(ids)
    this.readGeneration++
    this.readThrough(Math.min(seq, this.target))
  }

  get recordedThrough(): number {
    const head = this.#open.peek()
    return head === undefined ? this.cursor : head.seq - 1
  }

  /** Forgets what was read and not begun; it will be read again. What is under way goes on. */
  unreadQueued(): DeliveryItem[] {
    this.readGeneration++
    const dropped = [...this.retries]
    // What was read last and nothing that was begun: an item that was put back stays where it is.
    for (let item = this.fresh.last(); item !== undefined && item === this.#open.last(); item = this.fresh.last()) {
      this.fresh.pop()
      this.#open.pop()
      this.cursor = item.seq - 1
      dropped.push(item)
    }
    const open = this.retries.length > 0 ? new Set(this.#open) : null
    for (const item of this.retries) {
      this.#retrying?.delete(item.id)
      // It was to be sent again at once, and was not: its row in `retries` brings it back, as another item.
      if (open?.has(item)) this.#comesBack = (this.#comesBack ?? new Set()).add(item.id)
    }
    if (this.retries.length > 0) this.retriesWaiting = true
    this.retries.clear()
    this.retryKey = RETRIES_FROM_START
    return dropped
  }

  /** Something of it was begun and is not recorded. */
  get underWay(): boolean {
    return this.inFlight > 0 || this.unwritten > 0
  }

  /**
   * Begins at a `backlogs` row, which stands for everything beyond its cursor. Only while nothing is under way. Answers what was
   * queued: `unreadQueued` leaves what lies before something that was begun out of its turn.
   */
  rewind(cursor: number, oldest: string): DeliveryItem[] {
    this.rewinding = false
    const dropped = this.unreadQueued().concat([...this.fresh])
    this.fresh.clear()
    this.#open.clear()
    if (!this.unread || oldest < this.oldest) this.oldest = oldest
    this.cursor = cursor
    this.coverMarks(oldest)
    return dropped
  }

  /** The age of the oldest wake-up whose work is not recorded, in ms; 0 without one. */
  behindMs(monotonicMs: number): number {
    return this.#marks.ageMs(monotonicMs)
  }

  /** A `backlogs` row stands for everything unrecorded, of events from `oldest` on: the lane's position may pass that. */
  coverMarks(oldest = NO_EVENT): void {
    this.#marks.cover(oldest)
  }

  /** Its `backlogs` row is gone. */
  uncoverMarks(): void {
    this.#marks.uncover()
  }

  /** It is as when it was made: forgetting it and making it anew is the same. */
  get learntNothing(): boolean {
    return (
      this.pace.learntNothing &&
      !this.backlogged &&
      !this.unreadable &&
      // That it has recovered is still to be written.
      (this.config?.health.failingSinceMs ?? null) === null &&
      (this.config?.health.backoffUntilMs ?? null) === null
    )
  }

  /** Nothing of it is unread, queued, under way or unrecorded. */
  get idle(): boolean {
    return (
      !this.unread &&
      !this.retriesWaiting &&
      !this.reading &&
      !this.noting &&
      this.queued === 0 &&
      this.inFlight === 0 &&
      this.unwritten === 0 &&
      this.#open.length === 0
    )
  }
}
