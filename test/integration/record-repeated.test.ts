/** A record that is carried out twice, the second time after what followed from it: as a lost connection may have it. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { EndpointState } from '../../packages/core/src/delivery/endpoint-state.ts'
import type { Outcome } from '../../packages/core/src/delivery/recorded-outcome.ts'
import { createRecorder } from '../../packages/core/src/delivery/recorder.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const DELIVERY = '01900000-0000-8000-8000-000000000001'
const EVENT = '01900000-0000-7000-8000-000000000001'

let host: UnderTest
let sql: Sql
let token: number
beforeAll(async () => {
  host = await underTest()
  sql = connect(host.database.url, 1)
  const [row] = await host.sql`insert into posthaste.workers (name, version, life)
    values ('test', '0', posthaste.life()) returning token::int`
  token = row!.token as number
})
afterAll(async () => {
  await sql.end()
  await host.stop()
})

function outcome(number: number, succeeded: boolean): Outcome {
  const step = number - 1
  const item = {
    endpoint: new EndpointState(1, 0, EVENT),
    id: DELIVERY,
    seq: 1,
    eventId: EVENT,
    type: 'test.happened',
    dataText: '{}',
    occurredAtMs: 0,
    envelope: 0 as const,
    number,
    step,
    retryStep: step === 0 ? null : step,
    recorded: false,
    usePrevious: null,
    freshConnection: false,
    manual: null,
  }
  const result = {
    kind: 'response' as const,
    statusCode: succeeded ? 200 : 500,
    headers: [],
    excerpt: null,
    retryAfter: null,
    timings: { dns: null, connect: null, tls: null, firstByte: 1, total: 1 },
  }
  return {
    item,
    retryStep: item.retryStep,
    step,
    attempt: {
      number,
      atMs: 0,
      usedPrevious: false,
      configVersion: 1,
      hadOther: false,
      signatures: '',
      secretNumber: null,
      result,
    },
    succeeded,
    final: succeeded,
    again: false,
    next: succeeded ? null : { step: step + 1, delayMs: 60_000 },
    besideSchedule: false,
  } as unknown as Outcome
}

test('repeated at once it answers the retry that it wrote; carried out late it brings none back', async () => {
  const recorder = createRecorder(sql, 'posthaste')
  const retries = () => host.sql`select number, step from posthaste.retries`
  const first = await recorder.record(token, [outcome(1, false)], 'failed')
  expect(first).toHaveLength(1)
  expect(await retries()).toEqual([{ number: 2, step: 1 }])
  expect(await recorder.record(token, [outcome(1, false)], 'failed')).toEqual(first)
  await recorder.record(token, [outcome(2, true)], 'failed')
  expect(await retries()).toEqual([])
  expect(await recorder.record(token, [outcome(1, false)], 'failed')).toEqual([])
  expect(await retries()).toEqual([])
  expect(await host.sql`select number, outcome from posthaste.attempts order by number`).toEqual([
    { number: 1, outcome: 2 },
    { number: 2, outcome: 1 },
  ])
})
