/**
 * Beside a transaction that keeps vacuum from working, dead rows pile up. No statement of ours may read through them: the rows that a
 * scan looks at stay what they were, for every index and table of ours and of the job engine's.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { perScan, visits } from '../support/visited-rows.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const EVENTS = 400
const WINDOWS_BETWEEN = 10

let receiver: Receiver
let host: UnderTest
beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest({ worker: { jobEngine: true }, retrySchedule: ['100ms', '1h'] })
  await host.webhooks.start()
})
afterAll(async () => {
  await host.stop()
  await receiver.close()
})

test('rows looked at per scan do not grow with the rows that are dead', async () => {
  // One in twenty fails once, so that each leaves a dead row in `retries`.
  const failed = new Set<string>()
  receiver.answer('/some', ({ eventId, data }) => {
    if ((data.n as number) % 20 > 0 || failed.has(eventId)) return 200
    failed.add(eventId)
    return 500
  })
  await host.endpoint(receiver.url('/some'))
  let n = 0
  const window = async () => {
    const events = Array.from({ length: EVENTS }, () => ({
      type: 'test.happened' as const,
      data: { n: ++n },
      idempotencyKey: `key-${n}`,
    }))
    await host.webhooks.emitMany(events, { tx: 'own' })
    await until(
      'all of them to arrive, the failed ones twice',
      () => receiver.requests('/some').length >= n + Math.floor(n / 20),
      60_000,
    )
  }
  const measured = async () => {
    // Sessions report what they counted at most a second later, or when they are idle.
    await sleep(2_500)
    return await visits(host.sql, ['posthaste', 'posthaste_worker'])
  }
  await window()
  const holder = postgres(host.database.url, { max: 1 })
  const reserved = await holder.reserve()
  try {
    await reserved`begin isolation level repeatable read`
    await reserved`select count(*) from posthaste.retries`
    const beforeFirst = await measured()
    await window()
    const first = perScan(beforeFirst, await measured())
    for (let turn = 0; turn < WINDOWS_BETWEEN; turn++) {
      await window()
      // As autovacuum does within a minute, whoever holds it back from removing: plans made for small tables are made anew.
      if (turn === 0) await host.sql`analyze`
    }
    const grownIn = async () => {
      const before = await measured()
      await window()
      const last = perScan(before, await measured())
      // Keys are joined by reading their table through only for as long as that costs less than a look-up for each of a page.
      return [...last]
        .map(([name, rows]) => ({ name, first: first.get(name) ?? 0, rows }))
        .filter(({ name, first, rows }) => name !== 'idempotency_keys' && rows > 2 * first + 20)
    }
    // On a machine that stands still for a second, what was read ahead is forgotten and its retries are read from the first one on.
    // That is once; what reads through dead rows does so in every window.
    let grown = await grownIn()
    for (let again = 0; grown.length > 0 && again < 2; again++) grown = await grownIn()
    const [dead] = await host.sql`select sum(n_dead_tup)::int n from pg_stat_user_tables where schemaname = 'posthaste'`
    expect(dead!.n).toBeGreaterThan(100)
    expect(grown).toEqual([])
  } finally {
    await reserved`rollback`
    reserved.release()
    await holder.end()
  }
}, 180_000)
