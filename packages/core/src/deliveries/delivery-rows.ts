/** The queries of the delivery log. Every one of them that is given an account finds that account's deliveries only. */

import { idFloor, timeOfId } from '../endpoints/time-range.ts'
import { PosthasteError } from '../errors.ts'
import { requirePublicId, toPublicId } from '../ids.ts'
import { laneOf } from '../lanes/lane-number.ts'
import { type SQL, sql } from '../storage/orm.ts'
import { type Queries, rfc3339, type Store } from '../storage/tables.ts'
import type { Delivery, DeliveryStatus } from './delivery-schemas.ts'
import { attemptedThrough, deliveryFacts, STATUS } from './delivery-status.ts'

/** What the log needs to know of an endpoint. Deleted ones keep their log. */
export interface LoggedEndpoint {
  no: number
  uuid: string
  served: boolean
  deleted: boolean
}

export interface DeliveryListing {
  limit: number
  /** The sequence number of the last delivery before the page. */
  before: number | null
  status: DeliveryStatus | null
  event: string | null
  sinceMs: number | null
  untilMs: number | null
}

export interface ListedDeliveries {
  /** Newest first. */
  deliveries: Delivery[]
  /** The sequence number after which the next page begins; null at the end. */
  next: number | null
}

/**
 * How many deliveries one page looks through for those that a filter lets pass. A page may so be short, or empty, and have a
 * next one all the same: the cost of a request never grows with the log.
 */
export const LOOKED_THROUGH_PER_PAGE = 5_000
/** Clocks of processes may differ by this much from the database's. */
const CLOCK_SLACK_MS = 300_000

interface DeliveryRow extends Record<string, unknown> {
  id: string
  seq: number
  endpoint_id: string
  event_id: string
  event: string
  status: DeliveryStatus
  attempts: number | null
  last_at: string | null
  last_status: number | null
  last_error: string | null
  next_at: string | null
  replay_id: string | null
}

/** Deleted endpoints are found, too: their log stays. */
export async function findLoggedEndpoint(
  store: Store,
  queries: Queries,
  account: string,
  id: string,
): Promise<LoggedEndpoint> {
  const [row] = await queries.execute<{ no: number; id: string; served: boolean; deleted: boolean }>(sql`
    select no, id::text, active and disabled_at is null and deleted_at is null served, deleted_at is not null deleted
    from ${sql.raw(store.schema)}.endpoints where id = ${requirePublicId('ep', id)}::uuid and account = ${account}::text`)
  if (row === undefined) throw new PosthasteError('NOT_FOUND', `There is no endpoint ${id.slice(0, 64)}.`)
  return { no: row.no, uuid: row.id, served: row.served, deleted: row.deleted }
}

export async function listDeliveries(
  store: Store,
  queries: Queries,
  endpoint: LoggedEndpoint,
  listing: DeliveryListing,
): Promise<ListedDeliveries> {
  const candidates = candidatesOf(store, endpoint, listing)
  if (candidates === null) return { deliveries: [], next: null }
  const rows = await queries.execute<DeliveryRow>(sql`
    ${selectDeliveries(store, listing.event === null ? candidates : ofType(store, candidates, listing.event))}
    where ${listing.status === null ? sql`true` : sql`${STATUS} = ${listing.status}::text`}
    order by d.seq desc limit ${listing.limit + 1}`)
  const page = [...rows].slice(0, listing.limit)
  const deliveries = page.map(toDelivery)
  if (rows.length > listing.limit) return { deliveries, next: page.at(-1)?.seq ?? null }
  if (listing.status === null && listing.event === null) return { deliveries, next: null }
  // Fewer than asked for: either that was all, or all that one page looks through.
  const [looked] = await queries.execute<{ n: number; last: number | null }>(
    sql`select count(*)::int n, min(seq) last from (${candidates}) c`,
  )
  return { deliveries, next: looked !== undefined && looked.n >= LOOKED_THROUGH_PER_PAGE ? looked.last : null }
}

/** The delivery of this account, by its uuid. */
export async function findDelivery(
  store: Store,
  queries: Queries,
  account: string,
  id: string,
): Promise<{ uuid: string; endpoint: LoggedEndpoint; delivery: Delivery }> {
  const uuid = requirePublicId('dlv', id)
  const [row] = await queries.execute<DeliveryRow & { no: number; served: boolean; deleted: boolean }>(sql`
    ${selectDeliveries(
      store,
      sql`select * from ${sql.raw(store.schema)}.deliveries where id = ${uuid}::uuid`,
      sql`, p.no, p.active and p.disabled_at is null and p.deleted_at is null served, p.deleted_at is not null deleted`,
    )}
    where p.account = ${account}::text`)
  if (row === undefined) throw new PosthasteError('NOT_FOUND', `There is no delivery ${id.slice(0, 64)}.`)
  const { no, endpoint_id, served, deleted } = row
  return { uuid, endpoint: { no, uuid: endpoint_id, served, deleted }, delivery: toDelivery(row) }
}

