/** A delivery's status follows from its attempts, its waiting retry and its endpoint; this is the one place that says how. */
import { type SQL, sql } from '../storage/orm.ts'

/**
 * What the status is derived from, joined to rows that have a delivery as `d`. `p` is its endpoint, `e` its event, `a` sums its
 * attempts up, `l` is the last one, `r` the waiting retry, `g` the replay that made it.
 *
 * Each look-up has a LIMIT of its own so that it is made row by row, by its index: plain joins of rows of which the planner
 * cannot know how few they are were seen to read whole partitions.
 */
export function deliveryFacts(schema: string): SQL {
  const s = sql.raw(schema)
  return sql`
    cross join lateral (select x.* from ${s}.endpoints x where x.no = d.endpoint limit 1) p
    cross join lateral (select x.* from ${s}.events x where x.id = d.event_id limit 1) e
    left join lateral (
      select max(x.number) attempts, bool_or(x.outcome = 1) succeeded,
        max(x.outcome) filter (where x.final and x.outcome <> 1) ended
      from ${s}.attempts x where x.delivery_id = d.id) a on true
    left join lateral (
      select x.at, x.status, x.error from ${s}.attempts x where x.delivery_id = d.id order by x.number desc limit 1) l on true
    left join lateral (select min(x.due_at) due from ${s}.retries x where x.delivery_id = d.id) r on true
    left join lateral (select x.id from ${s}.replays x where x.no = d.generation and d.generation > 0 limit 1) g on true`
}

/** Over the rows of `deliveryFacts`. What waits is held or cancelled with its endpoint. */
export const STATUS = sql.raw(`case
    when a.succeeded then 'succeeded'
    when r.due is null and a.ended = 3 then 'expired'
    when r.due is null and a.ended = 4 then 'cancelled'
    when r.due is null and a.ended is not null then 'failed'
    when p.deleted_at is not null then 'cancelled'
    when not p.active or p.disabled_at is not null then 'held'
    when r.due is not null then 'retrying'
    else 'pending' end`)

/**
 * A sequence number up to which every delivery of the endpoint was attempted: what its backlog or its lane has reached. Only what
 * lies beyond can be waiting for its first attempt.
 */
export function attemptedThrough(schema: string, endpoint: number, lane: number): SQL {
  const s = sql.raw(schema)
  return sql`coalesce(
    (select b.cursor_seq from ${s}.backlogs b where b.endpoint = ${endpoint}::int),
    (select d.last_seq from ${s}.lanes t
      left join lateral (select x.lanes, x.positions from ${s}.renewals x where x.token = t.token order by x.seq desc limit 1) w on true
      left join lateral (select x.position from unnest(w.lanes, w.positions) x(lane, position) where x.lane = t.lane) h on true
      join ${s}.dispatches d on d.n = greatest(t.position, h.position)
      where t.lane = ${lane}::smallint),
    0)`
}
