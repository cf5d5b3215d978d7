/** The fence by itself: what an owner whose lanes were taken away may still do, and what a new owner makes of what it finds. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createEndpointWriter } from '../../packages/core/src/delivery/endpoint-writer.ts'
import type { Outcome } from '../../packages/core/src/delivery/recorded-outcome.ts'
import { createRecorder } from '../../packages/core/src/delivery/recorder.ts'
import { createLaneStore } from '../../packages/core/src/lanes/lane-store.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const SCHEMA = 'posthaste'
let receiver: Receiver
let host: UnderTest
let sql: Sql
beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest()
  sql = connect(host.database.url, 6)
})
afterAll(async () => {
  await sql.end({ timeout: 5 })
  await host.stop()
  await receiver.close()
})

const DELIVERY = '01900000-0000-7000-8000-000000000001'

function outcome(number: number): Outcome {
  return {
    item: { id: DELIVERY, endpoint: { no: 1 }, seq: 1, eventId: DELIVERY },
    retryStep: null,
    step: 0,
    attempt: {
      number,
      atMs: 0,
      signatures: '00',
      secretNumber: null,
      result: {
        kind: 'response',
        statusCode: 500,
        headers: {},
        retryAfter: null,
        excerpt: null,
        timings: { total: 1 },
      },
    },
    succeeded: false,
    final: false,
    again: false,
    besideSchedule: false,
    next: { step: 1, delayMs: 1_000 },
  } as unknown as Outcome
}

const rowsOf = async (table: string) => (await sql`select * from ${sql(`${SCHEMA}.${table}`)}`).length

describe('a fenced worker', () => {
  test('writes nothing any more: no attempt, retry, renewal, backlog, health, and takes no lane', async () => {
    const store = createLaneStore(sql, SCHEMA, 'test')
    const recorder = createRecorder(sql, SCHEMA)
    const writer = createEndpointWriter(sql, SCHEMA)
    const token = (await store.register('stale', 'test')) as number
    expect(await store.takeIdle(token, 3)).toHaveLength(3)
    expect(await recorder.record(token, [outcome(1)], 'failed')).toHaveLength(1)
    expect(await store.renew(token, 0, [0, 1, 2], [4, 5, 6])).toEqual({ seq: expect.any(Number), replica: false })
    expect(await store.fence(token)).toBe(3)
    // What it had said of its positions is where the next owner begins.
    const positions = await sql`select lane, position from posthaste.lanes where lane < 4 order by lane`
    expect(positions.map((row) => row.position)).toEqual([4, 5, 6, 0])

    expect(await recorder.record(token, [outcome(2)], 'failed')).toBeNull()
    expect([await rowsOf('attempts'), await rowsOf('retries')]).toEqual([1, 1])
    expect(await store.renew(token, 0, [0], [9])).toBeNull()
    expect(await store.takeIdle(token, 3)).toEqual([])
    const backlog = { endpoint: 1, lane: 1, cursor: 1, oldest: DELIVERY, reason: 'behind' }
    expect(await writer.writeBacklogs(token, [backlog], true)).toBe(false)
    const health = { endpoint: 1, epoch: 0, failingForMs: 1, backoffMs: 1, backoffLeftMs: 1 }
    expect(await writer.writeHealth(token, [health])).toBe(false)
    expect(await writer.dropDeleted(token, [1])).toBe(false)
    expect(await writer.disable(token, { no: 1, version: 1, health: { epoch: 0 } }, 'gone')).toBeNull()
    expect([await rowsOf('backlogs'), await rowsOf('endpoint_health'), await rowsOf('retries')]).toEqual([0, 0, 1])
    await sql`truncate posthaste.attempts, posthaste.retries, posthaste.workers`
    await sql`update posthaste.lanes set position = 0`
  })

  test('writes nothing in another life of the database either', async () => {
    const store = createLaneStore(sql, SCHEMA, 'test')
    const token = (await store.register('old', 'test')) as number
    const renewal = await store.renew(token, 0, [0], [1])
    await sql`update posthaste.workers set life = 'another/00000001'`
    expect(await createRecorder(sql, SCHEMA).record(token, [outcome(3)], 'failed')).toBeNull()
    expect(await createEndpointWriter(sql, SCHEMA).dropBacklogs(token, [1])).toBe(false)
    expect(await store.renew(token, renewal!.seq, [0], [9])).toBeNull()
    expect(await store.takeIdle(token, 3)).toEqual([])
    expect((await store.listWorkers()).map(({ gone }) => gone)).toEqual([true])
    await sql`truncate posthaste.workers, posthaste.renewals`
  })

  test('is fenced only when its write in flight is over, so that whoever takes its lanes sees it', async () => {
    const store = createLaneStore(sql, SCHEMA, 'test')
    const token = (await store.register('writing', 'test')) as number
    await store.takeIdle(token, 64)
    const writing = await sql.reserve()
    await writing`begin`
    await writing`select token from posthaste.workers where token = ${token} and not fenced for share`
    let fenced = false
    const fencing = store.fence(token).then(() => {
      fenced = true
    })
    await sleep(100)
    expect(fenced).toBe(false)
    expect(await store.takeIdle((await store.register('next', 'test')) as number, 64)).toEqual([])
    await writing`commit`
    writing.release()
    await fencing
    await sql`truncate posthaste.workers`
  })
})

test('an owner that begins further back sends nothing again that is recorded, and all that is not', async () => {
  await host.endpoint(receiver.url('/again'))
  await host.webhooks.start()
  await host.emit(1, 2, 3)
  await receiver.received('/again', 3)
  await host.settled()
  await host.webhooks.stop()
  // As if the last renewals had been lost, and with them one record.
  await sql`update posthaste.lanes set position = 0`
  await sql`delete from posthaste.attempts where delivery_id in (select d.id from posthaste.deliveries d
    join posthaste.events e on e.id = d.event_id where e.data = '{"n":2}')`
  const next = host.another()
  await next.start()
  await next.emit('test.happened', { n: 4 }, { tx: 'own' })
  await receiver.received('/again', 5)
  await sleep(300)
  expect(
    receiver
      .requests('/again')
      .map(({ data }) => data.n)
      .slice(3)
      .toSorted(),
  ).toEqual([2, 4])
})