/** The deliveries of some events, at most `most` of each and one more. */
export async function listDeliveriesOfEvents(
  store: Store,
  queries: Queries,
  events: readonly string[],
  most: number,
): Promise<Map<string, Delivery[]>> {
  const s = sql.raw(store.schema)
  const rows = await queries.execute<DeliveryRow>(sql`
    ${selectDeliveries(
      store,
      sql`select x.* from json_array_elements_text(${JSON.stringify(events)}::text::json) given(event)
        cross join lateral (
          select * from ${s}.deliveries y
          where y.id >= ${s}.first_delivery_id(given.event::uuid) and y.id <= ${s}.last_delivery_id(given.event::uuid)
            and y.event_id = given.event::uuid
          order by y.id limit ${most + 1}) x`,
    )}
    order by d.seq desc`)
  const found = new Map<string, Delivery[]>(events.map((event) => [event, []]))
  for (const row of rows) found.get(row.event_id)?.push(toDelivery(row))
  return found
}

/** Before anything else is looked up of them. */
function ofType(store: Store, candidates: SQL, event: string): SQL {
  return sql`select c.* from (${candidates}) c
    cross join lateral (select x.type from ${sql.raw(store.schema)}.events x where x.id = c.event_id limit 1) t
    where ${isOfType(sql`t.type`, event)}`
}

/** Whether a type is this one, or in this group; `*` is all. */
export function isOfType(type: SQL, event: string): SQL {
  if (event === '*') return sql`true`
  return event.endsWith('.*') ? sql`starts_with(${type}, ${event.slice(0, -1)}::text)` : sql`${type} = ${event}::text`
}

/** Rows of `deliveries` among which a page is looked for, newest first and never more than a page may look through. */
function candidatesOf(store: Store, endpoint: LoggedEndpoint, listing: DeliveryListing): SQL | null {
  const s = sql.raw(store.schema)
  const { no, served, deleted } = endpoint
  const { status, before, sinceMs, untilMs } = listing
  const older = before === null ? sql`true` : sql`seq < ${before}::bigint`
  const inRange = (id: string) => sql`
    ${sinceMs === null ? sql`true` : sql`${sql.raw(id)} >= ${idFloor(sinceMs)}::uuid`}
    and ${untilMs === null ? sql`true` : sql`${sql.raw(id)} < ${idFloor(untilMs)}::uuid`}`
  const most = sql.raw(String(LOOKED_THROUGH_PER_PAGE))
  const logged = (more: SQL) => sql`
    select * from ${s}.deliveries where endpoint = ${no}::int and ${older} and ${inRange('id')} and ${more}
    order by seq desc limit ${most}`
  const among = (ids: SQL) => sql`
    select x.* from (${ids} order by seq desc limit ${most}) found
    cross join lateral (select * from ${s}.deliveries y where y.id = found.id limit 1) x`
  const retrying = sql`
    select distinct seq, delivery_id id from ${s}.retries where endpoint = ${no}::int and ${older} and ${inRange('delivery_id')}`

  if (status === 'failed' || status === 'expired' || (status === 'cancelled' && !deleted)) {
    return among(sql`
      select distinct seq, delivery_id id from ${s}.attempts
      where endpoint = ${no}::int and final and outcome <> 1 and ${older} and ${inRange('delivery_id')}`)
  }
  const waiting = attemptedThrough(store.schema, no, laneOf(no))
  if (status === 'retrying') return served ? among(retrying) : null
  if (status === 'pending') return served ? logged(sql`seq > ${waiting}`) : null
  if (status === 'held') {
    if (served || deleted) return null
    return among(sql`
      (${retrying}) union (select seq, id from ${s}.deliveries
        where endpoint = ${no}::int and seq > ${waiting} and ${older} and ${inRange('id')} order by seq desc limit ${most})`)
  }
  if (sinceMs === null) return logged(sql`true`)
  // What was attempted before the range begins was dispatched before it, and so was everything before that.
  return logged(sql`seq > coalesce((select x.seq from ${s}.attempts x where x.endpoint = ${no}::int
    and x.at < to_timestamp(${(sinceMs - CLOCK_SLACK_MS) / 1000}::float8) order by x.at desc limit 1), 0)`)
}

function selectDeliveries(store: Store, candidates: SQL, more: SQL = sql``): SQL {
  return sql`
    select d.id::text, d.seq, p.id::text endpoint_id, d.event_id::text, e.type event, ${STATUS} status, a.attempts,
      ${rfc3339(sql`l.at`)} last_at, l.status last_status, l.error last_error,
      case when ${STATUS} = 'retrying' then ${rfc3339(sql`r.due`)} end next_at, g.id::text replay_id ${more}
    from (${candidates}) d ${deliveryFacts(store.schema)}`
}

function toDelivery(row: DeliveryRow): Delivery {
  return {
    id: toPublicId('dlv', row.id),
    endpoint_id: toPublicId('ep', row.endpoint_id),
    event_id: toPublicId('evt', row.event_id),
    event: row.event,
    status: row.status,
    attempt_count: row.attempts ?? 0,
    emitted_at: timeOfId(row.event_id),
    last_attempt_at: row.last_at,
    last_status_code: row.last_status,
    last_error_code: row.last_error,
    next_attempt_at: row.next_at,
    replay_id: row.replay_id === null ? null : toPublicId('rpl', row.replay_id),
  }
}
