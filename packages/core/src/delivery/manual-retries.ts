import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import { laneOf } from '../lanes/lane-number.ts'
import type { OpenWork } from '../lanes/lane-progress.ts'
import type { Logger } from '../logger.ts'
import type { AskedRow, DeliveryReader } from './delivery-reader.ts'
import type { EndpointConfigs } from './endpoint-config.ts'
import type { DeliveryItem, EndpointState } from './endpoint-state.ts'
import type { ReadAhead } from './read-ahead.ts'
import type { ServedLanes } from './served-lanes.ts'
import { NO_EVENT } from './wake-marks.ts'
import type { LaneCommand } from './wake-reader.ts'

export interface ManualRetriesOptions {
  served: ServedLanes
  reader: DeliveryReader
  configs: EndpointConfigs
  readAhead: ReadAhead
  clock: Clock
  loops: Loops
  logger: Logger
  /** Whether a send that begins now ends within the lease, and its outcome can be written. */
  mayStart(): boolean
  send(item: DeliveryItem): void
}

interface Asked {
  endpoint: number
  delivery: string
  /** How many attempts there were when it was asked for: with more of them it is satisfied. */
  attempts: number
  work: OpenWork
}

/** Under way at once: single deliveries are retried by hand, many by a replay. */
const MOST_UNDER_WAY = 50
const MOST_UNDER_WAY_PER_ENDPOINT = 10
const PAUSE_MS = 250
const ASLEEP_MS = 1_000

/**
 * Sends what somebody asked to be tried again: at once, past back-off, `Retry-After`, rate limit and order. The page that asked
 * stays open until it is recorded, so a crash repeats the request; the number of attempts that it names makes a repetition harmless.
 */
export class ManualRetries {
  readonly #o: ManualRetriesOptions
  #waiting: Asked[] = []
  /** Of each delivery that is being read: the attempt that was recorded meanwhile, or 0. The read may not have seen it. */
  #recordedMeanwhile: Map<string, number> | null = null
  readonly #underWay = new Map<DeliveryItem, Asked>()
  #loop: BackgroundLoop | null = null

  constructor(options: ManualRetriesOptions) {
    this.#o = options
  }

  start(): void {
    const { loops, logger } = this.#o
    this.#loop = loops.start({ name: 'manual retries', logger, step: () => this.#step() })
  }

  async stop(): Promise<void> {
    await this.#loop?.stop()
  }

  /** Fenced: whoever serves the lane next finds the requests. */
  clear(): void {
    this.#waiting = []
    this.#underWay.clear()
  }

  ask({ endpoint, payload }: LaneCommand, work: OpenWork): void {
    const { delivery, attempts } = JSON.parse(payload ?? '{}') as { delivery: string; attempts: number }
    this.#waiting.push({ endpoint, delivery, attempts, work })
    this.#loop?.wake()
  }

