/** Eight workers and a ninth: what each serves, and that an endpoint's limits hold whoever serves it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type TestWebhooks, type UnderTest, underTest } from '../support/webhooks-under-test.ts'

/** Nobody dies here: a deadline and a lease that a busy machine does not miss. */
const PATIENT = { http: { deadline: '15s' }, worker: { lease: '25s' }, connections: { worker: 2 } } as const
/** Lanes change hands in seconds; what else runs on the machine may make it more. */
const SETTLED_MS = 60_000

let receiver: Receiver
let host: UnderTest
let path = '/'
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())
beforeEach(async ({ task }) => {
  path = `/${task.id}`
  host = await underTest(PATIENT)
})
afterEach(() => host.stop())

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

interface Watched {
  webhooks: TestWebhooks
  lanes: readonly number[]
}

function watched(): Watched {
  const webhooks = host.another(PATIENT)
  const one: Watched = { webhooks, lanes: [] }
  webhooks.events.on('lanes.changed', ({ lanes }) => {
    one.lanes = lanes
  })
  return one
}

/** Every lane has one owner, and each worker its share of them, two more or less. */
function isShared(workers: readonly Watched[]): boolean {
  const all = workers.flatMap(({ lanes }) => lanes)
  const share = 64 / workers.length
  return (
    all.length === 64 && new Set(all).size === 64 && workers.every(({ lanes }) => Math.abs(lanes.length - share) <= 2)
  )
}

test('of eight workers each serves an eighth of the lanes, and a ninth gets its part of them', async () => {
  const workers = range(1, 8).map(watched)
  await Promise.all(workers.map(({ webhooks }) => webhooks.start()))
  await until('an eighth each', () => isShared(workers), SETTLED_MS)
  const ninth = watched()
  await ninth.webhooks.start()
  await until('a ninth each', () => isShared([...workers, ninth]), SETTLED_MS)
  expect(ninth.lanes.length).toBeGreaterThanOrEqual(5)
}, 150_000)

test('order, concurrency and rate of an endpoint hold while its lane goes from worker to worker', async () => {
  const [ordered, narrow, slow] = [`${path}/ordered`, `${path}/narrow`, `${path}/slow`]
  let under = 0
  let most = 0
  receiver.answer(ordered, () => sleep(5, 200))
  receiver.answer(narrow, async () => {
    most = Math.max(most, ++under)
    await sleep(20)
    under--
    return 200
  })
  // Several of each kind, so that lanes with them change hands each time.
  const kinds = [
    { to: ordered, more: { ordering: 'fifo' } },
    { to: narrow, more: { max_concurrency: 2 } },
    { to: slow, more: { rate_limit: { limit: 20, per: 'second' } } },
  ] as const
  for (const { to, more } of kinds) await host.endpoint(receiver.url(to), more)
  const workers = range(1, 3).map(watched)
  await workers[0]!.webhooks.start()
  const total = 120
  await host.emit(...range(1, total))
  for (const { webhooks } of workers.slice(1)) {
    await sleep(300)
    await webhooks.start()
  }
  await until('a third each', () => isShared(workers), SETTLED_MS)
  // Twice more, into other hands.
  await workers[0]!.webhooks.stop()
  await until('a half each', () => isShared(workers.slice(1)), SETTLED_MS)
  await workers[1]!.webhooks.stop()
  for (const { to } of kinds) await until(`all of ${to}`, () => receiver.requests(to).length >= total, SETTLED_MS)
  await sleep(300)
  const numbersOf = (to: string) => receiver.requests(to).map(({ data }) => data.n)
  expect(numbersOf(ordered)).toEqual(range(1, total))
  expect(most).toBeLessThanOrEqual(2)
  for (const { to } of kinds) expect(numbersOf(to).toSorted((a, b) => Number(a) - Number(b))).toEqual(range(1, total))
  const times = receiver.requests(slow).map(({ at }) => at)
  for (const [index, at] of times.entries()) {
    // A second's worth may be saved up, and spent in front of the next.
    expect(times.slice(index).filter((other) => other < at + 1_000).length).toBeLessThanOrEqual(40)
  }
}, 200_000)
