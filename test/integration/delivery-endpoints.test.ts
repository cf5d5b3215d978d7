/** What becomes of deliveries when their endpoint changes: switched off and on, disabled, deleted, moved, its secret rotated. */
import { createHmac } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type ReceivedRequest, type Receiver, startReceiver } from '../support/receiver.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const HOUR = 3_600_000

let receiver: Receiver
let host: UnderTest
let path = '/'
beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest({ retrySchedule: ['1h', '1h', '1h'] })
  await host.webhooks.start()
})
afterAll(async () => {
  await host.stop()
  await receiver.close()
})
beforeEach(async ({ task }) => {
  path = `/${task.id}`
  // Endpoints of the tests before receive nothing more.
  for (const { id } of (await host.webhooks.endpoints.list('default', { limit: 100 })).data) {
    await host.webhooks.endpoints.remove('default', id)
  }
})

const numbers = (path: string) =>
  receiver
    .requests(path)
    .map(({ data }) => data.n as number)
    .toSorted((one, other) => one - other)

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

/** Waits until the worker has read what the API was told. */
async function known(): Promise<void> {
  await host.dispatched()
  await sleep(200)
}

async function count(table: 'retries' | 'backlogs' | 'attempts', id: string): Promise<number> {
  const [row] = await host.sql`select count(*)::int n from ${host.sql(`posthaste.${table}`)}
    where endpoint = ${await host.numberOf(id)}`
  return row!.n as number
}

describe('switched off by its owner', () => {
  test('what waits is held, what is dispatched meanwhile makes no delivery, and switching on delivers what waited', async () => {
    receiver.answer(path, 'hang')
    const { id } = await host.endpoint(receiver.url(path), { max_concurrency: 1 })
    await host.emit(...range(1, 20))
    await receiver.received(path, 1)
    await host.webhooks.endpoints.update('default', id, { active: false })
    await known()
    await host.emit(21)
    await known()
    receiver.answer(path, 200)
    receiver.release(200)
    await expect.poll(() => count('attempts', id)).toBe(1)
    await sleep(300)
    expect(receiver.requests(path)).toHaveLength(1)
    await expect.poll(() => count('backlogs', id)).toBe(1)
    // Longer than the endpoint is kept in memory.
    await sleep(1_500)
    await host.webhooks.endpoints.update('default', id, { active: true })
    await receiver.received(path, 20)
    await host.emit(22)
    await receiver.received(path, 21)
    await sleep(200)
    expect(numbers(path)).toEqual([...range(1, 20), 22])
    await expect.poll(() => count('backlogs', id)).toBe(0)
  })

  test('a retry that becomes due meanwhile waits, too', async () => {
    receiver.answer(path, 404)
    const { id } = await host.endpoint(receiver.url(path))
    await host.emit(1)
    await expect.poll(() => count('retries', id)).toBe(1)
    await host.webhooks.endpoints.update('default', id, { active: false })
    await known()
    await host.moveTime(2 * HOUR)
    await sleep(400)
    expect(receiver.requests(path)).toHaveLength(1)
    receiver.answer(path, 200)
    await host.webhooks.endpoints.update('default', id, { active: true })
    const requests = await receiver.received(path, 2)
    expect(requests.map(({ attempt }) => attempt)).toEqual([1, 2])
  })

  test('off and on again and again while events flow: whatever was dispatched while it was on arrives, once', async () => {
    receiver.answer(path, () => sleep(2, 200))
    const { id } = await host.endpoint(receiver.url(path), { max_concurrency: 2 })
    let n = 0
    let flowing = true
    const flow = (async () => {
      while (flowing) {
        await host.emit(...range(n + 1, n + 5))
        n += 5
        await sleep(5)
      }
    })()
    for (let turn = 0; turn < 25; turn++) {
      await sleep((turn * 37) % 90)
      await host.webhooks.endpoints.update('default', id, { active: false })
      await sleep((turn * 13) % 50)
      await host.webhooks.endpoints.update('default', id, { active: true })
    }
    flowing = false
    await flow
    await host.settled(15_000)
    const rows = await host.sql`select (e.data::json ->> 'n')::int n from posthaste.deliveries d
      join posthaste.events e on e.id = d.event_id where d.endpoint = ${await host.numberOf(id)} order by 1`
    expect(rows.length).toBeGreaterThan(20)
    expect(numbers(path)).toEqual(rows.map((row) => row.n))
  }, 40_000)

  test('a restart in between changes nothing', async () => {
    const worker = await underTest()
    try {
      receiver.answer(path, 'hang')
      const { id } = await worker.endpoint(receiver.url(path), { max_concurrency: 1 })
      await worker.webhooks.start()
      await worker.emit(...range(1, 10))
      await receiver.received(path, 1)
      await worker.webhooks.endpoints.update('default', id, { active: false })
      await expect.poll(async () => (await worker.sql`select * from posthaste.backlogs`).length).toBe(1)
      receiver.answer(path, 200)
      receiver.release(200)
      const next = worker.another()
      await worker.webhooks.stop()
      await next.start()
      await sleep(300)
      expect(receiver.requests(path)).toHaveLength(1)
      await next.endpoints.update('default', id, { active: true })
      await receiver.received(path, 10)
      await sleep(200)
      expect(numbers(path)).toEqual(range(1, 10))
    } finally {
      await worker.stop()
    }
  })
})

