/** Attempts by schedule, under a clock that is moved: when the next one is due, what every attempt carries, and the end. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { AttemptInfo } from '@posthaste/core'
import { afterAll, beforeAll, describe, type ExpectStatic, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { type TestOptions, type UnderTest, underTest, uuidOf } from '../support/webhooks-under-test.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
/** The contract's schedule. */
const SCHEDULE = [5 * SECOND, 5 * MINUTE, 30 * MINUTE, ...[2, 5, 10, 14, 20, 24].map((hours) => hours * HOUR)]

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())

type OnEnd = (work: () => Promise<void>) => void

/** Tests run at the same time, since most of them mostly wait: each has a database and a path of its own. */
async function start(onEnd: OnEnd, options: TestOptions = {}): Promise<{ host: UnderTest; path: string }> {
  const host = await underTest(options)
  const path = `/${host.database.name}`
  onEnd(async () => {
    receiver.release(200, path)
    await host.stop()
  })
  await host.webhooks.start()
  return { host, path }
}

interface RetryRow {
  step: number
  number: number
  inMs: number
}

async function retries(host: UnderTest): Promise<RetryRow[]> {
  const rows = await host.sql`select step, number, extract(epoch from due_at - posthaste.clock())::float8 * 1000 "inMs"
    from posthaste.retries order by due_at`
  return rows as unknown as RetryRow[]
}

async function onlyRetry(expect: ExpectStatic, host: UnderTest): Promise<RetryRow> {
  await expect.poll(() => retries(host), { timeout: 5_000 }).toHaveLength(1)
  return (await retries(host))[0]!
}

async function attempts(host: UnderTest): Promise<Record<string, unknown>[]> {
  return [...(await host.sql`select * from posthaste.attempts order by delivery_id, number`)]
}

