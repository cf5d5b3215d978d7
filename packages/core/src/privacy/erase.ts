/** Erasure of one account's, or one person's, data. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Sql } from '../storage/connection.ts'
import { checkSubject, type DataSubject } from './data-subject.ts'
import { type ErasedAccount, eraseRest, withdrawEndpoints } from './erase-account.ts'
import { type ErasedRows, eraseEvents, eraseLateRecords } from './erase-events.ts'
import { eraseTurns } from './erase-turns.ts'
import { findEvents } from './subject-events.ts'

/** Rows that this call erased. One that goes on after an interruption counts its own part. */
export interface Erasure extends ErasedRows, ErasedAccount {}

export interface EraseOptions {
  sql: Sql
  schema: string
  /** The longest that a send may take, in ms. */
  deadlineMs: number
  /** Something was told to the owners of lanes. */
  onChange(): void
}

/** For the owner of the lane to hear of it, and for an answer that came at the last moment to be recorded. */
const SLACK_MS = 2_000

/**
 * @throws {PosthasteError} `VALIDATION_FAILED`
 */
export async function erase(options: EraseOptions, given: DataSubject): Promise<Erasure> {
  const { sql, schema } = options
  const subject = checkSubject(given)
  const whole = subject.member === undefined ? subject.account : null
  const rows: ErasedRows = { events: 0, deliveries: 0, attempts: 0, idempotencyKeys: 0, notSent: 0 }
  if (whole !== null) {
    await withdrawEndpoints(sql, schema, whole)
    options.onChange()
  }
  for await (const ids of findEvents(sql, schema, subject)) {
    await eraseEvents(sql, schema, ids, rows)
    options.onChange()
  }
  await eraseTurns(sql, schema, whole)
  await sendsToEnd(options)
  rows.attempts += await eraseLateRecords(sql, schema)
  if (whole === null) return { ...rows, endpoints: 0, replays: 0, apiAnswers: 0 }
  const rest = await eraseRest(sql, schema, whole)
  return { ...rows, ...rest, idempotencyKeys: rows.idempotencyKeys + rest.idempotencyKeys }
}

/** Where something that was erased may be under way: until it must be over and recorded. */
async function sendsToEnd({ sql, schema, deadlineMs }: EraseOptions): Promise<void> {
  const s = sql(schema)
  const [row] = await sql`select exists (select from ${s}.workers where not fenced)
    and exists (select from ${s}.commands where kind in ('erased', 'deleted')) maybe`
  if (row!.maybe === true) await sleep(deadlineMs + SLACK_MS)
}
