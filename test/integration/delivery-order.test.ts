/** Who is sent to when: order, limits, and endpoints that hang or fail while others work. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { type TestOptions, type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const DAY = 86_400_000

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())

type OnEnd = (work: () => Promise<void>) => void

/** Tests run at the same time, since most of them mostly wait: each has a database and a path of its own. */
async function prepare(onEnd: OnEnd, options: TestOptions = {}): Promise<{ host: UnderTest; path: string }> {
  const host = await underTest(options)
  const path = `/${host.database.name}`
  onEnd(async () => {
    receiver.release(200, path)
    await host.stop()
  })
  return { host, path }
}

async function start(onEnd: OnEnd, options: TestOptions = {}): Promise<{ host: UnderTest; path: string }> {
  const prepared = await prepare(onEnd, options)
  await prepared.host.webhooks.start()
  return prepared
}

const numbers = (of: string) => receiver.requests(of).map(({ data }) => data.n as number)
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

describe.concurrent('first in, first out', () => {
  test('one at a time, in the order of dispatch, and nothing passes one that failed', async ({
    expect,
    onTestFinished,
  }) => {
    const { host, path } = await start(onTestFinished, { retrySchedule: [30, 30, 30, 30, 30] })
    const failed = new Map<number, number>()
    let under = 0
    let most = 0
    receiver.answer(path, async ({ data }) => {
      under++
      most = Math.max(most, under)
      await sleep(2)
      under--
      const n = data.n as number
      const failures = failed.get(n) ?? 0
      // Every third fails once or twice, with what says down and what does not; every tenth until the end.
      if (n % 10 === 0 || (n % 3 === 0 && failures < 1 + (n % 2))) {
        failed.set(n, failures + 1)
        return n % 2 === 0 ? 422 : 404
      }
      return 200
    })
    await host.endpoint(receiver.url(path), { ordering: 'fifo' })
    for (let n = 0; n < 40; n += 4) await host.emit(...range(n + 1, n + 4))
    // The last one fails until its schedule ends.
    await expect.poll(() => numbers(path).filter((n) => n === 40).length, { timeout: 60_000 }).toBe(6)
    await expect.poll(async () => (await host.sql`select * from posthaste.retries`).length).toBe(0)
    const expected = range(1, 40).flatMap((n) => {
      const attempts = n % 10 === 0 ? 6 : n % 3 === 0 ? (failed.get(n) ?? 0) + 1 : 1
      return Array<number>(attempts).fill(n)
    })
    expect(numbers(path)).toEqual(expected)
    expect(most).toBe(1)
  }, 80_000)

  test('what waits behind a failure waits through a restart', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished, { retrySchedule: ['1h'] })
    receiver.answer(path, ({ data, attempt }) => (data.n === 3 && attempt === 1 ? 404 : 200))
    await host.endpoint(receiver.url(path), { ordering: 'fifo' })
    await host.emit(...range(1, 6))
    await receiver.received(path, 3)
    await expect.poll(async () => (await host.sql`select * from posthaste.retries`).length).toBe(1)
    await host.webhooks.stop()
    const next = host.another()
    await next.start()
    await next.emit('test.happened', { n: 7 }, { tx: 'own' })
    await sleep(500)
    expect(numbers(path)).toEqual([1, 2, 3])
    await host.moveTime(2 * 3_600_000)
    await receiver.received(path, 8)
    expect(numbers(path)).toEqual([1, 2, 3, 3, 4, 5, 6, 7])
  })

  test('what waits behind a failure of a receiver that is down goes on after a restart, in order', async ({
    expect,
    onTestFinished,
  }) => {
    const { host, path } = await start(onTestFinished, { retrySchedule: ['1ms', '1ms'] })
    receiver.answer(path, 503)
    const { id } = await host.endpoint(receiver.url(path), { ordering: 'fifo' })
    await host.emit(...range(1, 6))
    // It is backed off after five failures of two deliveries: all three attempts at 1, and two at 2.
    await expect
      .poll(async () => (await host.webhooks.endpoints.get('default', id)).status, { timeout: 10_000 })
      .toBe('degraded')
    await host.webhooks.stop()
    receiver.answer(path, 200)
    const before = receiver.requests(path).length
    const next = host.another()
    await next.start()
    await host.moveTime(2 * 3_600_000)
    await receiver.received(path, before + 5)
    expect(numbers(path)).toEqual([1, 1, 1, 2, 2, 2, 3, 4, 5, 6])
  })

  test('a held endpoint goes on in order', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished, { retrySchedule: ['1h'] })
    receiver.answer(path, 410)
    const { id } = await host.endpoint(receiver.url(path), { ordering: 'fifo' })
    await host.emit(...range(1, 5))
    await receiver.received(path, 1)
    await expect.poll(async () => (await host.webhooks.endpoints.get('default', id)).status).toBe('disabled')
    receiver.answer(path, 200)
    await sleep(1_200)
    await host.webhooks.endpoints.update('default', id, { active: true })
    await receiver.received(path, 6)
    expect(numbers(path)).toEqual([1, 1, 2, 3, 4, 5])
  })
})

