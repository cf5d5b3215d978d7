import type { Clock } from '../clock.ts'
import type { Lifecycle } from '../lifecycle/events.ts'
import { errorFields, type Logger } from '../logger.ts'
import type { Sql } from '../storage/connection.ts'

export interface Retention {
  /** Events with their deliveries and attempts, in ms. */
  eventsMs: number
  /** Deliveries that failed for good, in ms; where that is longer. */
  failedMs: number
  /** What still waits is ended as `expired` after this, in ms. */
  waitingMs: number
}

export interface PartitionUpkeepOptions {
  sql: Sql
  schema: string
  clock: Clock
  logger: Logger
  lifecycle: Lifecycle
  retention: Retention
}

/** Weekly partitions of the logs: made ahead, mended, and removed when their time is over. One process is enough; more do no harm. */
export interface PartitionUpkeep {
  /** Does what is to be done by now. True: something that should have gone is in use; look again soon. */
  run(): Promise<boolean>
}

const DAY_MS = 86_400_000
const WEEK_MS = 7 * DAY_MS
/** Partitions exist this far ahead: for so long the host's emits fall into one without anybody doing upkeep. */
const AHEAD_MS = 37 * DAY_MS
/** What fell into a DEFAULT partition is looked for this often. */
const STRAYS_EVERY_MS = 600_000
/** A week of which something is kept is looked through again after this. */
const KEPT_AGAIN_MS = DAY_MS / 4
/** A week that is still there this long after its time is overdue. */
const OVERDUE_AFTER_MS = DAY_MS
const OVERDUE_AGAIN_MS = 3_600_000

/** Why a week past its time is still there; see `leaving_weeks`. */
type State = 'locked' | 'undispatched' | 'replay' | 'strays' | 'kept' | 'empty'

interface Look {
  state: State
  /** Wall clock in ms. */
  nextAt: number
}

