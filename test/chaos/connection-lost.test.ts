/** The management API's own transactions, on connections that the server ends in the middle of them. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

let host: UnderTest
const uncaught: unknown[] = []
const note = (error: unknown) => uncaught.push(error)

beforeAll(async () => {
  host = await underTest()
  process.on('uncaughtException', note)
  process.on('unhandledRejection', note)
})

afterAll(async () => {
  process.off('uncaughtException', note)
  process.off('unhandledRejection', note)
  await host.stop()
})

test('a write whose connection is ended rejects, ends nothing else, and the next one works', async () => {
  const create = () => host.webhooks.endpoints.create('default', { url: 'https://192.0.78.24/hook', events: ['*'] })
  await create()
  let rejected = 0
  for (let round = 0; round < 25; round++) {
    const writes = Array.from({ length: 8 }, () => create().catch(() => void rejected++))
    await new Promise((resolve) => setTimeout(resolve, round % 8))
    await host.sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and application_name like 'posthaste%'`
    await Promise.all(writes)
  }
  expect(rejected).toBeGreaterThan(0)
  await new Promise((resolve) => setTimeout(resolve, 100))
  expect(uncaught).toEqual([])
  await expect.poll(async () => (await create()).status, { timeout: 5_000 }).toBe('active')
}, 60_000)