describe.concurrent('limits', () => {
  test('max_concurrency holds, and is used', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished)
    let under = 0
    let most = 0
    receiver.answer(path, async () => {
      under++
      most = Math.max(most, under)
      await sleep(10)
      under--
      return 200
    })
    await host.endpoint(receiver.url(path), { max_concurrency: 3 })
    await host.emit(...range(1, 100))
    await receiver.received(path, 100)
    expect(most).toBe(3)
  })

  test('rate_limit: never more in any second, and about as many', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished)
    const { id } = await host.endpoint(receiver.url(path), { rate_limit: { limit: 20, per: 'second' } })
    await host.endpoint(receiver.url(`${path}/free`))
    await host.emit(...range(1, 60))
    await receiver.received(`${path}/free`, 60)
    // The other one did not wait for it.
    expect(numbers(path).length).toBeLessThan(60)
    const requests = await receiver.received(path, 60)
    const took = requests.at(-1)!.at - requests[0]!.at
    for (const [index, { at }] of requests.entries()) {
      const within = requests.slice(index).filter((other) => other.at < at + 1_000).length
      // A second's worth may be saved up, and spent in front of the next.
      expect(within).toBeLessThanOrEqual(40)
    }
    expect(took).toBeGreaterThan(1_500)
    expect(took).toBeLessThan(6_000)
    expect(numbers(path).toSorted((a, b) => a - b)).toEqual(range(1, 60))
    expect((await host.webhooks.endpoints.get('default', id)).status).toBe('active')
  })
})

