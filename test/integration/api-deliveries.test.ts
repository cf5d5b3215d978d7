/** The delivery log, manual retries and tests of endpoints, against receivers that answer as a test says. */
import { createHmac } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { QUICK, type UnderTest, underTest, uuidOf } from '../support/webhooks-under-test.ts'

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

async function start(): Promise<void> {
  await it.webhooks.start()
}

let paths = 0
function freshPath(): string {
  paths++
  return `/p${paths}`
}

const list = async (id: string, query = {}) => (await it.webhooks.deliveries.list('default', id, query)).data
const statuses = async (id: string, query = {}) => (await list(id, query)).map(({ status }) => status)

describe('the delivery log', () => {
  test('shows what was sent to the byte, and what became of it', async () => {
    const path = freshPath()
    receiver.answer(path, ({ attempt }) =>
      attempt === 1 ? { status: 503, headers: { 'x-why': 'tired' }, body: 'later' } : 200,
    )
    const endpoint = await it.endpoint(receiver.url(path), { headers: { 'X-Api-Key': 'very-secret' } })
    await start()
    const [eventId] = await it.emit(7)
    const [first] = await receiver.received(path, 1)
    await it.settled()
    const [waiting] = await list(endpoint.id)
    expect(waiting).toMatchObject({
      endpoint_id: endpoint.id,
      event_id: eventId,
      event: 'test.happened',
      status: 'retrying',
      attempt_count: 1,
      last_status_code: 503,
      last_error_code: 'HTTP_503',
      replay_id: null,
    })
    expect(Date.parse(waiting?.next_attempt_at ?? '')).toBeGreaterThan(Date.now() + 3_000)
    await it.moveTime(6_000)
    const [, second] = await receiver.received(path, 2)
    await until('the success to be recorded', async () => (await statuses(endpoint.id))[0] === 'succeeded')

    const delivery = await it.webhooks.deliveries.get('default', waiting?.id as string)
    expect(delivery).toMatchObject({ status: 'succeeded', attempt_count: 2, next_attempt_at: null })
    const [newest, oldest] = delivery.attempts
    expect(newest).toMatchObject({ number: 2, manual: false, outcome: 'succeeded', status_code: 200, response: null })
    expect(oldest).toMatchObject({
      number: 1,
      manual: false,
      outcome: 'failed',
      status_code: 503,
      error_code: 'HTTP_503',
      error_message: null,
      response: { excerpt: 'later', headers: { 'x-why': 'tired' } },
    })
    expect(oldest?.timings.connect).toBeGreaterThan(0)
    expect(oldest?.timings.first_byte).toBeGreaterThan(0)
    expect(oldest?.timings.tls).toBeNull()
    for (const [attempt, received] of [
      [oldest, first],
      [newest, second],
    ] as const) {
      expect(attempt?.request?.body).toBe(received?.body.toString('utf8'))
      const { 'X-Api-Key': custom, ...own } = attempt?.request?.headers ?? {}
      expect(custom).toBe('***')
      for (const [name, value] of Object.entries(own))
        expect([name, received?.headers[name.toLowerCase()]]).toEqual([name, value])
      expect(Object.keys(own)).toHaveLength(10)
    }
  })

  test('an error that is none of HTTP is told with its code', async () => {
    const path = freshPath()
    receiver.answer(path, 'reset')
    const endpoint = await it.endpoint(receiver.url(path))
    await start()
    await it.emit(1)
    await it.settled()
    const [{ id } = { id: '' }] = await list(endpoint.id)
    const { attempts } = await it.webhooks.deliveries.get('default', id)
    expect(attempts[0]).toMatchObject({
      outcome: 'failed',
      status_code: null,
      error_code: 'CONNECTION_RESET',
      response: null,
    })
    expect(attempts[0]?.error_message).toMatch(/./)
  })

  test('every status, and the filters that find it', async () => {
    const [failing, fine] = [freshPath(), freshPath()]
    receiver.answer(failing, 500)
    const another = it.another({ retrySchedule: ['5s'] })
    const down = await it.endpoint(receiver.url(failing))
    const up = await it.endpoint(receiver.url(fine), { events: ['test.*'] })
    await another.start()
    await it.emit(1, 2)
    await it.webhooks.emit('test.seen', { n: 3 }, { tx: 'own' })
    await it.settled()
    expect(await statuses(down.id)).toEqual(['retrying', 'retrying'])
    expect(await statuses(up.id)).toEqual(['succeeded', 'succeeded', 'succeeded'])
    await it.moveTime(6_000)
    await until('both to fail for good', async () => String(await statuses(down.id)) === 'failed,failed')
    expect(await statuses(down.id, { status: 'failed' })).toEqual(['failed', 'failed'])
    expect(await statuses(down.id, { status: 'retrying' })).toEqual([])

    await it.webhooks.endpoints.update('default', down.id, { active: false })
    await it.webhooks.endpoints.update('default', up.id, { active: false })
    const held = await it.endpoint(receiver.url('/hangs'), {})
    receiver.answer('/hangs', 'reset')
    await it.emit(3)
    await it.settled()
    expect(await statuses(held.id, { status: 'retrying' })).toEqual(['retrying'])
    expect(await statuses(held.id, { status: 'held' })).toEqual([])
    await it.webhooks.endpoints.update('default', held.id, { active: false })
    expect(await statuses(held.id)).toEqual(['held'])
    expect(await statuses(held.id, { status: 'held' })).toEqual(['held'])
    expect(await statuses(held.id, { status: 'retrying' })).toEqual([])
    await it.webhooks.endpoints.remove('default', held.id)
    expect(await statuses(held.id)).toEqual(['cancelled'])
    expect(await statuses(held.id, { status: 'cancelled' })).toEqual(['cancelled'])
    expect(await statuses(held.id, { status: 'held' })).toEqual([])

    // What ended without a send has an attempt of its own.
    const ended = await list(down.id)
    await it.sql`update posthaste.attempts set outcome = 3 where delivery_id = ${uuidOf(ended[0]?.id ?? '')}::uuid and final`
    expect(await statuses(down.id)).toEqual(['expired', 'failed'])
    expect(await statuses(down.id, { status: 'expired' })).toEqual(['expired'])
    expect(await statuses(down.id, { status: 'failed' })).toEqual(['failed'])

    expect(await statuses(up.id, { status: 'succeeded' })).toHaveLength(3)
    expect((await list(up.id, { event: 'test.seen' })).map(({ event }) => event)).toEqual(['test.seen'])
    expect(await list(up.id, { event: 'test.*' })).toHaveLength(3)
    expect(await list(up.id, { event: 'commission.*' })).toEqual([])
    const hour = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString()
    expect(await list(up.id, { since: hour(-1), until: hour(1) })).toHaveLength(3)
    expect(await list(up.id, { since: hour(1) })).toEqual([])
    expect(await list(up.id, { until: hour(-1) })).toEqual([])
  })

  test('is pending before it is sent, and found so', async () => {
    const path = freshPath()
    receiver.answer(path, 'hang')
    const endpoint = await it.endpoint(receiver.url(path), { max_concurrency: 1 })
    await start()
    await it.emit(1, 2, 3)
    await receiver.received(path, 1)
    expect(await statuses(endpoint.id)).toEqual(['pending', 'pending', 'pending'])
    expect(await statuses(endpoint.id, { status: 'pending' })).toEqual(['pending', 'pending', 'pending'])
    receiver.answer(path, 200)
    receiver.release(200)
    await it.settled()
    expect(await statuses(endpoint.id, { status: 'pending' })).toEqual([])
  })

  test('goes page by page, newest first, filtered or not', async () => {
    const path = freshPath()
    receiver.answer(path, ({ data }) => (Number(data.n) % 3 === 0 ? 404 : 200))
    const endpoint = await it.endpoint(receiver.url(path))
    const another = it.another({ retrySchedule: [] })
    await another.start()
    await it.emit(...Array.from({ length: 25 }, (_, n) => n))
    await it.settled()
    for (const [query, count] of [
      [{ limit: 4 }, 25],
      [{ limit: 4, status: 'failed' }, 9],
      [{ limit: 16, status: 'succeeded' }, 16],
    ] as const) {
      const seen: string[] = []
      let cursor: string | undefined
      do {
        const page = await it.webhooks.deliveries.list('default', endpoint.id, { ...query, cursor })
        seen.push(...page.data.map(({ id }) => id))
        cursor = page.next_cursor ?? undefined
      } while (cursor !== undefined)
      expect(new Set(seen).size).toBe(count)
      const seqs =
        await it.sql`select seq from posthaste.deliveries d join json_array_elements_text(${JSON.stringify(seen.map(uuidOf))}::text::json)
        with ordinality x(id, ord) on d.id = x.id::uuid order by x.ord`
      expect(seqs.map(({ seq }) => Number(seq))).toEqual(seqs.map(({ seq }) => Number(seq)).toSorted((a, b) => b - a))
    }
  })
})

