import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { createTestInstallation, type TestInstallation } from '@posthaste/core/testing'
import postgres from 'postgres'
import { payOut } from './payouts.ts'

const database = process.env.TEST_DATABASE_URL!
const sql = postgres(database, { onnotice: () => {} })
let posthaste: TestInstallation

before(async () => {
  posthaste = await createTestInstallation({ database })
  await sql`create table if not exists payouts (id int primary key, batch_id int, affiliate_id int, affiliate_name text,
    cents int, status text)`
  await sql`insert into payouts values (31, 7, 456, 'John Smith', 8550, 'created')`
})
beforeEach(() => posthaste.clear())
after(async () => {
  await posthaste.stop()
  await sql`drop table payouts`
  await sql.end()
})

test('a payout tells the affiliate, signed with his secret', async () => {
  const { webhooks } = posthaste
  const url = 'https://shop.example/hooks'
  const { id, secret } = await webhooks.endpoints.create('default', { url, events: ['payout.*'] })
  await payOut(sql, webhooks, 31)
  await posthaste.settle()

  const request = posthaste.single({ type: 'payout.processed', endpoint: id })
  assert.equal(request.data.amount, 85.5)
  assert.ok(request.verifiesWith(secret))
})

test('a payout that fails tells nobody', async () => {
  await assert.rejects(payOut(sql, posthaste.webhooks, 32))
  await posthaste.settle()
  assert.deepEqual(posthaste.sent, [])
})

test('a receiver that is away is asked again five seconds later', async () => {
  posthaste.respondWith(({ attempt }) => (attempt === 1 ? 503 : 200))
  await payOut(sql, posthaste.webhooks, 31)
  await posthaste.settle()
  await posthaste.advance('5s')
  await posthaste.settle()
  assert.deepEqual(
    posthaste.sent.map(({ answer }) => answer),
    [503, 200],
  )
})

test('an endpoint that fails for days is disabled, and we hear of it', async () => {
  const disabled: string[] = []
  posthaste.webhooks.events.on('endpoint.disabled', ({ reason }) => void disabled.push(reason))
  posthaste.respondWith({ error: 'CONNECT_FAILED' })
  for (let day = 0; day <= 6; day++) {
    await payOut(sql, posthaste.webhooks, 31)
    await posthaste.settle()
    await posthaste.advance('1d')
  }
  assert.deepEqual(disabled, ['failing'])
})
