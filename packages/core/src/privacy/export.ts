/** Everything that is kept of one account, or in events about one person, record by record. */
import { toPublicId } from '../ids.ts'
import type { Sql } from '../storage/connection.ts'
import { checkSubject, type DataSubject } from './data-subject.ts'
import { findEvents } from './subject-events.ts'

/** One record: what it is, and its members; `JSON.stringify` makes a line of NDJSON of it. */
export type ExportedRecord = {
  record: 'endpoint' | 'event' | 'delivery' | 'attempt' | 'replay' | 'idempotency_key' | 'api_answer'
} & Record<string, unknown>

const EVENTS_AT_ONCE = 100

/**
 * An account's endpoints, replays and keys first, then each event followed by its deliveries and their attempts, oldest first. No
 * secret is among them, nor a custom header's value, nor a kept answer of the API, which may hold a secret.
 *
 * @throws {PosthasteError} `VALIDATION_FAILED`
 */
export async function* exportData(sql: Sql, schema: string, given: DataSubject): AsyncGenerator<ExportedRecord, void> {
  const subject = checkSubject(given)
  if (subject.member === undefined) yield* exportAccount(sql, schema, subject.account)
  for await (const ids of findEvents(sql, schema, subject)) {
    for (let from = 0; from < ids.length; from += EVENTS_AT_ONCE) {
      yield* exportEvents(sql, schema, ids.slice(from, from + EVENTS_AT_ONCE))
    }
  }
}

/** RFC 3339 in UTC, whatever the session's time zone. */
const utc = (column: string) => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`

async function* exportAccount(sql: Sql, s: string, account: string): AsyncGenerator<ExportedRecord, void> {
  yield* listAll('endpoint', (after) =>
    sql.unsafe(
      `select no key, id::text, account, url, events, description, metadata::json metadata, active, disabled_reason, header_names,
        ordering, max_concurrency, rate_limit, rate_limit_per, ${utc('created_at')} created_at, ${utc('updated_at')} updated_at,
        ${utc('deleted_at')} deleted_at
      from ${s}.endpoints where account = $1 and no > $2 order by no limit 500`,
      [account, Number(after)],
    ),
  )
  yield* listAll('replay', (after) =>
    sql.unsafe(
      `select r.no key, r.id::text, p.id::text endpoint_id, r.which, ${utc('r.since')} since, ${utc('r.until')} until, r.status,
        r.total, r.done, ${utc('r.created_at')} created_at
      from ${s}.replays r join ${s}.endpoints p on p.no = r.endpoint where r.account = $1 and r.no > $2 order by r.no limit 500`,
      [account, Number(after)],
    ),
  )
  for (const [record, table] of [
    ['idempotency_key', 'idempotency_keys'],
    ['api_answer', 'api_idempotency'],
  ] as const) {
    yield* listAll(record, (after) =>
      sql.unsafe(
        `select key, key "named", ${utc('at')} at from ${s}.${table} where account = $1 and key > $2 order by key limit 500`,
        [account, after === '0' ? '' : after],
      ),
    )
  }
}

async function* listAll(
  record: ExportedRecord['record'],
  page: (after: string) => Promise<readonly Record<string, unknown>[]>,
): AsyncGenerator<ExportedRecord, void> {
  let after = '0'
  for (;;) {
    const rows = await page(after)
    for (const { key: _, named, ...members } of rows) {
      yield { record, ...(named === undefined ? {} : { key: named }), ...publicIds(record, members) }
    }
    const last = rows.at(-1)
    if (last === undefined) return
    after = String(last.key)
  }
}

async function* exportEvents(sql: Sql, s: string, ids: string[]): AsyncGenerator<ExportedRecord, void> {
  const events = await sql.unsafe(
    `select e.id::text, e.account, e.type, e.data, ${utc(`coalesce(e.occurred_at, ${s}.id_time(e.id))`)} occurred_at, e.idempotency_key,
      (select u.first_id::text from ${s}.duplicates u where u.event_id = e.id) duplicate_of
    from ${s}.events e where e.id = any ($1::uuid[]) order by e.id`,
    [ids as never],
  )
  for (const { data, duplicate_of, ...event } of events) {
    const duplicateOf = duplicate_of === null ? null : toPublicId('evt', duplicate_of as string)
    yield {
      record: 'event',
      ...publicIds('event', event),
      duplicate_of: duplicateOf,
      data: JSON.parse(data as string) as unknown,
    }
    yield* exportDeliveries(sql, s, event.id as string)
  }
}

async function* exportDeliveries(sql: Sql, s: string, event: string): AsyncGenerator<ExportedRecord, void> {
  let after = '00000000-0000-0000-0000-000000000000'
  for (;;) {
    const deliveries = await sql.unsafe(
      `select d.id::text, p.id::text endpoint_id, d.event_id::text,
        (select ${utc('min(r.due_at)')} from ${s}.retries r where r.delivery_id = d.id) next_attempt_at
      from ${s}.deliveries d join ${s}.endpoints p on p.no = d.endpoint
      where d.id >= ${s}.first_delivery_id($1) and d.id <= ${s}.last_delivery_id($1) and d.event_id = $1 and d.id > $2
      order by d.id limit 500`,
      [event, after],
    )
    if (deliveries.length === 0) return
    after = deliveries.at(-1)!.id as string
    const attempts = await sql.unsafe(
      `select a.delivery_id::text, a.number, (array['succeeded', 'failed', 'expired', 'cancelled'])[a.outcome] outcome,
        a.final, a.status status_code, ${utc('a.at')} at, a.error error_code, a.detail error_message, a.total_ms, a.response_headers, a.response_excerpt
      from ${s}.attempts a where a.delivery_id = any ($1::uuid[]) order by a.delivery_id, a.number`,
      [deliveries.map((row) => row.id as string) as never],
    )
    for (const delivery of deliveries) {
      yield { record: 'delivery', ...publicIds('delivery', delivery) }
      for (const attempt of attempts.filter((one) => one.delivery_id === delivery.id)) {
        const { response_headers: headers, ...members } = attempt
        const responseHeaders = headers === null ? null : (JSON.parse(headers as string) as unknown)
        yield { record: 'attempt', ...publicIds('attempt', members), response_headers: responseHeaders }
      }
    }
  }
}

const OWN = { endpoint: 'ep', event: 'evt', delivery: 'dlv', replay: 'rpl' } as const

function publicIds(record: ExportedRecord['record'], row: Record<string, unknown>): Record<string, unknown> {
  const members = { ...row }
  if (record in OWN) members.id = toPublicId(OWN[record as keyof typeof OWN], members.id as string)
  for (const [member, kind] of [
    ['endpoint_id', 'ep'],
    ['event_id', 'evt'],
    ['delivery_id', 'dlv'],
  ] as const) {
    if (typeof members[member] === 'string') members[member] = toPublicId(kind, members[member])
  }
  return members
}