describe.concurrent('endpoints that do not work', () => {
  test('one that hangs holds up no other, and its deliveries are retried', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished, {
      http: { deadline: '8s' },
      worker: { lease: '11s', concurrency: 20 },
    })
    receiver.answer(path, 'hang')
    for (let n = 0; n < 3; n++) await host.endpoint(receiver.url(path))
    await host.endpoint(receiver.url(`${path}/well`))
    await host.emit(...range(1, 30))
    await receiver.received(`${path}/well`, 30, 8_000)
    // Before the first of those that hang has timed out.
    expect(await host.sql`select from posthaste.attempts where outcome = 2`).toHaveLength(0)
    await expect
      .poll(async () => (await host.sql`select error from posthaste.attempts where outcome = 2`)[0]?.error, {
        timeout: 15_000,
      })
      .toBe('TIMEOUT')
  }, 40_000)

  test('five failures in a row, of two deliveries, back it off; one probe at a time, and a success ends it', async ({
    expect,
    onTestFinished,
  }) => {
    const { host, path } = await start(onTestFinished, { retrySchedule: ['1h'] })
    const heard: string[] = []
    host.webhooks.events.on('endpoint.degraded', ({ retryInMs }) =>
      heard.push(`degraded ${Math.round(retryInMs / 1_000)}`),
    )
    host.webhooks.events.on('endpoint.recovered', () => heard.push('recovered'))
    receiver.answer(path, 500)
    const { id } = await host.endpoint(receiver.url(path), { max_concurrency: 1 })
    await host.emit(...range(1, 20))
    await receiver.received(path, 5)
    await expect.poll(() => heard).toEqual(['degraded 10'])
    await sleep(1_300)
    expect(receiver.requests(path)).toHaveLength(5)
    expect((await host.webhooks.endpoints.get('default', id)).status).toBe('degraded')
    // New events wait, too.
    await host.emit(21)
    await sleep(200)
    expect(receiver.requests(path)).toHaveLength(5)
    // The process's timers do not follow the clock that is moved: another event makes it look.
    await host.moveTime(10_500)
    await host.emit(22)
    await receiver.received(path, 6)
    await expect.poll(() => heard).toEqual(['degraded 10', 'degraded 20'])
    await host.moveTime(10_500)
    await host.emit(23)
    await sleep(300)
    expect(receiver.requests(path)).toHaveLength(6)
    receiver.answer(path, 200)
    await host.moveTime(10_500)
    await host.emit(24)
    await receiver.received(path, 24)
    await expect.poll(() => heard).toEqual(['degraded 10', 'degraded 20', 'recovered'])
    expect(numbers(path).toSorted((a, b) => a - b)).toEqual(range(1, 24))
    await expect.poll(async () => (await host.webhooks.endpoints.get('default', id)).status).toBe('active')
    // The six that failed used one step each, the others none.
    const rows = await host.sql`select step, count(*)::int n from posthaste.retries group by step`
    expect([...rows]).toEqual([{ step: 1, n: 6 }])
    await host.moveTime(2 * 3_600_000)
    await receiver.received(path, 30)
    await expect.poll(async () => (await host.sql`select * from posthaste.retries`).length).toBe(0)
  })

  test('failures that say nothing about the endpoint as a whole do not', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished, { retrySchedule: ['1h'] })
    receiver.answer(path, ({ data }) => ((data.n as number) % 5 === 0 ? 404 : 500))
    await host.endpoint(receiver.url(path), { max_concurrency: 1 })
    await host.emit(...range(1, 30))
    expect(await receiver.received(path, 30)).toHaveLength(30)
  })

  test('no success for five days disables it, however rare its events are', async ({ expect, onTestFinished }) => {
    const { host, path } = await start(onTestFinished, { retrySchedule: [] })
    const heard: unknown[] = []
    host.webhooks.events.on('endpoint.disabled', (event) => heard.push(event))
    receiver.answer(path, 500)
    const { id } = await host.endpoint(receiver.url(path))
    await host.emit(1)
    await receiver.received(path, 1)
    // Nothing is left to do for it: what was learnt of it has to outlive that.
    await sleep(2_500)
    await host.moveTime(4.9 * DAY)
    await host.emit(2)
    await receiver.received(path, 2)
    await sleep(300)
    expect(heard).toEqual([])
    await host.moveTime(0.2 * DAY)
    await host.emit(3)
    await receiver.received(path, 3)
    await expect.poll(() => heard).toEqual([{ account: 'default', endpointId: id, reason: 'failing' }])
    expect((await host.webhooks.endpoints.get('default', id)).status).toBe('disabled')
  })

  test('one failure long after a recovery is not five days of them', async ({ expect, onTestFinished }) => {
    const { host, path } = await prepare(onTestFinished, { retrySchedule: [] })
    const { id } = await host.endpoint(receiver.url(path))
    // What another worker knew of it when it stopped.
    await host.sql`insert into posthaste.endpoint_health (endpoint, epoch, failing_since)
      values (${await host.numberOf(id)}, 0, posthaste.clock() - interval '1 day')`
    await host.webhooks.start()
    const heard: unknown[] = []
    host.webhooks.events.on('endpoint.disabled', (event) => heard.push(event))
    await host.emit(1)
    await receiver.received(path, 1)
    await sleep(2_500)
    await host.moveTime(4.5 * DAY)
    receiver.answer(path, 500)
    await host.emit(2)
    await receiver.received(path, 2)
    await sleep(500)
    expect(heard).toEqual([])
    expect((await host.webhooks.endpoints.get('default', id)).status).toBe('active')
  })

  test('an endpoint whose secrets cannot be read waits, and fails nothing', async ({ expect, onTestFinished }) => {
    const { host, path } = await prepare(onTestFinished)
    await host.endpoint(receiver.url(path))
    const blind = host.another({ secretKeys: { current: 'k2', keys: { k2: Buffer.alloc(32, 9).toString('base64') } } })
    await blind.start()
    await host.emit(1, 2, 3)
    await expect.poll(async () => (await host.sql`select reason from posthaste.backlogs`)[0]?.reason).toBe('unreadable')
    await sleep(300)
    expect(receiver.requests(path)).toEqual([])
    await blind.stop()
    await host.webhooks.start()
    await receiver.received(path, 3)
    expect(await host.sql`select * from posthaste.attempts where outcome <> 1`).toHaveLength(0)
  })
})

test.concurrent('a delivery whose event is older than the backlog of its endpoint is not forgotten', async ({
  expect,
  onTestFinished,
}) => {
  const { host, path } = await start(onTestFinished, { worker: { concurrency: 4 } })
  await host.endpoint(receiver.url(path), { max_concurrency: 1 })
  const late = await host.sql.reserve()
  await late`begin`
  const tx = { query: (text: string, values: unknown[]) => late.unsafe(text, values as never[]) }
  await host.webhooks.emit('test.happened', { n: 0 }, { tx })
  await sleep(50)
  receiver.answer(path, 'hang')
  await host.emit(...range(1, 60))
  await expect.poll(async () => (await host.sql`select * from posthaste.backlogs`).length, { timeout: 10_000 }).toBe(1)
  await late`commit`
  late.release()
  await host.dispatched()
  await sleep(1_500)
  receiver.answer(path, 200)
  // A crash would do the same: what another worker knows of this endpoint is its row in `backlogs`.
  const stopping = host.webhooks.stop()
  receiver.release(200, path)
  await stopping
  await host.another().start()
  await receiver.received(path, 61)
  await sleep(200)
  expect(numbers(path).toSorted((a, b) => a - b)).toEqual(range(0, 60))
}, 30_000)
