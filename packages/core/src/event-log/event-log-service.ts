/** The event log: what was emitted in an account, newest first, and the deliveries of each event. */

import { isOfType, LOOKED_THROUGH_PER_PAGE, listDeliveriesOfEvents } from '../deliveries/delivery-rows.ts'
import type { Delivery } from '../deliveries/delivery-schemas.ts'
import { decodeCursor, encodeCursor, type Page } from '../endpoints/page-cursor.ts'
import { idFloor, timeOfId, toRange } from '../endpoints/time-range.ts'
import { validateInput } from '../endpoints/validate-input.ts'
import { PosthasteError } from '../errors.ts'
import { requirePublicId, toPublicId } from '../ids.ts'
import { type SQL, sql } from '../storage/orm.ts'
import { type Queries, rfc3339, type Store } from '../storage/tables.ts'
import {
  type EventQuery,
  eventQuerySchema,
  type LoggedEvent,
  type LoggedEventDetail,
  MAX_DELIVERIES_LISTED,
  MAX_DELIVERIES_SHOWN,
} from './event-schemas.ts'

/** Every method is given the account and finds nothing outside of it. */
export interface EventLog {
  /**
   * Newest first. With the filter `event` a page may hold fewer than `limit` and have a next one all the same.
   *
   * @throws {PosthasteError} `VALIDATION_FAILED`
   */
  list(account: string, query?: EventQuery): Promise<Page<LoggedEvent>>
  /** With its data. @throws {PosthasteError} `NOT_FOUND` */
  get(account: string, id: string): Promise<LoggedEventDetail>
}

interface EventRow extends Record<string, unknown> {
  id: string
  type: string
  occurred_at: string
  idempotency_key: string | null
  duplicate_of: string | null
}

export function createEventLog(store: Store): EventLog {
  const s = sql.raw(store.schema)
  const columns = sql`e.id::text, e.type, ${rfc3339(sql`coalesce(e.occurred_at, ${s}.id_time(e.id))`)} occurred_at, e.idempotency_key,
    (select u.first_id::text from ${s}.duplicates u where u.event_id = e.id) duplicate_of`

  async function withDeliveries(queries: Queries, rows: readonly EventRow[], most: number): Promise<LoggedEvent[]> {
    const ids = rows.map((row) => row.id)
    const deliveries = ids.length === 0 ? new Map() : await listDeliveriesOfEvents(store, queries, ids, most)
    return rows.map((row) => describe(row, deliveries.get(row.id) ?? [], most))
  }

  return {
    async list(account, query = {}) {
      const { limit, cursor, event, ...range } = validateInput(eventQuerySchema, query, 'The query')
      const { sinceMs, untilMs } = toRange(range)
      const bounds: SQL[] = [
        sql`x.account = ${account}::text`,
        ...(cursor === undefined ? [] : [sql`x.id < ${decodeCursor(cursor)}::uuid`]),
        ...(sinceMs === null ? [] : [sql`x.id >= ${idFloor(sinceMs)}::uuid`]),
        ...(untilMs === null ? [] : [sql`x.id < ${idFloor(untilMs)}::uuid`]),
      ]
      const looked = (columnsOf: SQL) => sql`
        select ${columnsOf} from ${s}.events x where ${sql.join(bounds, sql` and `)}
        order by x.id desc limit ${sql.raw(String(LOOKED_THROUGH_PER_PAGE))}`
      return await store.read(async (queries) => {
        const rows = await queries.execute<EventRow>(sql`
          select ${columns} from (${looked(sql`x.id, x.type, x.occurred_at, x.idempotency_key`)}) e
          where ${event === undefined ? sql`true` : isOfType(sql`e.type`, event)}
          order by e.id desc limit ${limit + 1}`)
        const page = [...rows].slice(0, limit)
        let next = rows.length > limit ? (page.at(-1)?.id ?? null) : null
        if (next === null && event !== undefined) {
          // Fewer than asked for: either that was all, or all that one page looks through.
          const [end] = await queries.execute<{ n: number; last: string | null }>(sql`
            select count(*)::int n, (array_agg(l.id::text order by l.id))[1] last from (${looked(sql`x.id`)}) l`)
          if (end !== undefined && end.n >= LOOKED_THROUGH_PER_PAGE) next = end.last
        }
        return {
          data: await withDeliveries(queries, page, MAX_DELIVERIES_LISTED),
          next_cursor: next === null ? null : encodeCursor(next),
        }
      })
    },

    async get(account, id) {
      const uuid = requirePublicId('evt', id)
      return await store.read(async (queries) => {
        const [row] = await queries.execute<EventRow & { data: string }>(sql`
          select ${columns}, e.data from ${s}.events e where e.id = ${uuid}::uuid and e.account = ${account}::text`)
        if (row === undefined) throw new PosthasteError('NOT_FOUND', `There is no event ${id.slice(0, 64)}.`)
        const [event] = await withDeliveries(queries, [row], MAX_DELIVERIES_SHOWN)
        return { ...(event as LoggedEvent), data: JSON.parse(row.data) }
      })
    },
  }
}

function describe(row: EventRow, deliveries: Delivery[], most: number): LoggedEvent {
  return {
    id: toPublicId('evt', row.id),
    event: row.type,
    occurred_at: row.occurred_at,
    emitted_at: timeOfId(row.id),
    idempotency_key: row.idempotency_key,
    duplicate_of: row.duplicate_of === null ? null : toPublicId('evt', row.duplicate_of),
    deliveries: deliveries.slice(0, most),
    has_more_deliveries: deliveries.length > most,
  }
}
