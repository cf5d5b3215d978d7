/** The kit, and errors of Node's own modules, in another realm than Node's. */
import { connect } from 'node:net'
import { createWebhooks } from '@posthaste/core'
import { verifyWebhook } from '@posthaste/core/receiver'
import { createTestInstallation, signWebhook, type TestInstallation } from '@posthaste/core/testing'
import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'

const database = process.env.TEST_DATABASE_URL!
const sql = postgres(database, { onnotice: () => {} })
let posthaste: TestInstallation

beforeAll(async () => {
  posthaste = await createTestInstallation({ database })
})
afterAll(async () => {
  await posthaste.stop()
  await sql.end()
})

test('this is another realm: an error of Node is none of its own', async () => {
  const error = await new Promise((resolve) => connect(1, '127.0.0.1').once('error', resolve))
  expect(error instanceof Error).toBe(false)
})

test('emits dates, delivers, tries again, verifies', async () => {
  const { webhooks } = posthaste
  const { secret } = await webhooks.endpoints.create('default', { url: 'https://shop.example/hooks', events: ['*'] })
  posthaste.respondWith(({ attempt }) => (attempt === 1 ? 503 : 200))
  const data = { ...webhooks.catalog.definitions['payout.processed'].example, processed_date: new Date(0) }
  await sql.begin(async (tx) => {
    await webhooks.emit('payout.processed', data, { tx, occurredAt: new Date() })
    expect(await posthaste.emittedIn(tx)).toMatchObject([{ type: 'payout.processed' }])
  })
  await posthaste.settle()
  await posthaste.advance('5s')
  await posthaste.settle()
  expect(posthaste.sent.map(({ answer }) => answer)).toEqual([503, 200])
  expect(posthaste.sent.every((request) => request.verifiesWith(secret))).toBe(true)
  expect(posthaste.sent[0]?.data).toMatchObject({ processed_date: '1970-01-01T00:00:00.000Z' })
})

test('verifies bodies of every kind', async () => {
  const secret = 'your_webhook_secret'
  const { body, headers } = signWebhook({ secret, event: 'payout.processed', data: {} })
  for (const received of [body, Buffer.from(body), new TextEncoder().encode(String(body))]) {
    expect(await verifyWebhook(received, headers, secret)).toMatchObject({ event: 'payout.processed' })
  }
})

test('errors are typed, and errors of their realm', async () => {
  const refused = posthaste.webhooks.emit('payout.processed', {} as never, { tx: 'own' })
  await expect(refused).rejects.toBeInstanceOf(Error)
  const away = createWebhooks({
    database: 'postgres://nobody@127.0.0.1:1/nothing',
    installation: 'test',
    secretStorage: 'plain',
  })
  try {
    const { example } = away.catalog.definitions['commission.approved']
    await expect(away.emit('commission.approved', example, { tx: 'own' })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    })
    await expect(away.endpoints.list('default')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  } finally {
    await away.stop()
  }
})
