/** A host transaction that emits, stays open while a million other events pass, and commits. */
import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const OTHERS = 1_000_000
const PER_TRANSACTION = 5_000

let receiver: Receiver
let host: UnderTest
beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest()
})
afterAll(async () => {
  await host.stop()
  await receiver.close()
})

/** Buffers that one idle look of the dispatcher touches, in a transaction that is rolled back. */
async function buffersOfALook(): Promise<number> {
  let buffers = 0
  await host.sql
    .begin(async (tx) => {
      const [row] = await tx`explain (analyze, buffers, format json) select * from posthaste.dispatch(1000, 2000)`
      const plan = (row!['QUERY PLAN'] as { Plan: Record<string, number> }[])[0]!.Plan
      buffers = plan['Shared Hit Blocks']! + plan['Shared Read Blocks']!
      throw new Error('rolled back')
    })
    .catch(() => {})
  return buffers
}

test('its event is dispatched within a second of the commit, once, and no look in between costs more than before', async () => {
  await host.endpoint(receiver.url('/late'))
  const late = postgres(host.database.url, { max: 1 })
  const commit = Promise.withResolvers<void>()
  const emitted = Promise.withResolvers<string>()
  const open = late.begin(async (tx) => {
    const { id } = await host.webhooks.emit('test.happened', { n: 1 }, { tx })
    emitted.resolve(id as string)
    await commit.promise
  })
  const id = await emitted.promise
  await host.webhooks.start()
  await host.dispatched()
  const quiet: number[] = []
  for (let look = 0; look < 7; look++) quiet.push(await buffersOfALook())
  // The first one reads the catalogue, and one may find another dispatcher at it.
  const bound = quiet.toSorted((one, other) => one - other)[3]! * 3 + 50

  // An account that nobody subscribes to: what passes is looked at and makes no delivery. Idle looks in between.
  const busy: number[] = []
  // The smaller of two in turn: after an ANALYZE of its own accord a look plans anew, and reads the catalogue for that.
  const lookInBetween = async () => Math.min(await buffersOfALook(), await buffersOfALook())
  for (let done = 0; done < OTHERS; done += PER_TRANSACTION) {
    await host.sql`insert into posthaste.events (account, type, data)
      select 'nobody', 'test.happened', '{"n":0}' from generate_series(1, ${PER_TRANSACTION}::int)`
    if (done % (PER_TRANSACTION * 20) > 0) continue
    await host.dispatched(120_000)
    busy.push(await lookInBetween())
  }
  await host.dispatched(120_000)
  busy.push(await lookInBetween())
  expect(receiver.requests('/late')).toHaveLength(0)
  expect(Math.max(...busy), `at first ${quiet.join(', ')}; in between ${busy.join(', ')}`).toBeLessThanOrEqual(bound)

  commit.resolve()
  await open
  const at = performance.now()
  await until('it to be dispatched', async () => (await host.sql`select from posthaste.deliveries`).length > 0)
  const tookMs = performance.now() - at
  await receiver.received('/late', 1)
  await host.settled()
  expect(receiver.requests('/late').map(({ eventId }) => eventId)).toEqual([id])
  console.log(
    `dispatched ${tookMs.toFixed(0)} ms after the commit; buffers of a look: ${quiet.join(', ')} at first, ${busy.join(', ')} in between`,
  )
  // On a machine of its own: tens of ms.
  expect(tookMs).toBeLessThan(1_000)
  await late.end()
}, 600_000)