  /** An attempt is recorded, whoever wanted it. */
  recorded({ id }: DeliveryItem, number: number): void {
    if (this.#recordedMeanwhile?.has(id)) this.#recordedMeanwhile.set(id, number)
  }

  /** Its attempt and what follows from it are written. */
  written(item: DeliveryItem, succeeded: boolean): void {
    const { readAhead } = this.#o
    this.#underWay.delete(item)
    item.manual?.work.done()
    item.endpoint.endManual(item)
    if (item.manual?.retryAtMs != null && !succeeded) readAhead.rereadRetries(item.endpoint)
    readAhead.feed(item.endpoint)
    if (this.#waiting.length > 0) this.#loop?.wake()
  }

  /** The lease did not cover it: it is asked for as before. */
  notSent(item: DeliveryItem): void {
    const asked = this.#underWay.get(item)
    this.#underWay.delete(item)
    item.endpoint.endManual(item)
    // Its row in `retries` was passed over while this was under way: the schedule's, or the one that it was to be sent again from.
    if (item.manual?.retryAtMs != null || item.retryStep !== null) this.#o.readAhead.rereadRetries(item.endpoint)
    if (asked !== undefined) this.#waiting.push(asked)
  }

  async #step(): Promise<number> {
    const { served, reader, mayStart } = this.#o
    if (this.#waiting.length === 0) return ASLEEP_MS
    if (!mayStart()) return PAUSE_MS
    const chosen = this.#choose()
    if (chosen.length === 0) return ASLEEP_MS
    const { epoch } = served
    try {
      await this.#loadConfigs(chosen)
      const meanwhile = new Map(chosen.map(({ delivery }) => [delivery, 0]))
      this.#recordedMeanwhile = meanwhile
      const rows = new Map((await reader.readAsked(chosen.map(({ delivery }) => delivery))).map((row) => [row.id, row]))
      if (epoch !== served.epoch) return 0
      const later = chosen.filter((asked) => {
        const row = rows.get(asked.delivery)
        // It was read before its newest attempt was written, whose number would be used, and sent, a second time.
        const outdated = row !== undefined && row.attempts < (meanwhile.get(row.id) ?? 0)
        return outdated || !this.#begin(asked, row)
      })
      this.#waiting.push(...later)
      return later.length > 0 ? PAUSE_MS : 0
    } catch (error) {
      if (epoch === served.epoch) this.#waiting.unshift(...chosen)
      throw error
    } finally {
      this.#recordedMeanwhile = null
    }
  }

  /** Takes the next ones from those that wait, no more than may be under way. */
  #choose(): Asked[] {
    const counts = new Map<number, number>()
    const count = (endpoint: number) => counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1)
    for (const { endpoint } of this.#underWay.values()) count(endpoint)
    const chosen: Asked[] = []
    const left: Asked[] = []
    for (const asked of this.#waiting) {
      const room =
        this.#underWay.size + chosen.length < MOST_UNDER_WAY &&
        (counts.get(asked.endpoint) ?? 0) < MOST_UNDER_WAY_PER_ENDPOINT
      if (room) count(asked.endpoint)
      ;(room ? chosen : left).push(asked)
    }
    this.#waiting = left
    return chosen
  }

  async #loadConfigs(chosen: readonly Asked[]): Promise<void> {
    const { configs, readAhead, served, clock } = this.#o
    const unknown = new Set<number>()
    for (const { endpoint } of chosen) if (this.#stateOf(endpoint)?.config === null) unknown.add(endpoint)
    if (unknown.size === 0) return
    const watch = served.watchConfigs()
    try {
      for (const [endpoint, config] of await configs.load([...unknown])) {
        const state = this.#stateOf(endpoint)
        // Where it changed meanwhile, it is read once more.
        if (state === null || state.config !== null || watch.changed.has(endpoint)) continue
        readAhead.configure(state, config, clock.monotonic())
      }
    } finally {
      watch.end()
    }
  }

  /** Null where its lane is no longer ours to send for: its next owner finds the request. */
  #stateOf(endpoint: number): EndpointState | null {
    const { served } = this.#o
    if (served.lanes.get(laneOf(endpoint))?.frozen !== false) return null
    // Opened at sequence number 1: none of its deliveries is unread until a page says so.
    return served.open(endpoint, 1, NO_EVENT)
  }

  /** False: not yet. */
  #begin(asked: Asked, row: AskedRow | undefined): boolean {
    const { readAhead, clock, send } = this.#o
    const { work, attempts } = asked
    const state = this.#stateOf(asked.endpoint)
    if (state === null) return true
    if (state.config === null || state.rewinding || state.unreadable) return false
    // A newer attempt answers it; where one was to be repeated at once and was not, it is not answered yet.
    const answered = row === undefined || (row.attempts > attempts && !(row.unfinished && row.retryInMs === null))
    // Switched off or deleted since it was asked for: nothing may be sent there.
    if (answered || !state.serving) {
      work.done()
      return true
    }
    const queued = state.takeOut(row.id)
    if (queued === 'under way') {
      work.done()
      return true
    }
    if (queued !== null) readAhead.left(state, queued.dataText.length)
    if (queued?.retryStep === null) {
      // It was about to be sent for the first time: it goes ahead of the others.
      state.inFlight++
      work.done()
      send(queued)
      return true
    }
    const retryAtMs = row.retryInMs === null ? null : clock.now() + row.retryInMs
    const item = state.beginManual(row, row.attempts, { attempts, retryAtMs, work })
    this.#underWay.set(item, asked)
    send(item)
    return true
  }
}
