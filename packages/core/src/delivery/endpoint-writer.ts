import type { Sql } from '../storage/connection.ts'
import { workerFence } from '../storage/worker-fence.ts'

export interface BacklogWrite {
  endpoint: number
  lane: number
  cursor: number
  oldest: string
  reason: string
}

export interface HealthWrite {
  endpoint: number
  epoch: number
  failingForMs: number | null
  backoffMs: number | null
  backoffLeftMs: number | null
}

/** The endpoint as it was when it failed: every change by its owner counts the version up, enabling also the epoch. */
export interface DisableKey {
  no: number
  version: number
  health: { epoch: number }
}

/**
 * What a lane's owner changes of an endpoint, on transitions only. Each statement is fenced by the worker's row: false says
 * that this worker was fenced, and nothing was written.
 */
export interface EndpointWriter {
  /** Notes endpoints that are behind. `exact`: the cursor is this one; else an older row's lower cursor stays. */
  writeBacklogs(token: number, rows: readonly BacklogWrite[], exact: boolean): Promise<boolean>
  dropBacklogs(token: number, endpoints: readonly number[]): Promise<boolean>
  writeHealth(token: number, rows: readonly HealthWrite[]): Promise<boolean>
  /** Removes what waited for deleted endpoints; their deliveries show as cancelled by themselves. */
  dropDeleted(token: number, endpoints: readonly number[]): Promise<boolean>
  /** The secret that the receiver accepted last, while two are valid. */
  rememberSecret(token: number, endpoint: number, version: number, usePrevious: boolean): Promise<boolean>
  /**
   * Disables an endpoint, unless it was changed since the failures that speak against it. Answers
   * whether it did; null when fenced.
   */
  disable(token: number, endpoint: DisableKey, reason: 'gone' | 'failing'): Promise<boolean | null>
}

export function createEndpointWriter(sql: Sql, schema: string): EndpointWriter {
  const s = sql(schema)
  const me = workerFence(sql, schema)
  const alive = (rows: readonly { alive?: unknown }[]) => (rows[0]?.alive as number) > 0
  return {
    async writeBacklogs(token, rows, exact) {
      const cursor = exact ? sql`excluded.cursor_seq` : sql`least(b.cursor_seq, excluded.cursor_seq)`
      const oldest = exact ? sql`excluded.oldest` : sql`least(b.oldest, excluded.oldest)`
      return alive(
        await sql`with ${me(token)}, written as (
            insert into ${s}.backlogs as b (endpoint, lane, cursor_seq, oldest, reason)
            select x.* from me, unnest(${rows.map((row) => row.endpoint)}::int[], ${rows.map((row) => row.lane)}::smallint[],
              ${rows.map((row) => row.cursor)}::bigint[], ${rows.map((row) => row.oldest)}::uuid[],
              ${rows.map((row) => row.reason)}::text[]) x
            on conflict (endpoint) do update set cursor_seq = ${cursor}, oldest = ${oldest}, reason = excluded.reason)
          select count(*)::int alive from me`,
      )
    },

    async dropBacklogs(token, endpoints) {
      return alive(
        await sql`with ${me(token)}, gone as (
            delete from ${s}.backlogs using me where endpoint = any (${endpoints as number[]}::int[]))
          select count(*)::int alive from me`,
      )
    },

    async writeHealth(token, rows) {
      return alive(
        await sql`with ${me(token)}, written as (
            insert into ${s}.endpoint_health as h (endpoint, epoch, failing_since, backoff_ms, backoff_until)
            select x.endpoint, x.epoch, ${s}.clock() - x.failing * interval '1 millisecond', x.backoff,
              ${s}.clock() + x.remaining * interval '1 millisecond'
            from me, unnest(${rows.map((row) => row.endpoint)}::int[], ${rows.map((row) => row.epoch)}::int[],
              ${rows.map((row) => row.failingForMs)}::float8[], ${rows.map((row) => row.backoffMs)}::int[],
              ${rows.map((row) => row.backoffLeftMs)}::float8[]) x(endpoint, epoch, failing, backoff, remaining)
            on conflict (endpoint) do update set failing_since = excluded.failing_since, backoff_ms = excluded.backoff_ms,
              backoff_until = excluded.backoff_until where h.epoch = excluded.epoch)
          select count(*)::int alive from me`,
      )
    },

    async dropDeleted(token, endpoints) {
      return alive(
        await sql`with ${me(token)}, retries as (
            delete from ${s}.retries using me where endpoint = any (${endpoints as number[]}::int[])),
          backlogs as (delete from ${s}.backlogs using me where endpoint = any (${endpoints as number[]}::int[]))
          select count(*)::int alive from me`,
      )
    },

    async rememberSecret(token, endpoint, version, usePrevious) {
      return alive(
        await sql`with ${me(token)}, written as (
            update ${s}.endpoints set previous_accepted = ${usePrevious} from me
            where no = ${endpoint} and version = ${version} and previous_accepted <> ${usePrevious})
          select count(*)::int alive from me`,
      )
    },

    async disable(token, { no, version, health }, reason) {
      const [row] = await sql`with ${me(token)}, disabled as (
          update ${s}.endpoints e set disabled_at = ${s}.clock(), disabled_reason = ${reason}, version = version + 1,
            updated_at = ${s}.clock()
          from me where e.no = ${no} and e.version = ${version} and e.disabled_at is null and e.deleted_at is null
            and coalesce((select h.epoch from ${s}.endpoint_health h where h.endpoint = e.no), 0) = ${health.epoch}
          returning e.no),
        unsubscribed as (delete from ${s}.subscriptions u using disabled where u.endpoint = disabled.no),
        told as (insert into ${s}.commands (kind, endpoint) select 'config', no from disabled)
        select count(*)::int alive, (select count(*)::int from disabled) disabled from me`
      if ((row!.alive as number) === 0) return null
      return (row!.disabled as number) > 0
    },
  }
}
