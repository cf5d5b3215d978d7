/** Weeks of the past, as if the installation had run back then: partitions with events, deliveries and attempts made by SQL. */
import type postgres from 'postgres'

const DAY_MS = 86_400_000
const WEEK_MS = 7 * DAY_MS

/** The Monday, 0:00 UTC, of the week that lies so many weeks before this one. */
export function weekBefore(weeks: number): Date {
  const epochMonday = 4 * DAY_MS
  return new Date(Math.floor((Date.now() - epochMonday) / WEEK_MS) * WEEK_MS + epochMonday - weeks * WEEK_MS)
}

export function suffixOf(week: Date): string {
  return `_${week.toISOString().slice(0, 10).replaceAll('-', '')}`
}

export interface OldWeek {
  events: number
  /** Number of an endpoint, of which each event has a delivery; null for none. */
  endpoint: number | null
  /** What became of the deliveries; events in turn. */
  became: readonly ('succeeded' | 'failed' | 'waiting')[]
  /** Sequence numbers begin after this one. */
  afterSeq: number
}

/** Makes the partitions of a week and fills them. All of it counts as committed long ago. */
export async function makeOldWeek(
  sql: postgres.Sql,
  week: Date,
  { events, endpoint, became, afterSeq }: OldWeek,
): Promise<void> {
  const at = week.toISOString()
  await sql`select posthaste.make_partitions(${at}::text::timestamptz, ${at}::text::timestamptz + interval '1 day')`
  await fillWeek(sql, week, { events, endpoint, became, afterSeq })
}

/** The rows alone, wherever they fall. */
export async function fillWeek(
  sql: postgres.Sql,
  week: Date,
  { events, endpoint, became, afterSeq }: OldWeek,
): Promise<void> {
  const from = week.getTime() + 1_000
  // Spread over a day; the counter makes ids unique.
  await sql`insert into posthaste.events (id, xid, account, type, data, occurred_at)
    select (lpad(to_hex(${from}::bigint + n * 80000000 / ${events}::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
      '3'::xid8, 'default', 'test.happened', json_build_object('n', n)::text, to_timestamp(${from}::float8 / 1000)
    from generate_series(1, ${events}::bigint) n`
  if (endpoint === null) return
  const until = new Date(week.getTime() + WEEK_MS).toISOString()
  const inWeek = sql`e.id >= posthaste.id_floor(${week.toISOString()}::text::timestamptz) and e.id < posthaste.id_floor(${until}::text::timestamptz)`
  const numbered = sql`select e.id, row_number() over (order by e.id) n from posthaste.events e where ${inWeek} and e.account = 'default'`
  await sql`insert into posthaste.deliveries (id, seq, event_id, endpoint)
    select posthaste.delivery_id(x.id, ${endpoint}::int, 0), ${afterSeq}::bigint + x.n, x.id, ${endpoint}::int from (${numbered}) x`
  const kinds = became.map((one) => ({ succeeded: 1, failed: 2, waiting: 0 })[one])
  await sql`insert into posthaste.attempts (delivery_id, number, endpoint, seq, outcome, final, step, status, at, total_ms)
    select posthaste.delivery_id(x.id, ${endpoint}::int, 0), 1, ${endpoint}::int, ${afterSeq}::bigint + x.n, k.outcome, true, 0, 200,
      to_timestamp(${from}::float8 / 1000), 1
    from (${numbered}) x
    cross join lateral (select (${kinds}::int[])[1 + (x.n - 1) % ${kinds.length}::int] outcome) k where k.outcome > 0`
}
