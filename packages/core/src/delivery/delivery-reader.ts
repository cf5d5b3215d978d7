import { msOfId } from '../ids.ts'
import type { Sql } from '../storage/connection.ts'

/** What of one endpoint to read. */
export interface ReadRequest {
  endpoint: number
  /** Deliveries with `after < seq <= through`. */
  after: number
  through: number
  /** Up to here an earlier owner may have attempted them: look before sending. */
  checkThrough: number
  limit: number
}

export interface DeliveryRow {
  endpoint: number
  id: string
  seq: number
  eventId: string
  type: string
  dataText: string
  occurredAtMs: number
  envelope: 0 | 1
}

export interface RetryRequest {
  endpoint: number
  /** Key of the last retry read, or the start. */
  afterDue: string
  afterId: string
  limit: number
}

export interface RetryRow extends DeliveryRow {
  step: number
  number: number
  due: string
}

/** A delivery that somebody wants to be tried again. */
export interface AskedRow extends DeliveryRow {
  /** How many attempts there are. */
  attempts: number
  /** The last one was to be repeated at once. */
  unfinished: boolean
  /** In how many ms the schedule's next attempt is due, by the database's clock; null without one. */
  retryInMs: number | null
}

export const RETRIES_FROM_START: Pick<RetryRequest, 'afterDue' | 'afterId'> = {
  afterDue: '-infinity',
  afterId: '00000000-0000-0000-0000-000000000000',
}

export interface DeliveryReader {
  /**
   * Reads the next deliveries of many endpoints in one query, in each endpoint's order. Stops after `maxBytes` of data (but
   * answers at least one row); `cut` says that it did, so that fewer rows than asked for do not mean that there are no more.
   *
   * @param oldestEvent a lower bound of the ids of the events concerned, so that older partitions are left alone
   */
  read(requests: readonly ReadRequest[], oldestEvent: string, maxBytes: number): Promise<Page<DeliveryRow>>
  /** The same for the retries that are due by the database's clock. */
  readRetries(requests: readonly RetryRequest[], maxBytes: number): Promise<Page<RetryRow>>
  /** Single deliveries by their uuids; those that do not exist are missing in the answer. */
  readAsked(ids: readonly string[]): Promise<AskedRow[]>
}

export interface Page<Row> {
  rows: Row[]
  cut: boolean
}

export function createDeliveryReader(sql: Sql, s: string): DeliveryReader {
  // Named as in DeliveryRow: a row is used as it comes.
  const columns = `endpoint, id, seq, event_id "eventId", type, data "dataText", occurred_ms "occurredAtMs", envelope, before`
  const read = `select ${columns} from ${s}.read_deliveries($1, $2, $3, $4, $5, $6, $7)`
  // Keys go as text: postgres.js would make a Date of a timestamp, which holds neither microseconds nor -infinity.
  const readRetries = `select ${columns}, step, number, due from ${s}.read_retries($1, $2::text[]::timestamptz[], $3, $4, $5)`
  const readAsked = `select d.endpoint, d.id::text, d.seq, d.event_id::text "eventId", e.type, e.data "dataText",
      extract(epoch from e.occurred_at)::float8 * 1000 "occurredAtMs", e.envelope,
      coalesce(a.number, 0) attempts, coalesce(not a.final, false) unfinished, r.in_ms "retryInMs"
    from unnest($1::uuid[]) x(id)
    join ${s}.deliveries d on d.id = x.id
    join ${s}.events e on e.id = d.event_id
    left join lateral (select a.number, a.final from ${s}.attempts a where a.delivery_id = d.id order by a.number desc limit 1) a on true
    left join lateral (select (extract(epoch from min(q.due_at) - ${s}.clock()) * 1000)::float8 in_ms
      from ${s}.retries q where q.delivery_id = d.id) r on true`
  return {
    async readAsked(ids) {
      const rows = await sql.unsafe(readAsked, [ids] as never[], { prepare: true })
      return withTimes(rows as unknown as AskedRow[])
    },

    async read(requests, oldestEvent, maxBytes) {
      const rows = await sql.unsafe(
        read,
        [
          requests.map((request) => request.endpoint),
          requests.map((request) => request.after),
          requests.map((request) => request.through),
          requests.map((request) => request.checkThrough),
          requests.map((request) => request.limit),
          oldestEvent,
          maxBytes,
        ] as never[],
        { prepare: true },
      )
      return { rows: withTimes(rows as unknown as DeliveryRow[]), cut: isCut(rows.at(-1), maxBytes) }
    },

    async readRetries(requests, maxBytes) {
      const rows = await sql.unsafe(
        readRetries,
        [
          requests.map((request) => request.endpoint),
          requests.map((request) => request.afterDue),
          requests.map((request) => request.afterId),
          requests.map((request) => request.limit),
          maxBytes,
        ] as never[],
        { prepare: true },
      )
      return { rows: withTimes(rows as unknown as RetryRow[]), cut: isCut(rows.at(-1), maxBytes) }
    },
  }
}

/** Fills in when an event occurred of which nothing else was said: when it was emitted. */
function withTimes<Row extends DeliveryRow>(rows: Row[]): Row[] {
  for (const row of rows) row.occurredAtMs ??= msOfId(row.eventId)
  return rows
}

/** `before` is the bytes of data in the rows before a row. */
function isCut(last: Record<string, unknown> | undefined, maxBytes: number): boolean {
  if (last === undefined) return false
  return ((last.before as number | null) ?? 0) + Buffer.byteLength(last.dataText as string) >= maxBytes
}
