/** A database under another installation's name: nothing is sent from it until somebody adopts it. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import {
  QUICK,
  type TestEndpoint,
  type TestWebhooks,
  type UnderTest,
  underTest,
} from '../support/webhooks-under-test.ts'

let receiver: Receiver
let it: UnderTest
let copy: TestWebhooks
let paused: { reason: string; belongsTo: string }[]
let resumed: number

beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(async () => await receiver.close())
beforeEach(async () => {
  it = await underTest(QUICK)
  copy = it.another({ installation: 'staging' })
  paused = []
  resumed = 0
  copy.events.on('delivery.paused', (event) => void paused.push(event))
  copy.events.on('delivery.resumed', () => void resumed++)
})
afterEach(async () => await it.stop())

let paths = 0
const freshPath = () => `/installation/${++paths}`

const numbers = (path: string, from = 0) =>
  receiver
    .requests(path)
    .slice(from)
    .map(({ data }) => data.n as number)
    .toSorted((a, b) => a - b)

/** What a production that was copied in the middle of things leaves: everything that can wait. */
async function production(): Promise<{ ok: string; down: string; held: string; endpoints: TestEndpoint[] }> {
  const [ok, down, held] = [freshPath(), freshPath(), freshPath()]
  receiver.answer(down, 503)
  const endpoints = [
    await it.endpoint(receiver.url(ok)),
    await it.endpoint(receiver.url(down)),
    await it.endpoint(receiver.url(held)),
  ]
  const original = it.another()
  await original.start()
  await it.emit(1, 2)
  await it.settled()
  await until('two retries to wait', async () => (await it.sql`select from posthaste.retries`).length === 2)
  receiver.answer(held, 503)
  await it.emit(3)
  await it.settled()
  await original.stop()
  await it.webhooks.endpoints.update('default', endpoints[2]!.id, { active: false })
  // Deliveries that nobody has attempted, a replay that nobody has worked off, and events that nobody has dispatched.
  await it.emit(4, 5)
  await it.sql`select * from posthaste.dispatch(1000, 2000, 'test')`
  await it.emit(6)
  await it.webhooks.replays.start('default', endpoints[0]!.id, { since: '2020-01-01T00:00:00Z', which: 'all' })
  return { ok, down, held, endpoints }
}

test('sends nothing: no event, retry, replay, test; says so; and takes what is emitted', async () => {
  const { ok, down, held, endpoints } = await production()
  const before = [ok, down, held].map((path) => receiver.requests(path).length)
  await copy.start()
  expect(paused).toEqual([{ reason: 'other', belongsTo: 'test' }])
  expect(it.log.join()).toContain('adopt(')
  await copy.emit('test.happened', { n: 7 }, { tx: 'own' })
  await it.moveTime(3_600_000)
  const [first] = (await copy.deliveries.list('default', endpoints[1]!.id)).data
  await copy.deliveries.retry('default', first!.id)
  await expect(copy.deliveries.sendTest('default', endpoints[0]!.id)).rejects.toMatchObject({
    code: 'INSTALLATION_MISMATCH',
  })
  // Asked directly, too: nothing is dispatched under that name.
  expect(await it.sql`select * from posthaste.dispatch(1000, 2000, 'staging')`).toHaveLength(0)
  expect(await it.sql`select from posthaste.workers where not fenced`).toHaveLength(0)
  expect([ok, down, held].map((path) => receiver.requests(path).length)).toEqual(before)
  expect(resumed).toBe(0)
})

