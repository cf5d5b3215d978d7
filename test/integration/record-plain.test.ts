/** Plain successes are written by columns of their own: what is recorded of them must be what the general way records. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { EndpointState } from '../../packages/core/src/delivery/endpoint-state.ts'
import { isPlainSuccess } from '../../packages/core/src/delivery/plain-successes.ts'
import type { Outcome } from '../../packages/core/src/delivery/recorded-outcome.ts'
import { createRecorder, type Recorder } from '../../packages/core/src/delivery/recorder.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const EVENT = '01900000-0000-7000-8000-000000000001'
const NO_CONNECT = { dns: null, connect: null, tls: null }
/** `all` goes the general way. Nothing of these answers is kept by it either: there are no headers and no excerpt. */
const KEEP = { plainly: 'failed', generally: 'all' } as const

let host: UnderTest
let sql: Sql
let recorder: Recorder
let token: number
beforeAll(async () => {
  host = await underTest()
  sql = connect(host.database.url, 1)
  recorder = createRecorder(sql, 'posthaste')
  const [row] = await host.sql`insert into posthaste.workers (name, version, life)
    values ('test', '0', posthaste.life()) returning token::int`
  token = row!.token as number
})
afterAll(async () => {
  await sql.end()
  await host.stop()
})

interface Case {
  endpoint?: number
  seq?: number
  number?: number
  step?: number | null
  statusCode?: number
  atMs?: number
  timings?: object
  secretNumber?: number
}

/** Delivery number `row` of those that are recorded in a certain way. */
function success(row: number, way: keyof typeof KEEP, given: Case): Outcome {
  const {
    endpoint = 1,
    seq = 1,
    number = 1,
    step = 0,
    statusCode = 200,
    atMs = 1,
    secretNumber = 1,
    timings = {},
  } = given
  const id = `01900000-0000-8000-${way === 'plainly' ? '8000' : '9000'}-${String(row).padStart(12, '0')}`
  const item = { endpoint: new EndpointState(endpoint, 0, EVENT), id, seq, eventId: EVENT }
  const result = { kind: 'response', statusCode, headers: {}, excerpt: null, retryAfter: null }
  const attempt = {
    number,
    atMs,
    signatures: null,
    secretNumber,
    result: { ...result, timings: { ...NO_CONNECT, firstByte: 1, total: 2, ...timings } },
  }
  const outcome = { item, attempt, step, retryStep: null, succeeded: true, final: true, again: false, next: null }
  return { ...outcome, besideSchedule: false } as unknown as Outcome
}

const CASES: Case[] = [
  {},
  { endpoint: 2_147_483_647, seq: 9_007_199_254_740_991, number: 32, step: 9, statusCode: 204 },
  { step: null },
  { atMs: 1_795_822_698_464.125, secretNumber: 2 },
  { timings: { dns: 0.01, connect: 12.34, tls: 56.78, firstByte: 0, total: 14_999.99 } },
  { timings: { firstByte: null, total: 0 } },
]

test('is the same, member by member, as what the general way records', async () => {
  for (const way of ['plainly', 'generally'] as const) {
    const outcomes = CASES.map((given, row) => success(row, way, given))
    expect(outcomes.map((outcome) => isPlainSuccess(outcome, KEEP[way]))).toEqual(CASES.map(() => way === 'plainly'))
    expect(await recorder.record(token, outcomes, KEEP[way])).toEqual([])
  }
  const rows = (
    group: string,
  ) => host.sql`select number, endpoint, seq::text, outcome, final, step, status, at::text, dns_ms,
      connect_ms, tls_ms, first_byte_ms, total_ms, signatures, secret_number, error, detail, response_excerpt
    from posthaste.attempts where substr(delivery_id::text, 20, 1) = ${group} order by delivery_id`
  const plain = await rows('8')
  expect(plain).toHaveLength(CASES.length)
  expect(plain).toEqual(await rows('9'))
})

test('beside others in one statement, all are written; repeated, nothing changes', async () => {
  const failed = { ...success(100, 'plainly', {}), succeeded: false, final: false, next: { step: 1, delayMs: 60_000 } }
  const batch = [success(101, 'plainly', {}), failed, success(102, 'plainly', { statusCode: 299 })]
  const first = await recorder.record(token, batch, 'failed')
  expect(first).toHaveLength(1)
  const written = () => host.sql`select delivery_id, outcome, status from posthaste.attempts
    where delivery_id >= '01900000-0000-8000-8000-000000000100' and delivery_id < '01900000-0000-8000-9000-000000000000' order by 1`
  expect((await written()).map(({ outcome, status }) => [outcome, status])).toEqual([
    [2, 200],
    [1, 200],
    [1, 299],
  ])
  expect(await recorder.record(token, batch, 'failed')).toEqual(first)
  expect(await written()).toHaveLength(3)
})

test('only what succeeded at once and needs nothing else is plain', () => {
  const plain = success(200, 'plainly', {})
  const others: Partial<Outcome>[] = [
    { succeeded: false },
    { final: false },
    { retryStep: 1 },
    { next: { step: 1, delayMs: 0 } },
    { besideSchedule: true },
    { again: true },
    { attempt: { ...plain.attempt, secretNumber: null, signatures: '00' } },
  ]
  expect(isPlainSuccess(plain, 'failed')).toBe(true)
  expect(isPlainSuccess(plain, 'none')).toBe(true)
  for (const other of others) expect(isPlainSuccess({ ...plain, ...other }, 'failed')).toBe(false)
})

test('of a worker that was fenced nothing is written', async () => {
  const [row] = await host.sql`insert into posthaste.workers (name, version, life, fenced)
    values ('fenced', '0', posthaste.life(), true) returning token::int`
  expect(await recorder.record(row!.token as number, [success(300, 'plainly', {})], 'failed')).toBeNull()
  expect(
    await host.sql`select from posthaste.attempts where delivery_id = '01900000-0000-8000-8000-000000000300'`,
  ).toHaveLength(0)
})