describe('trying again', () => {
  const retried = async (id: string, attempts: number) => {
    await until(`${attempts} attempts to be recorded`, async () => {
      const { attempt_count } = await it.webhooks.deliveries.get('default', id)
      return attempt_count >= attempts
    })
    return await it.webhooks.deliveries.get('default', id)
  }

  test('what failed for good, and it succeeds', async () => {
    const path = freshPath()
    receiver.answer(path, ({ attempt }) => (attempt === 1 ? 404 : 200))
    const endpoint = await it.endpoint(receiver.url(path))
    const another = it.another({ retrySchedule: [] })
    await another.start()
    await it.emit(1)
    await it.settled()
    const [delivery] = await list(endpoint.id, { status: 'failed' })
    const asked = await it.webhooks.deliveries.retry('default', delivery?.id as string)
    expect(asked).toEqual(delivery)
    const after = await retried(asked.id, 2)
    expect(after).toMatchObject({ status: 'succeeded', attempt_count: 2 })
    expect(after.attempts[0]).toMatchObject({ number: 2, manual: true })
    const [one, two] = receiver.requests(path)
    expect(two?.eventId).toBe(one?.eventId)
    expect(two?.deliveryId).toBe(one?.deliveryId)
    expect(await statuses(endpoint.id, { status: 'failed' })).toEqual([])
  })

  test('a failure keeps the attempts of the schedule, and numbers go on', async () => {
    const path = freshPath()
    receiver.answer(path, 500)
    const failures: [string, number][] = []
    const endpoint = await it.endpoint(receiver.url(path))
    for (const name of ['attempt.failed', 'delivery.failed'] as const) {
      it.webhooks.events.on(name, ({ attempt }: { attempt: number }) => void failures.push([name, attempt]))
    }
    await start()
    await it.emit(1)
    await it.settled()
    const [delivery] = await list(endpoint.id)
    const id = delivery?.id as string
    await it.webhooks.deliveries.retry('default', id)
    const after = await retried(id, 2)
    expect(after).toMatchObject({ status: 'retrying', attempt_count: 2, next_attempt_at: delivery?.next_attempt_at })
    expect(after.attempts.map(({ number, manual }) => [number, manual])).toEqual([
      [2, true],
      [1, false],
    ])
    await it.moveTime(6_000)
    const third = await retried(id, 3)
    expect(third.attempts[0]).toMatchObject({ number: 3, manual: false })
    expect(receiver.requests(path).map(({ attempt }) => attempt)).toEqual([1, 2, 3])
    const steps =
      await it.sql`select step from posthaste.attempts where delivery_id = ${uuidOf(id)}::uuid order by number`
    expect(steps.map(({ step }) => step)).toEqual([0, null, 1])
    await until('all to be told', () => failures.length === 3)
    expect(failures).toEqual([
      ['attempt.failed', 1],
      ['attempt.failed', 2],
      ['attempt.failed', 3],
    ])
  })

  test('a success ends the attempts of the schedule', async () => {
    const path = freshPath()
    receiver.answer(path, ({ attempt }) => (attempt === 1 ? 500 : 200))
    const endpoint = await it.endpoint(receiver.url(path))
    await start()
    await it.emit(1)
    await it.settled()
    const [delivery] = await list(endpoint.id)
    await it.webhooks.deliveries.retry('default', delivery?.id as string)
    expect(await retried(delivery?.id as string, 2)).toMatchObject({ status: 'succeeded', next_attempt_at: null })
    expect(await it.sql`select from posthaste.retries`).toHaveLength(0)
    await it.moveTime(60_000)
    await it.emit(2)
    await it.settled()
    expect(receiver.requests(path)).toHaveLength(3)
  })

  test('passes back-off, rate limit and order', async () => {
    const path = freshPath()
    const limited = await it.endpoint(receiver.url(path), { ordering: 'fifo', rate_limit: { limit: 1, per: 'minute' } })
    await start()
    await it.emit(1, 2, 3)
    await until('them to be dispatched', async () => (await list(limited.id)).length === 3)
    await it.sql`insert into posthaste.endpoint_health (endpoint, epoch, failing_since, backoff_ms, backoff_until)
      values (${await it.numberOf(limited.id)}, 1, now(), 300000, now() + interval '5 minutes')`
    await it.webhooks.endpoints.update('default', limited.id, { description: 'its health is read anew' })
    const [third] = await list(limited.id)
    await it.webhooks.deliveries.retry('default', third?.id as string)
    const after = await retried(third?.id as string, 1)
    expect(after).toMatchObject({ status: 'succeeded', attempt_count: 1 })
    expect(receiver.requests(path).map(({ data }) => data.n)).toEqual([3])
    expect(await statuses(limited.id)).toEqual(['succeeded', 'pending', 'pending'])
  })

  test('what was never attempted goes ahead of its turn, once, and keeps its schedule when it fails', async () => {
    const path = freshPath()
    receiver.answer(path, ({ data }) => (data.n === 1 ? 'hang' : 500))
    const endpoint = await it.endpoint(receiver.url(path), { max_concurrency: 1 })
    await start()
    await it.emit(...Array.from({ length: 40 }, (_, n) => n + 1))
    await receiver.received(path, 1)
    const [newest] = await list(endpoint.id)
    expect(newest).toMatchObject({ status: 'pending', attempt_count: 0 })
    await it.webhooks.deliveries.retry('default', newest?.id as string)
    const after = await retried(newest?.id as string, 1)
    expect(after).toMatchObject({ status: 'retrying', attempt_count: 1 })
    expect(after.attempts[0]).toMatchObject({ number: 1, manual: false })
    receiver.answer(path, 200)
    receiver.release(200)
    await it.settled()
    const counts = new Map<unknown, number>()
    for (const { data } of receiver.requests(path)) counts.set(data.n, (counts.get(data.n) ?? 0) + 1)
    expect([...counts.values()].every((count) => count === 1)).toBe(true)
    expect(counts.size).toBe(40)
  })

  test('asked for twice, or while an attempt is under way, it is one attempt', async () => {
    const path = freshPath()
    receiver.answer(path, ({ attempt }) => (attempt === 1 ? 404 : 'hang'))
    const endpoint = await it.endpoint(receiver.url(path))
    const another = it.another({ retrySchedule: [] })
    await another.start()
    await it.emit(1)
    await it.settled()
    const [delivery] = await list(endpoint.id)
    const id = delivery?.id as string
    await Promise.all([1, 2, 3].map(() => it.webhooks.deliveries.retry('default', id)))
    await receiver.received(path, 2)
    await it.webhooks.deliveries.retry('default', id)
    await it.webhooks.deliveries.retry('default', id)
    await until('the commands to be dispatched', async () => {
      const [row] = await it.sql`select count(*)::int n from posthaste.dispatches where commands like '%"retry"%'`
      return row?.n >= 2
    })
    receiver.answer(path, 200)
    receiver.release(200)
    await retried(id, 2)
    const [marked] = await it.emit(2)
    await until('what came later to be sent', () => receiver.requests(path).some(({ eventId }) => eventId === marked))
    await it.settled()
    expect(receiver.requests(path).filter(({ deliveryId }) => deliveryId === id)).toHaveLength(2)
  })

  test('survives the death of the worker between the request and its record, and is not repeated after it', async () => {
    const path = freshPath()
    receiver.answer(path, ({ attempt }) => (attempt === 1 ? 404 : 'hang'))
    const endpoint = await it.endpoint(receiver.url(path))
    const dying = it.another({ retrySchedule: [] })
    await dying.start()
    await it.emit(1)
    await it.settled()
    const [delivery] = await list(endpoint.id)
    const id = delivery?.id as string
    await it.webhooks.deliveries.retry('default', id)
    await receiver.received(path, 2)
    // Fenced from outside, as when its lease runs out: what it has under way can no longer be recorded by it.
    await it.sql`select posthaste.fence(token) from posthaste.workers where not fenced`
    receiver.answer(path, 200)
    receiver.release(200)
    expect(await retried(id, 2)).toMatchObject({ status: 'succeeded' })
    const sent = receiver.requests(path).length
    await it.sql`select posthaste.fence(token) from posthaste.workers where not fenced`
    await it.emit(2)
    await receiver.received(path, sent + 1)
    await it.settled()
    expect(receiver.requests(path).filter(({ deliveryId }) => deliveryId === id)).toHaveLength(sent)
  })

  test('is refused where the endpoint is not active', async () => {
    const path = freshPath()
    const endpoint = await it.endpoint(receiver.url(path))
    await start()
    await it.emit(1)
    await it.settled()
    const [delivery] = await list(endpoint.id)
    await it.webhooks.endpoints.update('default', endpoint.id, { active: false })
    await expect(it.webhooks.deliveries.retry('default', delivery?.id as string)).rejects.toMatchObject({
      code: 'ENDPOINT_NOT_ACTIVE',
      status: 409,
    })
    await it.webhooks.endpoints.remove('default', endpoint.id)
    await expect(it.webhooks.deliveries.retry('default', delivery?.id as string)).rejects.toMatchObject({ status: 409 })
    await expect(it.webhooks.deliveries.retry('default', `dlv_${'0'.repeat(32)}`)).rejects.toMatchObject({
      status: 404,
    })
  })
})

