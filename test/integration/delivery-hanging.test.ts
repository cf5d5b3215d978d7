/** Many endpoints that begin to hang at the same time, in the middle of their work: the others have theirs while those still hang. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { underTest } from '../support/webhooks-under-test.ts'

let receiver: Receiver

beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())

test('half of 40 endpoints begin to hang, with more waiting for them than the worker has slots', async ({
  onTestFinished,
}) => {
  const host = await underTest<'multi'>({
    tenancy: 'multi',
    // So long that nothing which hangs ends while this test waits.
    http: { deadline: '120s', connectionsPerOrigin: 500 },
    worker: { lease: '150s', concurrency: 40 },
  })
  onTestFinished(() => {
    receiver.release(200)
    return host.stop()
  })
  const endpoints = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => {
      const path = `/${index % 2 === 0 ? 'hangs' : 'well'}/${index}`
      const account = `account-${index}`
      await host.webhooks.endpoints.create(account, { url: receiver.url(path), events: ['test.happened'] })
      return { path, account, hangs: index % 2 === 0 }
    }),
  )
  const emitToAll = (each: number) =>
    host.webhooks.emitMany(
      endpoints.flatMap(({ account }) =>
        Array.from({ length: each }, (_, n) => ({ type: 'test.happened' as const, data: { n }, account })),
      ),
      { tx: 'own' },
    )
  await host.webhooks.start()
  await emitToAll(5)
  for (const { path } of endpoints) await receiver.received(path, 5, 60_000)
  for (const { path, hangs } of endpoints) if (hangs) receiver.answer(path, 'hang')
  await emitToAll(10)
  for (const { path, hangs } of endpoints) if (!hangs) await receiver.received(path, 15, 60_000)
  // New events come through, too, while those that hang hold what they were lent.
  await emitToAll(1)
  for (const { path, hangs } of endpoints) if (!hangs) await receiver.received(path, 16, 60_000)
  const open = endpoints.filter(({ hangs }) => hangs).reduce((sum, { path }) => sum + receiver.open(path), 0)
  expect(open).toBeGreaterThanOrEqual(20)
  expect(open).toBeLessThan(40)
  expect(await host.sql`select from posthaste.attempts where outcome = 2`).toHaveLength(0)
  // When they answer again, nothing of theirs is lost.
  for (const { path, hangs } of endpoints) if (hangs) receiver.answer(path, 200)
  receiver.release(200)
  await until(
    'everything to be delivered',
    async () => {
      const [row] = await host.sql`select count(*)::int n from posthaste.attempts where outcome = 1`
      return row?.n === 40 * 16
    },
    60_000,
  )
}, 200_000)
