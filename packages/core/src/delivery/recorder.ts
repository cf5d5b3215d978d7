import { laneOf } from '../lanes/lane-number.ts'
import type { Sql } from '../storage/connection.ts'
import { isPlainSuccess, plainSuccessArrays, plainSuccessRows } from './plain-successes.ts'
import type { Outcome } from './recorded-outcome.ts'

/** A retry that was written: when it is due, in ms since 1970 by the database's clock. */
export interface WrittenRetry {
  endpoint: number
  dueMs: number
}

export interface Recorder {
  /**
   * Writes attempts, removes the retries they came from and adds those that follow, in one statement that is fenced by our
   * worker row. Null: fenced, nothing was written. May be repeated with the same outcomes after a lost connection, and does
   * nothing where the attempt is written already: a first try may be carried out after its repetition and what came of it.
   */
  record(
    token: number,
    outcomes: readonly Outcome[],
    keepResponses: 'failed' | 'all' | 'none',
  ): Promise<WrittenRetry[] | null>
}

const SUCCEEDED = 1
const FAILED = 2

export function createRecorder(sql: Sql, schema: string): Recorder {
  const s = schema
  const statement = `with me as (select token from ${s}.workers where token = $1::bigint and not fenced and life = ${s}.life() for share),
    r as materialized (select x.* from me, json_to_recordset($2::text::json) x(
      d uuid, n int, e int, o smallint, f boolean, st smallint, c smallint, at float8, td real, tc real, tt real, tf real,
      t real, g text, sn int, er text, de text, rh text, rx text, rs smallint, nx smallint, nd float8, ln smallint, sq bigint, ev uuid, m boolean)),
    plain as (
      insert into ${s}.attempts (delivery_id, number, endpoint, outcome, final, step, status, at, dns_ms, connect_ms, tls_ms,
        first_byte_ms, total_ms, secret_number)
      select delivery_id, number, endpoint, ${SUCCEEDED}, true, step, status, to_timestamp(at / 1000), dns, connect, tls, first_byte,
        total, nullif(secret_number, 1) from me, ${plainSuccessRows(3)}
      on conflict do nothing),
    written as (
      insert into ${s}.attempts (delivery_id, number, endpoint, seq, outcome, final, step, status, at, dns_ms, connect_ms, tls_ms,
        first_byte_ms, total_ms, signatures, secret_number, error, detail, response_headers, response_excerpt)
      select d, n, e, case when o <> ${SUCCEEDED} then sq end, o, f, st, c, to_timestamp(at / 1000), td, tc, tt, tf, t, decode(g, 'hex'), nullif(sn, 1), er, de, rh, rx from r
      on conflict do nothing returning delivery_id d),
    gone as (
      delete from ${s}.retries q using r join written using (d)
      where q.delivery_id = r.d and ((q.step = r.rs and r.nx is distinct from r.rs) or (r.m and r.o = ${SUCCEEDED}))),
    renumbered as (
      update ${s}.retries q set number = greatest(q.number, r.n + 1) from r join written using (d)
      where r.m and r.o <> ${SUCCEEDED} and q.delivery_id = r.d),
    due as (
      insert into ${s}.retries as q (delivery_id, step, endpoint, lane, seq, event_id, number, due_at)
      select d, nx, e, ln, sq, ev, n + 1, ${s}.clock() + nd * interval '1 millisecond' from r join written using (d) where nx is not null
      on conflict (delivery_id, step) do update set number = greatest(q.number, excluded.number), due_at = excluded.due_at
      returning endpoint, due_at)
    select (select count(*) from me)::int alive, null::int endpoint, null::float8 due_ms
    union all select null, endpoint, extract(epoch from due_at)::float8 * 1000 from due
    union all select null, q.endpoint, extract(epoch from q.due_at)::float8 * 1000
      from (select d, nx from r where nx is not null and not exists (select from written w where w.d = r.d)) before
      cross join lateral (select x.* from ${s}.retries x where x.delivery_id = before.d and x.step = before.nx limit 1) q`
  return {
    async record(token, outcomes, keepResponses) {
      const [plain, others]: [Outcome[], Outcome[]] = [[], []]
      for (const outcome of outcomes) (isPlainSuccess(outcome, keepResponses) ? plain : others).push(outcome)
      const values = [token, toJson(others, keepResponses), ...plainSuccessArrays(plain)]
      const rows = await sql.unsafe(statement, values, { prepare: true })
      let alive = false
      const written: WrittenRetry[] = []
      for (const row of rows) {
        if (row.alive !== null) alive = (row.alive as number) > 0
        else written.push({ endpoint: row.endpoint as number, dueMs: row.due_ms as number })
      }
      return alive ? written : null
    },
  }
}

/** Members that are null or false by nature are left out: most attempts are successes with few of them. */
function toJson(outcomes: readonly Outcome[], keepResponses: 'failed' | 'all' | 'none'): string {
  return JSON.stringify(
    outcomes.map(({ item, retryStep, step, attempt, succeeded, final, next, besideSchedule }) => {
      const { result } = attempt
      const { timings } = result
      const keep = keepResponses === 'all' || (keepResponses === 'failed' && !succeeded)
      return {
        d: item.id,
        n: attempt.number,
        e: item.endpoint.no,
        sq: item.seq,
        o: succeeded ? SUCCEEDED : FAILED,
        f: final,
        st: step ?? undefined,
        c: result.kind === 'response' ? result.statusCode : undefined,
        at: attempt.atMs,
        td: timings.dns ?? undefined,
        tc: timings.connect ?? undefined,
        tt: timings.tls ?? undefined,
        tf: timings.firstByte ?? undefined,
        t: timings.total,
        g: attempt.signatures ?? undefined,
        sn: attempt.secretNumber ?? undefined,
        er: result.kind === 'error' ? result.code : succeeded ? undefined : `HTTP_${result.statusCode}`,
        de: result.kind === 'error' ? cleanText(result.message) : undefined,
        rh: result.kind === 'response' && keep ? cleanText(JSON.stringify(result.headers)) : undefined,
        rx: result.kind === 'response' && keep && result.excerpt !== null ? cleanText(result.excerpt) : undefined,
        rs: retryStep ?? undefined,
        nx: next?.step,
        nd: next?.delayMs,
        m: besideSchedule || undefined,
        ...(next === null ? {} : { ln: laneOf(item.endpoint.no), ev: item.eventId }),
      }
    }),
  )
}

/** Postgres' text holds neither NUL nor lone surrogates; what a receiver answers may hold both. */
function cleanText(text: string): string {
  return text.replaceAll('\u0000', '\ufffd').toWellFormed()
}
