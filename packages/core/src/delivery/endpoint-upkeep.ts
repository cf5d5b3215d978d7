import type { Clock } from '../clock.ts'
import type { EndpointState } from './endpoint-state.ts'
import type { BacklogWrite, EndpointWriter, HealthWrite } from './endpoint-writer.ts'
import type { ServedLanes } from './served-lanes.ts'

export interface EndpointUpkeepOptions {
  served: ServedLanes
  writer: EndpointWriter
  clock: Clock
  token(): number
  onFenced(): void
  /** Its configuration could not be used: look again. */
  onUnreadable(endpoint: number): void
}

/** An endpoint whose oldest unrecorded work is this old gets a `backlogs` row, so that its lane's position moves on. */
const BEHIND_AFTER_MS = 3_000
const BEHIND_ANYWAY_MS = 30_000
/** A `backlogs` row's cursor follows in steps of this many deliveries: few updates, little to read again after a crash. */
const CURSOR_STEP = 5_000
/** Shorter rows of failures are not worth a write; a crash forgets at most this much of one. */
const FAILING_WORTH_WRITING_MS = 60_000
const UNREADABLE_AGAIN_MS = 30_000

/**
 * Once a second: notes who is behind and who has caught up, writes what changed of endpoints' health, and forgets endpoints
 * that have nothing left to do.
 */
export class EndpointUpkeep {
  readonly #o: EndpointUpkeepOptions
  /** Cursors as they stand in `backlogs`. */
  readonly #cursors = new Map<number, number>()
  readonly #health = new Map<number, string>()
  /** Endpoints whose row could not be removed: tried again. Until then it does no harm; what it stands for is looked at twice. */
  readonly #undropped = new Set<number>()
  #unreadableAt = 0

  constructor(options: EndpointUpkeepOptions) {
    this.#o = options
  }

  clear(): void {
    this.#cursors.clear()
    this.#undropped.clear()
    this.#health.clear()
  }

  async run(): Promise<void> {
    const found = this.#look()
    await this.#dropDeleted(found.deleted)
    await this.#writeBehind(found.behind)
    await this.#writeRows(found.moved, true)
    await this.#dropCaughtUp(found.caughtUp)
    await this.#writeHealth(found.changed)
    this.#forget(found.settled)
  }

  /** Writes what was learnt of endpoints that somebody else will serve. */
  async handOver(states: readonly EndpointState[]): Promise<void> {
    const now = this.#o.clock.now()
    await this.#writeHealth(states.filter((state) => this.#isWorthKnowing(state, now)))
  }

  #isWorthKnowing(state: EndpointState, nowMs: number): boolean {
    const failing = state.pace.failingSinceMs !== null || heldUntilMs(state, nowMs) > 0
    return failing || this.#health.has(state.no) || wasFailing(state)
  }

  /** One pass over the states in memory: who needs something written, and who nothing any more. */
  #look(): Findings {
    const { served, clock } = this.#o
    const monotonic = clock.monotonic()
    const now = clock.now()
    const again = monotonic >= this.#unreadableAt
    if (again) this.#unreadableAt = monotonic + UNREADABLE_AGAIN_MS
    const found: Findings = { deleted: [], behind: [], moved: [], caughtUp: [], changed: [], settled: [] }
    for (const state of served.states.values()) {
      if (again && state.unreadable) this.#o.onUnreadable(state.no)
      if (state.config?.state === 'deleted') {
        if (state.inFlight === 0) found.deleted.push(state)
        continue
      }
      const through = state.recordedThrough
      if (state.backlogged) {
        if (isUsable(state) && through >= state.target) found.caughtUp.push(state)
        else if (state.outgrewBacklog || through - (this.#cursors.get(state.no) ?? 0) >= CURSOR_STEP)
          found.moved.push(state)
      } else if (this.#undropped.has(state.no) && !state.noting) {
        found.caughtUp.push(state)
      } else if (through < state.target && isBehind(state, now, monotonic)) {
        found.behind.push(state)
      }
      if (this.#isWorthKnowing(state, now)) found.changed.push(state)
      if (state.idle || state.config?.state === 'waiting') found.settled.push(state)
    }
    return found
  }

  async #dropDeleted(deleted: readonly EndpointState[]): Promise<void> {
    if (deleted.length === 0) return
    const { served, writer, token } = this.#o
    this.#check(await writer.dropDeleted(token(), numbers(deleted)))
    for (const state of deleted) {
      state.coverMarks()
      served.forget(state)
    }
  }

  async #writeBehind(behind: readonly EndpointState[]): Promise<void> {
    // Not forgotten in the meantime: the row would stay behind without anybody who drops it.
    for (const state of behind) state.noting = true
    try {
      await this.#writeRows(behind, false)
    } finally {
      for (const state of behind) state.noting = false
    }
  }

  async #writeRows(states: readonly EndpointState[], exact: boolean): Promise<void> {
    if (states.length === 0) return
    const rows = states.map(toBacklog)
    this.#check(await this.#o.writer.writeBacklogs(this.#o.token(), rows, exact))
    for (const [index, row] of rows.entries()) {
      this.#cursors.set(row.endpoint, row.cursor)
      this.#undropped.delete(row.endpoint)
      // What came in while the statement ran is covered, too, unless it is older: the row stands for all beyond its cursor.
      states[index]!.coverMarks(row.oldest)
    }
  }

  async #dropCaughtUp(found: readonly EndpointState[]): Promise<void> {
    const caughtUp = found.filter((state) =>
      state.backlogged ? state.recordedThrough >= state.target : this.#undropped.has(state.no),
    )
    if (caughtUp.length === 0) return
    // From here on new work is marked again: a page that comes while the statement runs is not covered by the row.
    for (const state of caughtUp) {
      state.uncoverMarks()
      this.#cursors.delete(state.no)
    }
    try {
      this.#check(await this.#o.writer.dropBacklogs(this.#o.token(), numbers(caughtUp)))
      for (const state of caughtUp) this.#undropped.delete(state.no)
    } catch (error) {
      // Nobody knows whether the rows are still there, so nobody relies on them.
      for (const state of caughtUp) this.#undropped.add(state.no)
      throw error
    }
  }

  /** Writes the health of endpoints for which it changed: failing for a while, backed off, recovered. */
  async #writeHealth(states: readonly EndpointState[]): Promise<void> {
    const { writer, clock, token } = this.#o
    const now = clock.now()
    const rows: HealthWrite[] = []
    const keys: [number, string][] = []
    for (const state of states) {
      const row = toHealth(state, now)
      const key = JSON.stringify([row.epoch, row.failingForMs !== null, row.backoffMs, heldUntilMs(state, now)])
      if (key === (this.#health.get(state.no) ?? healthInDatabase(state))) continue
      rows.push(row)
      keys.push([state.no, key])
    }
    if (rows.length === 0) return
    this.#check(await writer.writeHealth(token(), rows))
    for (const [endpoint, key] of keys) this.#health.set(endpoint, key)
  }

  #forget(settled: readonly EndpointState[]): void {
    const now = this.#o.clock.now()
    for (const state of settled) {
      // A held endpoint lives in its backlogs row alone; it is loaded from there when it is enabled.
      const held =
        state.config?.state === 'waiting' &&
        state.inFlight === 0 &&
        state.unwritten === 0 &&
        !state.reading &&
        (state.backlogged || state.recordedThrough >= state.target)
      if (!held && (state.backlogged || !state.idle || state.unreadable)) continue
      if (state.config === null) continue
      // Too young a row of failures to be written: it would begin anew with each event, and never grow old.
      if (state.pace.failingSinceMs !== null && now - state.pace.failingSinceMs < FAILING_WORTH_WRITING_MS) continue
      this.#o.served.forget(state)
      this.#cursors.delete(state.no)
      this.#health.delete(state.no)
    }
  }

  #check(alive: boolean): void {
    if (alive) return
    this.#o.onFenced()
    throw new Error('this worker was fenced')
  }
}

