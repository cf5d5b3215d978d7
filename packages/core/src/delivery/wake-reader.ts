import type { Sql } from '../storage/connection.ts'

/** A command that reached the lanes through the dispatcher. */
export interface LaneCommand {
  id: string
  kind: string
  endpoint: number
  payload: string | null
}

/** A row of `dispatches`, as far as lanes care: who has new deliveries, and which commands there are. */
export interface WakePage {
  n: number
  /** The life of the database in which it was written. */
  life: string
  oldest: string | null
  endpoints: number[]
  firsts: number[]
  lasts: number[]
  commands: LaneCommand[]
}

export interface BacklogRow {
  endpoint: number
  cursor: number
  oldest: string
}

export interface WakeReader {
  /** The rows after `n`, oldest first, at most `limit`. */
  pages(after: number, limit: number): Promise<WakePage[]>
  /** The newest row's number, the newest delivery's sequence number, and the life that the database is in. */
  newest(): Promise<{ n: number; seq: number; life: string }>
  /** The newest delivery's sequence number as of each of these rows. */
  seqAt(ns: readonly number[]): Promise<Map<number, number>>
  /** Backlogs of the served endpoints of these lanes, or of one endpoint whatever its state. */
  backlogs(of: { lanes: readonly number[] } | { endpoint: number }): Promise<BacklogRow[]>
  /** Endpoints of these lanes with a retry due at or before `dueMs` (ms since 1970, the database's clock). */
  endpointsWithRetries(lanes: readonly number[], dueMs: number): Promise<number[]>
  /** Retries that have become due since a key, of all lanes, oldest first; the database's time, and the life that it is in. */
  dueRetries(after: DueKey, limit: number): Promise<{ rows: DueRetry[]; now: string; nowMs: number; life: string }>
}

export interface DueKey {
  /** A timestamp as Postgres writes it, to the microsecond. */
  due: string
  id: string
}

export interface DueRetry extends DueKey {
  endpoint: number
  lane: number
}

export function createWakeReader(sql: Sql, schema: string): WakeReader {
  const s = sql(schema)
  return {
    async pages(after, limit) {
      const rows = await sql`select n, life, oldest::text, endpoints, firsts, lasts, commands from ${s}.dispatches
        where n > ${after}::bigint order by n limit ${limit}`
      return rows.map((row) => ({
        n: row.n as number,
        life: row.life as string,
        oldest: row.oldest as string | null,
        endpoints: (row.endpoints as number[] | null) ?? [],
        firsts: (row.firsts as number[] | null) ?? [],
        lasts: (row.lasts as number[] | null) ?? [],
        commands: row.commands === null ? [] : (JSON.parse(row.commands as string) as LaneCommand[]),
      }))
    },

    async newest() {
      const [row] = await sql`select n, last_seq, ${s}.life() life from ${s}.dispatches order by n desc limit 1`
      return { n: row!.n as number, seq: row!.last_seq as number, life: row!.life as string }
    },

    async seqAt(ns) {
      const rows = await sql`select x.n, d.last_seq from unnest(${ns as number[]}::bigint[]) x(n) cross join lateral (
        select last_seq from ${s}.dispatches d where d.n <= x.n order by d.n desc limit 1) d`
      return new Map(rows.map((row) => [row.n as number, row.last_seq as number]))
    },

    async backlogs(of) {
      const rows =
        'endpoint' in of
          ? await sql`select endpoint, cursor_seq, oldest::text from ${s}.backlogs where endpoint = ${of.endpoint}`
          : await sql`select b.endpoint, b.cursor_seq, b.oldest::text from ${s}.backlogs b
              join ${s}.endpoints e on e.no = b.endpoint
              where b.lane = any (${of.lanes as number[]}::smallint[])
                and e.active and e.disabled_at is null and e.deleted_at is null`
      return rows.map((row) => ({
        endpoint: row.endpoint as number,
        cursor: row.cursor_seq as number,
        oldest: row.oldest as string,
      }))
    },

    async endpointsWithRetries(lanes, dueMs) {
      const rows = await sql`select distinct endpoint from ${s}.retries
        where lane = any (${lanes as number[]}::smallint[]) and due_at <= to_timestamp(${dueMs / 1000}::float8)`
      return rows.map((row) => row.endpoint as number)
    },

    async dueRetries(after, limit) {
      const rows = await sql`with late as materialized (select ${s}.clock() t, ${s}.life() life)
        select late.life, late.t::text now, extract(epoch from late.t)::float8 * 1000 now_ms, r.* from late left join lateral (
          select endpoint, lane, delivery_id::text id, due_at::text due from ${s}.retries
          where (due_at, delivery_id) > (${after.due}::text::timestamptz, ${after.id}::uuid) and due_at <= late.t
          order by due_at, delivery_id limit ${limit}) r on true`
      const first = rows[0]!
      const due = rows
        .filter((row) => row.id !== null)
        .map((row) => ({
          endpoint: row.endpoint as number,
          lane: row.lane as number,
          id: row.id as string,
          due: row.due as string,
        }))
      return { now: first.now as string, nowMs: first.now_ms as number, life: first.life as string, rows: due }
    },
  }
}
