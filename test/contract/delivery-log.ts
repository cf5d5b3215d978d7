/** Events, deliveries and attempts as the dispatcher and the workers write them, for suites that have neither. */
import type { Sql } from '../../packages/core/src/storage/connection.ts'
import { SCHEMA } from './management-api.ts'

export interface SeededAttempt {
  succeeded: boolean
  /** Nothing follows by itself. */
  final: boolean
}

/** Emits an event of the type, has it dispatched, and records the attempts for each of its deliveries. Answers its id. */
export async function seedEvent(
  sql: Sql,
  account: string,
  type: string,
  attempts: readonly SeededAttempt[] = [],
  idempotencyKey: string | null = null,
): Promise<string> {
  const s = sql(SCHEMA)
  const [event] = await sql`insert into ${s}.events (account, type, data, idempotency_key)
    values (${account}, ${type}, '{"n":85.5}', ${idempotencyKey}) returning id::text`
  await dispatchAll(sql)
  for (const [index, { succeeded, final }] of attempts.entries()) {
    await sql`insert into ${s}.attempts (delivery_id, number, endpoint, seq, outcome, final, step, status, at, dns_ms, connect_ms,
        tls_ms, first_byte_ms, total_ms, signatures, error, response_headers, response_excerpt)
      select d.id, ${index + 1}, d.endpoint, d.seq, ${succeeded ? 1 : 2}, ${final}, ${index}, ${succeeded ? 200 : 503}, now(),
        1.5, 2, 3.25, 4, 11, decode('01' || repeat('ab', 96), 'hex'), ${succeeded ? null : 'HTTP_503'},
        ${succeeded ? null : '{"server":"test"}'}, ${succeeded ? null : 'busy'}
      from ${s}.deliveries d where d.event_id = ${event?.id}::uuid`
  }
  return `evt_${String(event?.id).replaceAll('-', '')}`
}

/** Everything that is committed. */
export async function dispatchAll(sql: Sql): Promise<void> {
  for (let more = true; more; ) {
    const [page] = await sql`select more from ${sql(SCHEMA)}.dispatch(1000, 2000)`
    // Nothing: another test of this process is dispatching at this moment.
    more = page === undefined || page.more === true
  }
}