describe('410 Gone', () => {
  test('disables at once, says so, holds what waits with its step, and enabling brings it', async () => {
    const heard: unknown[] = []
    host.webhooks.events.on('endpoint.disabled', (event) => heard.push(event))
    receiver.answer(path, 410)
    const { id } = await host.endpoint(receiver.url(path), { max_concurrency: 1 })
    await host.emit(...range(1, 10))
    await receiver.received(path, 1)
    await expect.poll(() => heard).toEqual([{ account: 'default', endpointId: id, reason: 'gone' }])
    expect(await host.webhooks.endpoints.get('default', id)).toMatchObject({
      status: 'disabled',
      disabled_reason: 'gone',
      active: true,
    })
    await host.emit(11)
    await known()
    await sleep(1_500)
    expect(receiver.requests(path)).toHaveLength(1)
    receiver.answer(path, 200)
    await host.webhooks.endpoints.update('default', id, { active: true })
    expect(await host.webhooks.endpoints.get('default', id)).toMatchObject({ status: 'active', disabled_reason: null })
    const requests = await receiver.received(path, 11)
    await host.settled()
    expect(requests.map(({ data }) => data.n).toSorted()).toEqual([1, ...range(1, 10)].toSorted())
    const again = requests.filter(({ data }) => data.n === 1)
    expect(again.map(({ attempt }) => attempt)).toEqual([1, 2])
    const rows = await host.sql`select a.number, a.step, a.final from posthaste.attempts a
      join posthaste.deliveries d on d.id = a.delivery_id
      where a.endpoint = ${await host.numberOf(id)} and a.delivery_id in
        (select delivery_id from posthaste.attempts where number = 2) order by a.number`
    expect([...rows]).toEqual([
      { number: 1, step: 0, final: false },
      { number: 2, step: 0, final: true },
    ])
    await expect.poll(() => count('retries', id)).toBe(0)
    expect(heard).toHaveLength(1)
  })

  test('failures that were under way when it was enabled again do not disable it once more', async () => {
    receiver.answer(path, 'hang')
    const { id } = await host.endpoint(receiver.url(path), { max_concurrency: 2 })
    await host.emit(1, 2)
    await receiver.received(path, 2)
    await host.webhooks.endpoints.update('default', id, { active: false })
    await host.webhooks.endpoints.update('default', id, { active: true })
    await known()
    expect((await host.webhooks.endpoints.get('default', id)).status).toBe('active')
    receiver.answer(path, 200)
    receiver.release(500)
    await host.emit(4)
    await receiver.received(path, 3)
    expect((await host.webhooks.endpoints.get('default', id)).status).toBe('active')
  })
})

describe('deleted', () => {
  test('nothing more is sent: neither what was queued nor what waited for a retry', async () => {
    receiver.answer(path, ({ data }) => (data.n === 1 ? 404 : 'hang'))
    const { id } = await host.endpoint(receiver.url(path), { max_concurrency: 1 })
    const number = await host.numberOf(id)
    await host.emit(1)
    await expect.poll(() => count('retries', id)).toBe(1)
    await host.emit(...range(2, 20))
    await receiver.received(path, 2)
    await host.webhooks.endpoints.remove('default', id)
    await known()
    receiver.answer(path, 200)
    receiver.release(200)
    await host.moveTime(2 * HOUR)
    await sleep(1_500)
    expect(receiver.requests(path)).toHaveLength(2)
    // Nothing is left behind for anybody to look at again and again.
    const left = await host.sql`select endpoint from posthaste.retries where endpoint = ${number}
      union all select endpoint from posthaste.backlogs where endpoint = ${number}`
    expect([...left]).toEqual([])
  })
})