describe('adopt', () => {
  test('continue: what waits is sent, once, without a restart', async () => {
    const { ok, down, endpoints } = await production()
    const replay = (await it.sql`select id from posthaste.replays where status = 'running'`)[0]!
    await copy.start()
    await copy.emit('test.happened', { n: 7 }, { tx: 'own' })
    receiver.answer(down, 200)
    expect(await copy.adopt({ what: 'continue' })).toEqual({
      from: 'test',
      cancelledDeliveries: 0,
      cancelledReplays: 0,
    })
    await until('it to work', () => resumed === 1)
    await it.moveTime(3_600_000)
    await receiver.received(ok, 7 + 6)
    await until('the replay to end', async () => {
      const id = `rpl_${(replay.id as string).replaceAll('-', '')}`
      return (await copy.replays.get('default', id)).status === 'completed'
    })
    await until('the retries to be made', () => new Set(numbers(down)).size === 7)
    await it.settled()
    const list = await copy.deliveries.list('default', endpoints[1]!.id)
    expect(list.data.every(({ status }) => status === 'succeeded')).toBe(true)
    // Each once, and what was emitted before it once more by the replay.
    expect(new Set(numbers(ok)).size).toBe(7)
    expect(numbers(ok).filter((n) => n === 7)).toHaveLength(1)
  })

  test('discard: what waited is cancelled, visibly; from now on it sends', async () => {
    const { ok, down, held, endpoints } = await production()
    const before = [ok, down, held].map((path) => receiver.requests(path).length)
    await copy.start()
    const adoption = await copy.adopt({ what: 'discard' })
    // Retries: 1, 2 and 3 of `down`, 3 of `held`; not attempted: 4 and 5 of `ok` and `down`.
    expect(adoption).toEqual({ from: 'test', cancelledDeliveries: 8, cancelledReplays: 1 })
    await until('it to work', () => resumed === 1)
    receiver.answer(down, 200)
    await copy.emit('test.happened', { n: 8 }, { tx: 'own' })
    await it.moveTime(3_600_000)
    await receiver.received(ok, before[0]! + 1)
    await receiver.received(down, before[1]! + 1)
    await it.settled()
    expect([numbers(ok, before[0]), numbers(down, before[1]), numbers(held, before[2])]).toEqual([[8], [8], []])
    const statuses = await Promise.all(
      endpoints.map(async ({ id }) => {
        const { data } = await copy.deliveries.list('default', id)
        return data.map(({ status }) => status).toReversed()
      }),
    )
    expect(statuses).toEqual([
      ['succeeded', 'succeeded', 'succeeded', 'cancelled', 'cancelled', 'succeeded'],
      ['cancelled', 'cancelled', 'cancelled', 'cancelled', 'cancelled', 'succeeded'],
      ['succeeded', 'succeeded', 'cancelled'],
    ])
    // Not lost: a replay brings back what was never dispatched.
    await copy.replays.start('default', endpoints[0]!.id, { since: '2020-01-01T00:00:00Z', which: 'missing' })
    await receiver.received(ok, before[0]! + 2)
    expect(numbers(ok, before[0])).toEqual([6, 8])
  })

  test('one that was interrupted keeps everybody waiting until it is finished by another call', async () => {
    const { ok } = await production()
    const before = receiver.requests(ok).length
    await it.sql`update posthaste.installation set name = 'staging', adopting = 'discard'`
    await copy.start()
    expect(paused).toEqual([{ reason: 'adopting', belongsTo: 'staging' }])
    expect(await it.sql`select * from posthaste.dispatch(1000, 2000, 'staging')`).toHaveLength(0)
    expect(await copy.adopt({ what: 'discard' })).toMatchObject({ from: null, cancelledReplays: 1 })
    await until('it to work', () => resumed === 1)
    await copy.emit('test.happened', { n: 8 }, { tx: 'own' })
    await receiver.received(ok, before + 1)
    expect(numbers(ok, before)).toEqual([8])
    expect(await copy.adopt({ what: 'discard' })).toEqual({ from: null, cancelledDeliveries: 0, cancelledReplays: 0 })
  })

  test('a running worker of the name before stops sending, and begins again when it is given back', async () => {
    const path = freshPath()
    await it.endpoint(receiver.url(path))
    const told: string[] = []
    it.webhooks.events.on('delivery.paused', ({ reason, belongsTo }) => void told.push(`${reason} ${belongsTo}`))
    await it.webhooks.start()
    await it.emit(1)
    await receiver.received(path, 1)
    // Recorded, too: what was sent and not recorded when it is made to stop is sent again, as after a crash.
    await it.settled()
    await copy.adopt({ what: 'continue' })
    await until('it to stop', () => told.length > 0)
    expect(told).toEqual(['other staging'])
    await it.emit(2)
    await it.sql`select * from posthaste.dispatch(1000, 2000, 'test')`
    expect(await it.sql`select from posthaste.workers where not fenced`).toHaveLength(0)
    expect(numbers(path)).toEqual([1])
    await it.webhooks.adopt({ what: 'continue' })
    await receiver.received(path, 2)
    expect(numbers(path)).toEqual([1, 2])
  })

  test('has to be told what becomes of what waits', async () => {
    await expect(copy.adopt({} as never)).rejects.toMatchObject({ code: 'VALIDATION_FAILED' })
    await expect(copy.adopt({ what: 'keep' } as never)).rejects.toMatchObject({ code: 'VALIDATION_FAILED' })
  })
})