interface Findings {
  deleted: EndpointState[]
  behind: EndpointState[]
  moved: EndpointState[]
  caughtUp: EndpointState[]
  changed: EndpointState[]
  settled: EndpointState[]
}

/**
 * Whether it should no longer pin its lane's position: it waits, or something of its own keeps it behind. Where the worker as
 * a whole is behind, its endpoints are so for a while without a row each: 50,000 rows written and removed were seen to cost as
 * much as their deliveries.
 */
function isBehind(state: EndpointState, nowMs: number, monotonicMs: number): boolean {
  if (!isUsable(state)) return state.config !== null || state.unreadable
  const behindMs = state.behindMs(monotonicMs)
  return behindMs > BEHIND_ANYWAY_MS || (behindMs > BEHIND_AFTER_MS && state.isImpeded(nowMs))
}

function numbers(states: readonly EndpointState[]): number[] {
  return states.map((state) => state.no)
}

function isUsable(state: EndpointState): boolean {
  return state.config?.state === 'active' && !state.unreadable
}

function toBacklog(state: EndpointState): BacklogWrite {
  const reason = state.unreadable
    ? 'unreadable'
    : state.config?.state !== 'active'
      ? 'held'
      : state.pace.breaker.open
        ? 'degraded'
        : state.config.fifo
          ? 'fifo'
          : state.pace.bucket !== null
            ? 'limited'
            : 'behind'
  return { endpoint: state.no, lane: state.lane, cursor: state.recordedThrough, oldest: state.oldest, reason }
}

/** Backed off, or asked to wait by `Retry-After`, until this wall-clock ms; 0 where neither. */
function heldUntilMs(state: EndpointState, nowMs: number): number {
  const { backoffMs, untilMs } = state.pace.breaker.state
  const askedMs = state.pace.notBeforeMs > nowMs ? state.pace.notBeforeMs : 0
  return backoffMs === null ? askedMs : Math.max(untilMs, askedMs)
}

function toHealth(state: EndpointState, nowMs: number): HealthWrite {
  const { backoffMs } = state.pace.breaker.state
  const untilMs = heldUntilMs(state, nowMs)
  const failingForMs = state.pace.failingSinceMs === null ? null : nowMs - state.pace.failingSinceMs
  const worth = failingForMs !== null && (failingForMs >= FAILING_WORTH_WRITING_MS || backoffMs !== null)
  return {
    endpoint: state.no,
    epoch: state.config?.health.epoch ?? 0,
    failingForMs: worth ? failingForMs : null,
    backoffMs,
    backoffLeftMs: untilMs === 0 ? null : Math.max(0, untilMs - nowMs),
  }
}

function wasFailing(state: EndpointState): boolean {
  const health = state.config?.health
  return (health?.failingSinceMs ?? null) !== null || (health?.backoffUntilMs ?? null) !== null
}

/** The same key for what the configuration brought from the database. */
function healthInDatabase(state: EndpointState): string {
  const health = state.config?.health
  return JSON.stringify([
    health?.epoch ?? 0,
    (health?.failingSinceMs ?? null) !== null,
    health?.backoffMs ?? null,
    health?.backoffUntilMs ?? 0,
  ])
}
