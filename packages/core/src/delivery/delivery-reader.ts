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
}

export interface Page<Row> {
  rows: Row[]
  cut: boolean
}

export function createDeliveryReader(sql: Sql, s: string): DeliveryReader {
  const event = `e.type, e.data, extract(epoch from e.occurred_at)::float8 * 1000 occurred_ms, e.envelope`
  const read = `select endpoint, id::text, seq, event_id::text, type, data, occurred_ms, envelope, before from (
      select x.ord, d.endpoint, d.id, d.seq, d.event_id, ${event},
        sum(octet_length(e.data)) over (order by x.ord, d.seq rows between unbounded preceding and 1 preceding)::bigint before
      from unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[], $5::int[])
        with ordinality x(endpoint, after, through, check_through, lim, ord)
      cross join lateral (
        select d.endpoint, d.id, d.seq, d.event_id from ${s}.deliveries d
        where d.endpoint = x.endpoint and d.seq > x.after and d.seq <= x.through and d.id >= $6::uuid
          and d.id < ${s}.id_floor(now() + interval '1 day')
          and (d.seq > x.check_through or not exists (select 1 from ${s}.attempts a where a.delivery_id = d.id))
        order by d.seq limit x.lim) d
      join ${s}.events e on e.id = d.event_id) rows
    where before is null or before < $7::bigint
    order by ord, seq`
  const readRetries = `select endpoint, id::text, seq, event_id::text, type, data, occurred_ms, envelope, before, step, number, due::text from (
      select x.ord, r.endpoint, r.delivery_id id, r.seq, r.event_id, r.step, r.number, r.due_at due, ${event},
        sum(octet_length(e.data)) over (order by x.ord, r.due_at, r.delivery_id rows between unbounded preceding and 1 preceding)::bigint before
      from unnest($1::int[], $2::text[], $3::uuid[], $4::int[]) with ordinality x(endpoint, due, id, lim, ord)
      cross join lateral (
        select r.* from ${s}.retries r
        where r.endpoint = x.endpoint and (r.due_at, r.delivery_id) > (x.due::timestamptz, x.id) and r.due_at <= ${s}.clock()
        order by r.due_at, r.delivery_id limit x.lim) r
      join ${s}.events e on e.id = r.event_id) rows
    where before is null or before < $5::bigint
    order by ord, due, id`
  return {
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
      return { rows: rows.map((row) => toDelivery(row as unknown as Raw)), cut: isCut(rows.at(-1), maxBytes) }
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
      const page = rows.map((row) => ({
        ...toDelivery(row as unknown as Raw),
        step: row.step as number,
        number: row.number as number,
        due: row.due as string,
      }))
      return { rows: page, cut: isCut(rows.at(-1), maxBytes) }
    },
  }
}

interface Raw {
  endpoint: number
  id: string
  seq: number
  event_id: string
  type: string
  data: string
  occurred_ms: number
  envelope: 0 | 1
  /** Bytes of data in the rows before this one. */
  before: number | null
}

function isCut(last: Record<string, unknown> | undefined, maxBytes: number): boolean {
  if (last === undefined) return false
  return ((last.before as number | null) ?? 0) + Buffer.byteLength(last.data as string) >= maxBytes
}

function toDelivery(row: Raw): DeliveryRow {
  return {
    endpoint: row.endpoint,
    id: row.id,
    seq: row.seq,
    eventId: row.event_id,
    type: row.type,
    dataText: row.data,
    occurredAtMs: row.occurred_ms,
    envelope: row.envelope,
  }
}
