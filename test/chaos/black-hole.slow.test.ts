/** A network that loses everything without a word: no reset, no refusal. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { connect } from '../../packages/core/src/storage/connection.ts'
import { advisoryKey } from '../../packages/core/src/storage/migrate.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { until } from '../support/until.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'
import { killWorkerProcesses, startWorkerProcess } from '../support/worker-process.ts'

/** The silence that is allowed is six tenths of the lease. */
const BRIEF = { http: { deadline: '3s' }, worker: { lease: '4s', jobEngine: true } } as const

let receiver: Receiver
let host: UnderTest
let proxy: TcpProxy
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())
beforeEach(async () => {
  host = await underTest(BRIEF)
  proxy = await startTcpProxy(host.database.url)
})
afterEach(async () => {
  await killWorkerProcesses()
  await proxy.close()
  await host.stop()
})

test('after a fail-over, with connections that stay silent for ever, deliveries go on without a restart', async () => {
  await host.endpoint(receiver.url('/fail-over'))
  const worker = await startWorkerProcess(proxy.url, BRIEF)
  await worker.order({ do: 'start' })
  await host.emit(1, 2, 3)
  await receiver.received('/fail-over', 3)
  proxy.fallSilent()
  await host.emit(4, 5, 6)
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  proxy.recover(false)
  await receiver.received('/fail-over', 6, 20_000)
  // Once each; in which order is only promised by `ordering: 'fifo'`.
  expect(
    receiver
      .requests('/fail-over')
      .map(({ data }) => data.n as number)
      .toSorted(),
  ).toEqual([1, 2, 3, 4, 5, 6])
  expect(worker.unhandled).toEqual([])
}, 60_000)

test('stop() ends while the database does not answer, and so does the process; nothing is lost', async () => {
  await host.endpoint(receiver.url('/stop'))
  receiver.answer('/stop', () => new Promise((resolve) => setTimeout(resolve, 500, 200)))
  const worker = await startWorkerProcess(proxy.url, BRIEF)
  await worker.order({ do: 'start' })
  await host.emit(1)
  await until('the request', () => receiver.requests('/stop').length === 1)
  proxy.fallSilent()
  await worker.order({ do: 'stop' }, 40_000)
  expect(await worker.finish(10_000)).toBe(0)
  expect(worker.unhandled).toEqual([])
  // What it could not record, its successor sends again.
  await host.webhooks.start()
  await host.emit(2)
  await until('both, again or for the first time', () => {
    const numbers = receiver.requests('/stop').map(({ data }) => data.n)
    return numbers.filter((n) => n === 1).length === 2 && numbers.includes(2)
  })
}, 80_000)

test('connections that nobody answers and nobody uses hold the end of a pool up for a moment only', async () => {
  const sql = connect(proxy.url, 2)
  await Promise.all([sql`select pg_sleep(0.1)`, sql`select pg_sleep(0.1)`])
  proxy.fallSilent()
  const began = performance.now()
  await sql.end({ timeout: 20 })
  expect(performance.now() - began).toBeLessThan(10_000)
}, 40_000)

test('the end of a pool waits for what is being asked', async () => {
  const sql = connect(proxy.url, 2)
  await sql`select 1`
  const slow = sql`select 1 one from pg_sleep(2)`.then((rows) => rows[0]!.one)
  await sql.end({ timeout: 20 })
  expect(await slow).toBe(1)
}, 40_000)

test('migrate() waits for another instance that migrates, however long that takes', async () => {
  const other = await host.sql.reserve()
  await other`begin`
  await other.unsafe(`select pg_advisory_xact_lock(${advisoryKey('posthaste', 'migrate')})`)
  let waited = false
  const migrated = host.webhooks.migrate().then((numbers) => {
    expect(waited).toBe(true)
    return numbers
  })
  // Longer than a statement of the API may go unanswered.
  await new Promise((resolve) => setTimeout(resolve, 33_000))
  waited = true
  await other`rollback`
  other.release()
  expect(await migrated).toEqual([])
}, 80_000)