describe('trying out', () => {
  test('sends the example now, signed, from a process that does not deliver, to an inactive endpoint, and logs nothing', async () => {
    const path = freshPath()
    receiver.answer(path, { status: 200, headers: { 'x-seen': 'yes' }, body: 'thanks' })
    const endpoint = await it.endpoint(receiver.url(path), {
      active: false,
      secret: 'your_webhook_secret',
      headers: { 'X-Api-Key': 'very-secret' },
    })
    const result = await it.webhooks.deliveries.sendTest('default', endpoint.id, { event: 'commission.approved' })
    const [request] = receiver.requests(path)
    expect(result).toMatchObject({
      event: 'commission.approved',
      outcome: 'succeeded',
      status_code: 200,
      error_code: null,
      response: { excerpt: 'thanks', headers: { 'x-seen': 'yes' } },
      request: { body: request?.body.toString('utf8'), headers: { 'X-Api-Key': '***' } },
    })
    expect(result.timings.connect).toBeGreaterThan(0)
    expect(request?.data).toEqual(it.webhooks.catalog.get('commission.approved').example)
    expect(request?.headers['x-api-key']).toBe('very-secret')
    const expected = createHmac('sha256', 'your_webhook_secret')
      .update(request?.body as Buffer)
      .digest('hex')
    expect(request?.headers['x-webhook-signature']).toBe(`sha256=${expected}`)
    expect(await it.sql`select from posthaste.events`).toHaveLength(0)
    expect(await it.sql`select from posthaste.attempts`).toHaveLength(0)
  })

  test('a failure is an answer, whatever it is, and counts for nothing', async () => {
    const path = freshPath()
    const endpoint = await it.endpoint(receiver.url(path))
    for (const [answer, error_code, status_code] of [
      [503, 'HTTP_503', 503],
      [410, 'HTTP_410', 410],
      ['reset', 'CONNECTION_RESET', null],
      ['hang', 'TIMEOUT', null],
    ] as const) {
      receiver.answer(path, answer)
      const result = await it.webhooks.deliveries.sendTest('default', endpoint.id)
      expect(result).toMatchObject({ event: 'test.happened', outcome: 'failed', error_code, status_code })
    }
    expect(await it.webhooks.endpoints.get('default', endpoint.id)).toMatchObject({ status: 'active' })
    expect(await it.sql`select from posthaste.endpoint_health where failing_since is not null`).toHaveLength(0)
    await expect(it.webhooks.deliveries.sendTest('default', endpoint.id, { event: 'no.such' })).rejects.toMatchObject({
      code: 'UNKNOWN_EVENT_TYPE',
      status: 422,
    })
  })

  test('nothing is sent from a copy of the database under another name', async () => {
    const path = freshPath()
    const endpoint = await it.endpoint(receiver.url(path))
    const copy = it.another({ installation: 'staging' })
    await expect(copy.deliveries.sendTest('default', endpoint.id)).rejects.toMatchObject({
      code: 'INSTALLATION_MISMATCH',
    })
    expect(receiver.requests(path)).toEqual([])
  })
})