describe('within a second', () => {
  test('a changed URL is where deliveries go, queued ones, too', async () => {
    receiver.answer(path, 'hang')
    const { id } = await host.endpoint(receiver.url(path), { max_concurrency: 1 })
    await host.emit(...range(1, 5))
    await receiver.received(path, 1)
    await host.webhooks.endpoints.update('default', id, { url: receiver.url(`${path}/moved`) })
    await sleep(1_000)
    receiver.release(200)
    await receiver.received(`${path}/moved`, 4)
    expect(numbers(path)).toEqual([1])
  })

  test('so is what events it gets, and custom headers and limits', async () => {
    const { id } = await host.endpoint(receiver.url(path), { events: ['payout.*'], headers: { 'X-Key': 'one' } })
    await host.emit(1)
    await known()
    await host.webhooks.endpoints.update('default', id, { events: ['test.*'], headers: { 'X-Key': 'two' } })
    await host.emit(2)
    const [request] = await receiver.received(path, 1)
    expect([request?.data, request?.headers['x-key']]).toEqual([{ n: 2 }, 'two'])
    await host.webhooks.endpoints.update('default', id, { headers: {} })
    await sleep(1_000)
    await host.emit(3)
    const [, last] = await receiver.received(path, 2)
    expect(last?.headers['x-key']).toBeUndefined()
  })
})

describe('a rotated secret', () => {
  /** The page's verifier: it knows one secret, and reads one header. */
  const accepts = (request: ReceivedRequest, secret: string) =>
    request.headers['x-webhook-signature'] ===
    `sha256=${createHmac('sha256', secret).update(request.body).digest('hex')}`

  test.each([400, 401, 403])('an owner who swaps it at any time misses nothing (answering %i)', async (status) => {
    const secrets = ['the first secret', 'the second secret', 'the third secret']
    let held = 0
    const accepted: number[] = []
    receiver.answer(path, (request) => {
      if (!accepts(request, secrets[held]!)) return status
      accepted.push(request.data.n as number)
      return 200
    })
    const { id } = await host.endpoint(receiver.url(path), { secret: secrets[0]! })
    let n = 0
    const some = async () => {
      await host.emit(...range(n + 1, n + 5))
      n += 5
      await host.settled()
      await expect.poll(() => accepted.length).toBe(n)
    }
    await some()
    for (const next of [1, 2]) {
      // The API first, the receiver some time later.
      await host.webhooks.endpoints.rotateSecret('default', id, { secret: secrets[next]! })
      await some()
      await some()
      held = next
      await some()
      await some()
    }
    expect(accepted.toSorted((a, b) => a - b)).toEqual(range(1, n))
    // It asked with the wrong one only right after a swap, and no step of the schedule was used.
    expect(await count('retries', id)).toBe(0)
    const requests = receiver.requests(path)
    expect(requests.length - n).toBeLessThanOrEqual(2 * 5 + 2)
    expect(requests.some(({ attempt }) => attempt === 2)).toBe(true)
    expect(Math.max(...requests.map(({ attempt }) => attempt))).toBe(2)
    const steps =
      await host.sql`select distinct step from posthaste.attempts where endpoint = ${await host.numberOf(id)}`
    expect(steps.map((row) => row.step)).toEqual([0])
  })

  test('both are in webhook-signature while they overlap, and only the new one afterwards', async () => {
    const { id, secret: old } = await host.endpoint(receiver.url(path))
    const { secret } = await host.webhooks.endpoints.rotateSecret('default', id, { overlap_seconds: 3600 })
    const signatures = (request: ReceivedRequest) =>
      [secret, old].map((one) => {
        const key = Buffer.from(one.slice('whsec_'.length), 'base64')
        const { headers, body } = request
        const content = `${headers['webhook-id']}.${headers['webhook-timestamp']}.`
        return `v1,${createHmac('sha256', key).update(content).update(body).digest('base64')}`
      })
    await host.emit(1)
    const [during] = (await receiver.received(path, 1)) as [ReceivedRequest]
    expect(during.headers['webhook-signature']).toBe(signatures(during).join(' '))
    expect(accepts(during, old)).toBe(true)
    await host.moveTime(2 * HOUR)
    await host.emit(2)
    const [, after] = (await receiver.received(path, 2)) as [ReceivedRequest, ReceivedRequest]
    expect(after.headers['webhook-signature']).toBe(signatures(after)[0])
    expect(accepts(after, secret)).toBe(true)
  })

  test('one that accepts neither is tried once with each per step', async () => {
    receiver.answer(path, 401)
    const { id } = await host.endpoint(receiver.url(path))
    await host.webhooks.endpoints.rotateSecret('default', id)
    await host.emit(1)
    await receiver.received(path, 2)
    await expect.poll(() => count('attempts', id)).toBe(2)
    await expect
      .poll(async () => [
        ...(await host.sql`select step, number from posthaste.retries where endpoint = ${await host.numberOf(id)}`),
      ])
      .toEqual([{ step: 1, number: 3 }])
    await sleep(300)
    expect(receiver.requests(path)).toHaveLength(2)
  })
})
