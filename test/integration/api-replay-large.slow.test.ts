/** A hundred thousand deliveries in one replay: never far ahead of the endpoint, and no transaction open for long. */
import type { Transport } from '@posthaste/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../support/until.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const EVENTS = 100_000

let it: UnderTest
let sent = 0
const eventIds = new Set<string>()
const transport: Transport = {
  async send({ headers }) {
    sent++
    eventIds.add(headers.find(([name]) => name === 'X-Webhook-Id')?.[1] ?? '')
    const timings = { dns: null, connect: null, tls: null, firstByte: 1, total: 1 }
    return { kind: 'response', statusCode: 200, headers: {}, retryAfter: null, excerpt: null, timings }
  },
  close: async () => {},
}
beforeAll(async () => {
  it = await underTest({ transport })
})
afterAll(() => it.stop())

test('a replay of a hundred thousand', async () => {
  for (let from = 0; from < EVENTS; from += 10_000) {
    await it.webhooks.emitMany(
      Array.from({ length: 10_000 }, (_, n) => ({ type: 'test.happened' as const, data: { n: from + n } })),
      { tx: 'own' },
    )
  }
  await it.webhooks.start()
  await it.settled(60_000)
  const endpoint = await it.endpoint('http://127.0.0.1:1/')
  const { id } = await it.webhooks.replays.start('default', endpoint.id, {
    since: '2020-01-01T00:00:00Z',
    which: 'missing',
  })
  let longestMs = 0
  let furthest = 0
  await until(
    'the replay to be over',
    async () => {
      const [open] =
        await it.sql`select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 * 1000 ms
        from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`
      longestMs = Math.max(longestMs, open?.ms as number)
      const { done, status } = await it.webhooks.replays.get('default', id)
      furthest = Math.max(furthest, done - sent)
      return status === 'completed'
    },
    170_000,
  )
  await it.settled(60_000)
  expect(await it.webhooks.replays.get('default', id)).toMatchObject({ total: EVENTS, done: EVENTS })
  expect([eventIds.size, sent]).toEqual([EVENTS, EVENTS])
  expect(furthest).toBeLessThanOrEqual(2_500)
  expect(longestMs).toBeLessThan(2_000)
}, 240_000)
