/** Bulk replays: what they choose, that they go on after a crash, and that they end when they are told to. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { QUICK, type TestOptions, type UnderTest, underTest } from '../support/webhooks-under-test.ts'

let receiver: Receiver
let it: UnderTest
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())
beforeEach(async () => {
  it = await underTest(QUICK)
})
afterEach(() => it.stop())

const NO_RETRIES: TestOptions = { retrySchedule: [] }
const LONG_AGO = '2020-01-01T00:00:00Z'

let paths = 0
function freshPath(): string {
  paths++
  return `/r${paths}`
}

const numbers = (path: string) => receiver.requests(path).map(({ data }) => Number(data.n))
const sorted = (list: number[]) => list.toSorted((a, b) => a - b)

async function finished(id: string, status = 'completed', withinMs = 15_000) {
  await until(
    `the replay to be ${status}`,
    async () => (await it.webhooks.replays.get('default', id)).status === status,
    withinMs,
  )
  const replay = await it.webhooks.replays.get('default', id)
  await it.settled(withinMs)
  return replay
}

describe('what a replay chooses', () => {
  test('failed: what failed and was not received since, once, to this endpoint alone', async () => {
    const [path, other] = [freshPath(), freshPath()]
    receiver.answer(path, ({ data }) => (Number(data.n) % 2 === 0 ? 404 : 200))
    const endpoint = await it.endpoint(receiver.url(path))
    await it.endpoint(receiver.url(other))
    const worker = it.another(NO_RETRIES)
    await worker.start()
    await it.emit(1, 2, 3, 4, 5, 6)
    await it.settled()
    receiver.answer(path, 200)
    // One of the failed is received by hand.
    const { data } = await it.webhooks.deliveries.list('default', endpoint.id, { status: 'failed' })
    expect(data).toHaveLength(3)
    await it.webhooks.deliveries.retry('default', data[0]?.id as string)
    await receiver.received(path, 7)
    await until('it to be recorded', async () => {
      const failed = await it.webhooks.deliveries.list('default', endpoint.id, { status: 'failed' })
      return failed.data.length === 2
    })
    const before = receiver.requests(path).length
    const begun = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'failed' })
    expect(begun).toMatchObject({ endpoint_id: endpoint.id, which: 'failed', status: 'running', total: null, done: 0 })
    const replay = await finished(begun.id)
    expect(replay).toMatchObject({ total: 2, done: 2 })
    expect(Date.parse(replay.finished_at ?? '')).toBeGreaterThan(0)
    const again = receiver.requests(path).slice(before)
    expect(sorted(again.map(({ data }) => Number(data.n)))).toEqual([2, 4])
    expect(again.map(({ attempt }) => attempt)).toEqual([1, 1])
    const earlier = new Map(
      receiver
        .requests(path)
        .slice(0, 6)
        .map(({ data, eventId }) => [data.n, eventId]),
    )
    for (const { data, eventId } of again) expect(eventId).toBe(earlier.get(data.n))
    expect(numbers(other)).toHaveLength(6)

    const log = await it.webhooks.deliveries.list('default', endpoint.id)
    expect(log.data.filter(({ replay_id }) => replay_id === begun.id).map(({ status }) => status)).toEqual([
      'succeeded',
      'succeeded',
    ])
    const second = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'failed' })
    expect(await finished(second.id)).toMatchObject({ total: 0, done: 0 })
  })

  test('failed: a replay that fails can be replayed', async () => {
    const path = freshPath()
    receiver.answer(path, 404)
    const endpoint = await it.endpoint(receiver.url(path))
    const worker = it.another(NO_RETRIES)
    await worker.start()
    await it.emit(1, 2)
    await it.settled()
    for (let round = 1; round <= 3; round++) {
      if (round === 3) receiver.answer(path, 200)
      const { id } = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'failed' })
      expect(await finished(id)).toMatchObject({ total: 2, done: 2 })
      expect(sorted(numbers(path))).toEqual(sorted(Array.from({ length: round + 1 }, () => [1, 2]).flat()))
    }
    const last = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'failed' })
    expect(await finished(last.id)).toMatchObject({ total: 0 })
  })

  test('missing: what came before the endpoint, or while it was inactive, of the types now subscribed', async () => {
    const [path, other] = [freshPath(), freshPath()]
    await it.endpoint(receiver.url(other))
    const worker = it.another(NO_RETRIES)
    await worker.start()
    await it.emit(1, 2)
    await it.settled()
    const endpoint = await it.endpoint(receiver.url(path))
    await it.emit(3)
    await it.settled()
    await it.webhooks.endpoints.update('default', endpoint.id, { active: false })
    await it.emit(4)
    await it.webhooks.emit('affiliate.approved', it.webhooks.catalog.get('affiliate.approved').example as never, {
      tx: 'own',
    })
    await it.settled()
    await expect(
      it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'missing' }),
    ).rejects.toMatchObject({ code: 'ENDPOINT_NOT_ACTIVE' })
    await it.webhooks.endpoints.update('default', endpoint.id, { active: true })
    const { id } = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'missing' })
    expect(await finished(id)).toMatchObject({ total: 3, done: 3, types_not_always_stored: [] })
    await receiver.received(path, 4)
    expect(sorted(numbers(path))).toEqual([1, 2, 3, 4])
    expect(numbers(other)).toHaveLength(4)
    const again = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'missing' })
    expect(await finished(again.id)).toMatchObject({ total: 0 })
    expect(numbers(path)).toHaveLength(4)
  })

  test('all: everything of a window, duplicates left out; types that are not always stored are named', async () => {
    const path = freshPath()
    const endpoint = await it.endpoint(receiver.url(path), { events: ['test.*'] })
    const worker = it.another(NO_RETRIES)
    await worker.start()
    await it.emit(1, 2)
    await it.webhooks.emit('test.happened', { n: 3 }, { tx: 'own', idempotencyKey: 'k' })
    await it.webhooks.emit('test.happened', { n: 33 }, { tx: 'own', idempotencyKey: 'k' })
    await it.settled()
    const until = new Date(Date.now() + 1).toISOString()
    await new Promise((resolve) => setTimeout(resolve, 5))
    await it.emit(4)
    await it.settled()
    expect(sorted(numbers(path))).toEqual([1, 2, 3, 4])
    const { id } = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, until, which: 'all' })
    expect(await finished(id)).toMatchObject({ total: 3, done: 3, types_not_always_stored: ['test.seen'] })
    await receiver.received(path, 7)
    expect(sorted(numbers(path))).toEqual([1, 1, 2, 2, 3, 3, 4])
  })
})

describe('how a replay goes', () => {
  async function emitMany(count: number): Promise<void> {
    await it.webhooks.emitMany(
      Array.from({ length: count }, (_, n) => ({ type: 'test.happened' as const, data: { n } })),
      { tx: 'own' },
    )
  }

  test('thousands, no further ahead than a chunk and a half, while new events get through; each once', async () => {
    const path = freshPath()
    const worker = it.another(NO_RETRIES)
    await emitMany(4_500)
    await worker.start()
    await it.settled()
    const endpoint = await it.endpoint(receiver.url(path), { max_concurrency: 10 })
    let furthest = 0
    const { id } = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'missing' })
    await until(
      'the replay to be over',
      async () => {
        const { done, status } = await it.webhooks.replays.get('default', id)
        furthest = Math.max(furthest, done - numbers(path).length)
        return status === 'completed'
      },
      60_000,
    )
    expect(await finished(id, 'completed', 60_000)).toMatchObject({ total: 4_500, done: 4_500 })
    expect(furthest).toBeGreaterThan(0)
    expect(furthest).toBeLessThanOrEqual(2_000)
    expect(new Set(numbers(path)).size).toBe(4_500)
    expect(numbers(path)).toHaveLength(4_500)
  }, 90_000)

  test('waits while the endpoint is inactive, and goes on in another process', async () => {
    const path = freshPath()
    const first = it.another(NO_RETRIES)
    await emitMany(2_600)
    await first.start()
    await it.settled()
    receiver.answer(path, 'hang')
    const endpoint = await it.endpoint(receiver.url(path), { max_concurrency: 1 })
    const { id } = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'missing' })
    await until('the first chunk', async () => (await it.webhooks.replays.get('default', id)).done === 1_000)
    await it.webhooks.endpoints.update('default', endpoint.id, { active: false })
    receiver.answer(path, 200)
    receiver.release(200)
    await first.stop()
    expect(await it.webhooks.replays.get('default', id)).toMatchObject({ status: 'running', done: 1_000, total: 2_600 })
    await it.webhooks.endpoints.update('default', endpoint.id, { active: true, max_concurrency: null })
    const second = it.another(NO_RETRIES)
    await second.start()
    expect(await finished(id, 'completed', 60_000)).toMatchObject({ total: 2_600, done: 2_600 })
    // The one that was under way when the first process ended may have come twice.
    expect(new Set(numbers(path)).size).toBe(2_600)
    expect(numbers(path).length).toBeLessThanOrEqual(2_601)
  }, 90_000)

  test('ends when it is cancelled, and when its endpoint is deleted; one runs per endpoint at a time', async () => {
    const path = freshPath()
    const worker = it.another(NO_RETRIES)
    await emitMany(2_600)
    await worker.start()
    await it.settled()
    receiver.answer(path, 'hang')
    const endpoint = await it.endpoint(receiver.url(path), { max_concurrency: 1 })
    const { id } = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'missing' })
    await until('the first chunk', async () => (await it.webhooks.replays.get('default', id)).done === 1_000)
    await expect(
      it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'all' }),
    ).rejects.toMatchObject({ code: 'REPLAY_RUNNING', message: expect.stringContaining(id) })
    const cancelled = await it.webhooks.replays.cancel('default', id)
    expect(cancelled).toMatchObject({ status: 'cancelled', done: 1_000, total: 2_600 })
    expect(await it.webhooks.replays.cancel('default', id)).toEqual(cancelled)
    receiver.answer(path, 200)
    receiver.release(200)
    await it.settled(20_000)
    expect(new Set(numbers(path)).size).toBe(1_000)

    receiver.answer(path, 'hang')
    const second = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'missing' })
    await until('its first chunk', async () => (await it.webhooks.replays.get('default', second.id)).done === 1_000)
    await it.webhooks.endpoints.remove('default', endpoint.id)
    receiver.release(200)
    await until(
      'it to end with its endpoint',
      async () => (await it.webhooks.replays.get('default', second.id)).status === 'cancelled',
    )
  }, 60_000)

  test('a chunk and new events in one page of the dispatcher: each is sent once', async () => {
    const path = freshPath()
    const dispatch = () => it.sql`select more from posthaste.dispatch(1000, 2000)`
    await it.emit(1, 2, 3, 4, 5)
    await dispatch()
    const endpoint = await it.endpoint(receiver.url(path))
    const { id } = await it.webhooks.replays.start('default', endpoint.id, { since: LONG_AGO, which: 'missing' })
    await dispatch()
    for (let answer = 'more'; answer === 'more'; ) {
      const [row] = await it.sql`select posthaste.replay_step(no, 1000) answer from posthaste.replays`
      answer = row?.answer as string
    }
    await it.emit(6, 7, 8)
    await dispatch()
    const [page] =
      await it.sql`select endpoints, firsts, lasts, deliveries from posthaste.dispatches order by n desc limit 1`
    const no = await it.numberOf(endpoint.id)
    expect(page).toMatchObject({ endpoints: [no, no], deliveries: 8 })
    expect(page?.firsts.map(Number)).toEqual([Number(page?.lasts[0]) - 4, Number(page?.lasts[0]) + 1])
    await it.webhooks.start()
    await receiver.received(path, 8)
    await it.settled()
    expect(numbers(path).toSorted()).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    // Handed on once more, as after a crash that lost the answer: nothing is made twice.
    const commands = await it.sql`insert into posthaste.commands (kind, endpoint, payload)
      select kind, endpoint, payload from posthaste.commands where kind = 'replay' returning id`
    expect(commands).toHaveLength(2)
    await it.emit(9)
    await receiver.received(path, 9)
    await it.settled()
    expect(numbers(path)).toHaveLength(9)
    expect(await it.webhooks.replays.get('default', id)).toMatchObject({ status: 'completed', total: 5, done: 5 })
  })

  test('is refused for windows that make no sense', async () => {
    const endpoint = await it.endpoint(receiver.url(freshPath()))
    const soon = new Date(Date.now() + 3_600_000).toISOString()
    for (const [input, path] of [
      [{ since: soon, which: 'all' }, 'since'],
      [{ since: '2025-01-02T00:00:00Z', until: '2025-01-01T00:00:00Z', which: 'all' }, 'until'],
      [{ since: 'yesterday', which: 'all' }, 'since'],
      [{ since: LONG_AGO, which: 'some' }, 'which'],
    ] as const) {
      await expect(it.webhooks.replays.start('default', endpoint.id, input as never)).rejects.toMatchObject({
        code: 'VALIDATION_FAILED',
        errors: [{ path }],
      })
    }
    expect(await it.sql`select from posthaste.replays`).toHaveLength(0)
  })
})