test.concurrent('the default schedule, step by step to its end', async ({ expect, onTestFinished }) => {
  const { host, path } = await start(onTestFinished)
  const seen: [name: string, event: AttemptInfo][] = []
  for (const name of ['attempt.failed', 'delivery.failed', 'delivery.succeeded'] as const) {
    host.webhooks.events.on(name, (event: AttemptInfo) => seen.push([name, event]))
  }
  receiver.answer(path, 500)
  const endpoint = await host.endpoint(receiver.url(path))
  const occurredAt = new Date('2024-01-20T14:30:00Z')
  await host.webhooks.emit('test.happened', { n: 1 }, { tx: 'own', occurredAt })
  for (const [step, delayMs] of SCHEDULE.entries()) {
    await receiver.received(path, step + 1)
    await expect
      .poll(() => onlyRetry(expect, host), { timeout: 5_000 })
      .toMatchObject({ step: step + 1, number: step + 2 })
    const retry = await onlyRetry(expect, host)
    // Up to a tenth later, never earlier; what has passed since it was written is far less than a second.
    expect(retry.inMs).toBeGreaterThan(delayMs - SECOND)
    expect(retry.inMs).toBeLessThanOrEqual(delayMs * 1.1)
    await host.moveTime(retry.inMs - 800)
    await sleep(150)
    expect(receiver.requests(path)).toHaveLength(step + 1)
    await host.moveTime(SECOND)
  }
  const requests = await receiver.received(path, 10)
  await expect.poll(() => seen.length).toBe(10)
  expect(await retries(host)).toEqual([])
  await host.moveTime(48 * HOUR)
  await sleep(250)
  expect(receiver.requests(path)).toHaveLength(10)

  expect(requests.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  // The same bytes each time, though the moment of the attempt is signed anew in webhook-signature.
  expect(new Set(requests.map(({ body }) => body.toString())).size).toBe(1)
  expect(JSON.parse(requests[0]!.body.toString()).timestamp).toBe(occurredAt.getTime() / 1000)
  expect(new Set(requests.map(({ headers }) => headers['x-webhook-signature'])).size).toBe(1)
  expect(new Set(requests.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
  expect(new Set(requests.map(({ deliveryId }) => deliveryId)).size).toBe(1)
  const times = requests.map(({ headers }) => Number(headers['webhook-timestamp']))
  for (const [index, delayMs] of SCHEDULE.entries()) {
    expect(times[index + 1]! - times[index]!).toBeGreaterThanOrEqual(Math.floor(delayMs / 1000) - 1)
  }

  expect(seen.map(([name]) => name)).toEqual([...Array(9).fill('attempt.failed'), 'delivery.failed'])
  expect(seen[9]![1]).toMatchObject({
    account: 'default',
    endpointId: endpoint.id,
    deliveryId: requests[0]!.deliveryId,
    eventId: requests[0]!.eventId,
    eventType: 'test.happened',
    attempt: 10,
    statusCode: 500,
    errorCode: 'HTTP_500',
  })
  const rows = await attempts(host)
  expect(rows.map(({ number, step, final, outcome }) => [number, step, final, outcome])).toEqual(
    Array.from({ length: 10 }, (_, index) => [index + 1, index, index === 9, 2]),
  )
}, 30_000)

test.concurrent('a success on the way ends it', async ({ expect, onTestFinished }) => {
  const { host, path } = await start(onTestFinished, { retrySchedule: ['1h', '2h', '3h'] })
  receiver.answer(path, ({ attempt }) => (attempt < 3 ? 503 : 204))
  await host.endpoint(receiver.url(path))
  await host.emit(1)
  for (const count of [1, 2]) {
    await receiver.received(path, count)
    await expect.poll(async () => (await retries(host))[0]?.number).toBe(count + 1)
    await host.moveTime(4 * HOUR)
  }
  await receiver.received(path, 3)
  await expect.poll(() => retries(host)).toEqual([])
  const rows = await attempts(host)
  expect(rows.map(({ final, outcome, status }) => [final, outcome, status])).toEqual([
    [false, 2, 503],
    [false, 2, 503],
    [true, 1, 204],
  ])
})

test.concurrent('schedules by event type, and an empty one', async ({ expect, onTestFinished }) => {
  const { host, path } = await start(onTestFinished, {
    retrySchedule: ['1h'],
    retrySchedules: { 'test.seen': ['2m'], 'test.marked': [] },
  })
  receiver.answer(path, 404)
  await host.endpoint(receiver.url(path), { events: ['test.*'] })
  await host.webhooks.emitMany(
    [
      { type: 'test.happened', data: { n: 1 } },
      { type: 'test.seen', data: { n: 2 } },
      { type: 'test.marked', data: { n: 3 } },
    ],
    { tx: 'own' },
  )
  await receiver.received(path, 3)
  await expect.poll(() => attempts(host)).toHaveLength(3)
  const [soon, later] = (await retries(host)) as [RetryRow, RetryRow]
  expect(soon.inMs).toBeGreaterThan(1.8 * MINUTE)
  expect(soon.inMs).toBeLessThan(2.2 * MINUTE)
  expect(later.inMs).toBeGreaterThan(0.9 * HOUR)
  expect((await attempts(host)).filter(({ final }) => final)).toHaveLength(1)
})

test.concurrent('a schedule without any pause misses no step', async ({ expect, onTestFinished }) => {
  const { host, path } = await start(onTestFinished, { retrySchedule: Array(20).fill(0) })
  receiver.answer(path, ({ attempt }) => (attempt <= 20 ? 422 : 200))
  await host.endpoint(receiver.url(path))
  await host.emit(...Array.from({ length: 20 }, (_, index) => index))
  await receiver.received(path, 20 * 21, 15_000)
  await expect.poll(() => retries(host)).toEqual([])
  const byDelivery = Object.groupBy(receiver.requests(path), ({ deliveryId }) => deliveryId)
  expect(Object.keys(byDelivery)).toHaveLength(20)
  for (const requests of Object.values(byDelivery)) {
    expect(requests!.map(({ attempt }) => attempt)).toEqual(Array.from({ length: 21 }, (_, index) => index + 1))
  }
}, 30_000)

describe.concurrent('Retry-After', () => {
  test('the later of it and the schedule; nonsense is ignored', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished)
    const cases: [name: string, status: number, value: string, from: number, to: number][] = [
      ['seconds, on 429', 429, '3600', HOUR, HOUR],
      ['seconds, on 503', 503, ' 3600 ', HOUR, HOUR],
      ['a date', 503, new Date(Date.now() + HOUR).toUTCString(), HOUR - 10 * SECOND, HOUR],
      ['more than a day', 503, '999999', 24 * HOUR, 24 * HOUR],
      ['more than a number holds', 429, '9'.repeat(400), 5 * SECOND, 5.5 * SECOND],
      ['less than the schedule', 503, '1', 5 * SECOND, 5.5 * SECOND],
      ['nonsense', 503, 'soon', 5 * SECOND, 5.5 * SECOND],
      ['Infinity', 503, 'inf', 5 * SECOND, 5.5 * SECOND],
      ['negative', 503, '-5', 5 * SECOND, 5.5 * SECOND],
      ['a date that has passed', 503, 'Wed, 21 Oct 2015 07:28:00 GMT', 5 * SECOND, 5.5 * SECOND],
      ['of another status', 500, '3600', 5 * SECOND, 5.5 * SECOND],
    ]
    for (const [index, [, status, value]] of cases.entries()) {
      receiver.answer(`${path}/${index}`, { status, headers: { 'Retry-After': value } })
      await host.endpoint(receiver.url(`${path}/${index}`))
    }
    await host.emit(1)
    await expect.poll(() => retries(host)).toHaveLength(cases.length)
    const rows = await host.sql`select e.url, extract(epoch from r.due_at - a.at)::float8 * 1000 after
      from posthaste.retries r join posthaste.endpoints e on e.no = r.endpoint
      join posthaste.attempts a on a.delivery_id = r.delivery_id`
    for (const [index, [name, , , from, to]] of cases.entries()) {
      const { after } = rows.find(({ url }) => url === receiver.url(`${path}/${index}`)) as unknown as { after: number }
      // Counted from the answer, which came a little after the attempt began.
      expect([name, after >= from, after <= to + 5 * SECOND]).toEqual([name, true, true])
    }
  })

  test('holds all deliveries of the endpoint, and none of another, until then', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished)
    receiver.answer(path, { status: 429, headers: { 'Retry-After': '3600' } })
    await host.endpoint(receiver.url(path))
    await host.endpoint(receiver.url(`${path}/other`))
    await host.emit(1)
    await receiver.received(path, 1)
    await onlyRetry(expect, host)
    receiver.answer(path, 200)
    await host.emit(2)
    await receiver.received(`${path}/other`, 2)
    // Long enough for the endpoint to be forgotten where it has nothing under way.
    await sleep(2_500)
    await host.emit(3)
    await receiver.received(`${path}/other`, 3)
    await sleep(300)
    expect(receiver.requests(path)).toHaveLength(1)
    await host.moveTime(1.2 * HOUR)
    await receiver.received(path, 4)
  })

  test('is known to a worker that takes over', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished)
    receiver.answer(path, { status: 503, headers: { 'Retry-After': '3600' } })
    await host.endpoint(receiver.url(path))
    await host.emit(1)
    await receiver.received(path, 1)
    await onlyRetry(expect, host)
    receiver.answer(path, 200)
    await host.webhooks.stop()
    const next = host.another()
    await next.start()
    await next.emit('test.happened', { n: 2 }, { tx: 'own' })
    await sleep(600)
    expect(receiver.requests(path)).toHaveLength(1)
    await host.moveTime(1.2 * HOUR)
    await receiver.received(path, 3)
  })
})

