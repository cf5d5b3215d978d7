/** An attempt that is asked for by hand while the schedule makes its own: what was read of the delivery is from before that one. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type UnderTest, underTest, uuidOf } from '../support/webhooks-under-test.ts'

const LOCK = 77

let host: UnderTest
let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest({ retrySchedule: ['1m', '1h', '1h'] })
  await host.webhooks.start()
})
afterAll(async () => {
  await host.stop()
  await receiver.close()
})

/** The database's clock; a look at what was asked for by hand waits in it for the lock, with the snapshot that it has. */
async function setClock(aheadMs: number): Promise<void> {
  await host.sql.unsafe(`create or replace function posthaste.clock() returns timestamptz language plpgsql volatile as $$
    begin
      if current_query() like '%"retryInMs"%' then perform pg_advisory_xact_lock_shared(${LOCK}); end if;
      return clock_timestamp() + interval '${aheadMs} milliseconds';
    end $$`)
}

test('no attempt is sent twice where the schedule was quicker', async () => {
  receiver.answer('/', 500)
  const endpoint = await host.endpoint(receiver.url('/'))
  await host.emit(1)
  await host.settled()
  const [delivery] = (await host.webhooks.deliveries.list('default', endpoint.id)).data
  const id = delivery!.id
  const attempts = async () =>
    (await host.sql`select from posthaste.attempts where delivery_id = ${uuidOf(id)}::uuid`).length

  await setClock(0)
  const held = await host.sql.reserve()
  await held`select pg_advisory_lock(${LOCK})`
  await host.webhooks.deliveries.retry('default', id)
  await until('the look to wait', async () => {
    const [row] = await host.sql`select count(*)::int n from pg_locks l join pg_database d on d.oid = l.database
      where l.locktype = 'advisory' and l.objid = ${LOCK} and not l.granted and d.datname = current_database()`
    return row!.n === 1
  })
  await setClock(61_000)
  await until("the schedule's attempt to be recorded", async () => (await attempts()) === 2)
  await held`select pg_advisory_unlock(${LOCK})`
  held.release()

  // Asked for after that, and so carried out after it.
  await host.webhooks.deliveries.retry('default', id)
  await until('the next one to be recorded', async () => (await attempts()) === 3)
  expect(receiver.requests('/').map(({ attempt }) => attempt)).toEqual([1, 2, 3])
})