export function createPartitionUpkeep(options: PartitionUpkeepOptions): PartitionUpkeep {
  const { sql, schema, clock, logger, lifecycle, retention } = options
  const s = sql(schema)
  const looks = new Map<number, Look>()
  let straysAt = Number.NEGATIVE_INFINITY
  let strayPauseMs = STRAYS_EVERY_MS
  let saidAt = Number.NEGATIVE_INFINITY

  async function makeAhead(): Promise<void> {
    // Left by a crash between two of the steps below.
    await sql`select ${s}.unguard_default()`
    const [made] =
      await sql`select ${s}.make_partitions(clock_timestamp(), clock_timestamp() + ${AHEAD_MS / 1000} * interval '1 second') n`
    if (made?.n !== -1) return
    // The DEFAULT partition holds rows. Attaching reads it through while emitters wait, unless a validated constraint says that it
    // holds none of those weeks.
    const from = nextMonday(Date.now() + DAY_MS)
    const until = new Date(from.getTime() + Math.ceil(AHEAD_MS / WEEK_MS) * WEEK_MS)
    await sql`select ${s}.guard_default(${from.toISOString()}::text::timestamptz, ${until.toISOString()}::text::timestamptz)`
    try {
      await sql`select ${s}.validate_guard()`
      await sql`select ${s}.make_partitions(${from.toISOString()}::text::timestamptz, ${until.toISOString()}::text::timestamptz)`
    } finally {
      await untilGot(() => sql`select ${s}.unguard_default()`)
    }
  }

  /** Waits for a lock as often as it takes: the guard must not stay. */
  async function untilGot(statement: () => Promise<unknown>): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await statement()
        return
      } catch (error) {
        if (!isLocked(error) || tries >= 100) throw error
      }
    }
  }

  async function moveStrays(): Promise<void> {
    if (clock.monotonic() < straysAt) return
    straysAt = clock.monotonic() + strayPauseMs
    strayPauseMs = STRAYS_EVERY_MS
    for (const parent of ['events', 'deliveries', 'attempts']) {
      try {
        const [row] = await sql`select ${s}.move_strays(${parent}::text) n`
        const moved = row?.n as number
        if (moved > 0) logger.info(`posthaste: ${moved} rows of ${parent} were moved out of its default partition`)
      } catch (error) {
        if (!isLocked(error)) throw error
        // Whoever is in the way writes attempts of these events, or reads; a whole copy for nothing is not made each time.
        strayPauseMs = Math.min(6 * STRAYS_EVERY_MS, strayPauseMs * 2)
      }
    }
  }

  async function removeWeek(week: Date): Promise<State | 'gone' | 'busy'> {
    try {
      const [row] = await sql`select state, kept from ${s}.trim_week(${week.toISOString()}::text::timestamptz,
        ${retention.eventsMs / 1000} * interval '1 second', ${retention.failedMs / 1000} * interval '1 second',
        ${retention.waitingMs / 1000} * interval '1 second')`
      const state = row?.state as State | 'busy' | 'current'
      if (state === 'busy' || state === 'current') return 'busy'
      await note(week, state, row?.kept as number)
      if (state !== 'empty') return state
      for (const parent of ['attempts', 'deliveries', 'events']) {
        const [dropped] =
          await sql`select ${s}.drop_week(${parent}::text, ${week.toISOString()}::text::timestamptz) gone`
        // Something was written to it meanwhile.
        if (dropped?.gone !== true) return 'empty'
      }
    } catch (error) {
      if (!isLocked(error)) throw error
      await note(week, 'locked', 0)
      return 'locked'
    }
    await sql`delete from ${s}.leaving_weeks where week = ${week.toISOString()}::text::timestamptz`
    const after = new Date(week.getTime() + WEEK_MS).toISOString()
    await sql`delete from ${s}.duplicates
      where event_id >= ${s}.id_floor(${week.toISOString()}::text::timestamptz) and event_id < ${s}.id_floor(${after}::text::timestamptz)`
    return 'gone'
  }

  async function note(week: Date, state: State, kept: number): Promise<void> {
    await sql`insert into ${s}.leaving_weeks as w (week, state, kept) values (${week.toISOString()}::text::timestamptz, ${state}, ${kept})
      on conflict (week) do update set state = excluded.state, kept = excluded.kept, since = ${s}.clock()
      where (w.state, w.kept) is distinct from (excluded.state, excluded.kept)`
  }

  function sayOverdue(week: Date, state: State): void {
    const overdueMs = clock.now() - (week.getTime() + WEEK_MS + retention.eventsMs)
    if (state === 'kept' || overdueMs < OVERDUE_AFTER_MS || clock.now() < saidAt + OVERDUE_AGAIN_MS) return
    saidAt = clock.now()
    const fields = { week: week.toISOString(), reason: state, overdueMs }
    logger.warn('posthaste: a week of the logs could not be removed in time', fields)
    lifecycle.raise('storage.overdue', fields)
  }

  /** Of secrets that nothing in the log was signed with any more. A day, for who did not hear of the change at once. */
  async function eraseRetiredSecrets(): Promise<void> {
    await sql`with first as (select delivery_id from ${s}.attempts order by delivery_id limit 1)
      delete from ${s}.retired_secrets r where r.retired_at < clock_timestamp() - interval '1 day'
        and not exists (select from first where first.delivery_id < ${s}.id_floor(r.retired_at + interval '1 day'))`
  }

  /** True: one of them is in use. */
  async function removeOld(): Promise<boolean> {
    const [row] = await sql`select array(select (extract(epoch from week) * 1000)::float8 from ${s}.weeks()
      where week + interval '7 days' < ${s}.clock() - ${retention.eventsMs / 1000} * interval '1 second') weeks`
    const now = clock.now()
    let inUse = false
    for (const at of row!.weeks as number[]) {
      const look = looks.get(at)
      if (look === undefined || now >= look.nextAt) {
        const state = await removeWeek(new Date(at))
        looks.delete(at)
        if (state === 'gone' || state === 'busy') continue
        looks.set(at, { state, nextAt: state === 'kept' ? now + KEPT_AGAIN_MS : now })
      }
      const { state } = looks.get(at)!
      if (state !== 'kept') inUse = true
      sayOverdue(new Date(at), state)
    }
    return inUse
  }

  return {
    async run() {
      try {
        await makeAhead()
        await moveStrays()
      } catch (error) {
        if (!isLocked(error)) logger.warn('posthaste: partitions could not be made ahead', errorFields(error))
      }
      const inUse = await removeOld()
      await eraseRetiredSecrets()
      return inUse
    },
  }
}

/** Somebody else holds the lock for longer than we wait (55P03), or waits for ours (40P01). */
function isLocked(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return code === '55P03' || code === '40P01'
}

/** The first Monday, 0:00 UTC, at or after a time: weeks begin there. */
function nextMonday(ms: number): Date {
  const epochMonday = 4 * DAY_MS
  return new Date(Math.ceil((ms - epochMonday) / WEEK_MS) * WEEK_MS + epochMonday)
}