test.concurrent('a database clock that goes back makes nothing late', async ({ expect, onTestFinished }) => {
  const { host, path } = await start(onTestFinished, { retrySchedule: ['5s', '5s'] })
  receiver.answer(path, ({ attempt, data }) => (data.n === 0 ? 'hang' : attempt === 1 ? 404 : 200))
  await host.endpoint(receiver.url(path))
  await host.moveTime(HOUR)
  // Something under way, so that what the worker knows of the endpoint stays in memory.
  await host.emit(0)
  await host.emit(1)
  await receiver.received(path, 2)
  await onlyRetry(expect, host)
  await host.moveTime(6 * SECOND)
  await receiver.received(path, 3)
  await expect.poll(() => retries(host)).toEqual([])
  await host.moveTime(-HOUR)
  await host.emit(2)
  await receiver.received(path, 4)
  await onlyRetry(expect, host)
  await sleep(300)
  await host.moveTime(6 * SECOND)
  await receiver.received(path, 5, 3_000)
  receiver.release(200, path)
})

test.concurrent('a connection that the receiver closed while it was idle is no failure: tried at once on a fresh one', async ({
  expect,
  onTestFinished,
}) => {
  const { host, path } = await start(onTestFinished)
  await host.endpoint(receiver.url(path))
  await host.emit(1)
  await receiver.received(path, 1)
  receiver.answer(path, ({ attempt }) => (attempt === 1 ? 'reset' : 200))
  const [id] = await host.emit(2)
  await receiver.received(path, 3)
  await expect.poll(() => attempts(host)).toHaveLength(3)
  const rows = await host.sql`select a.number, a.step, a.outcome, a.final, a.error from posthaste.attempts a
    join posthaste.deliveries d on d.id = a.delivery_id where d.event_id = ${uuidOf(id!)} order by a.number`
  expect([...rows]).toEqual([
    { number: 1, step: 0, outcome: 2, final: false, error: 'CONNECTION_RESET' },
    { number: 2, step: 0, outcome: 1, final: true, error: null },
  ])
  expect(await retries(host)).toEqual([])
})
