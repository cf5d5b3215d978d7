/** Beginning and ending: in the wrong order, several at once, and in the middle of something. */
import { createWebhooks } from '@posthaste/core'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type TestOptions, type TestWebhooks, underTest, withTestOptions } from '../support/webhooks-under-test.ts'
import { killWorkerProcesses, startWorkerProcess } from '../support/worker-process.ts'

let receiver: Receiver
let database: TestDatabase
const made: TestWebhooks[] = []
beforeAll(async () => {
  receiver = await startReceiver()
  database = await createTestDatabase()
})
afterEach(async () => {
  await killWorkerProcesses()
  await Promise.all(made.splice(0).map((webhooks) => webhooks.stop()))
})
afterAll(async () => {
  await receiver.close()
  await database.drop()
})

function create(url: string, options: TestOptions = {}): TestWebhooks {
  const webhooks = createWebhooks(withTestOptions(url, options)) as TestWebhooks
  made.push(webhooks)
  return webhooks
}

describe('starting', () => {
  test('before migrate() is NOT_MIGRATED, and possible afterwards, with the same object', async () => {
    const fresh = await createTestDatabase()
    const webhooks = create(fresh.url)
    await expect(webhooks.start()).rejects.toMatchObject({ code: 'NOT_MIGRATED' })
    await webhooks.migrate()
    await webhooks.start()
    await expect(webhooks.start()).rejects.toMatchObject({ code: 'ALREADY_STARTED' })
    await webhooks.stop()
    await expect(webhooks.start()).rejects.toMatchObject({ code: 'STOPPED' })
    await fresh.drop()
  })

  test('migrations raced by several instances are applied once, engine and all', async () => {
    const fresh = await createTestDatabase()
    const instances = Array.from({ length: 6 }, () => create(fresh.url, { worker: { jobEngine: true } }))
    const applied = await Promise.all(instances.map((webhooks) => webhooks.migrate()))
    const all = instances[0]!.migrations().map(({ number }) => number)
    expect(applied.filter((numbers) => numbers.length > 0)).toEqual([all])
    await Promise.all(instances.map((webhooks) => webhooks.start()))
    await Promise.all(instances.map((webhooks) => webhooks.stop()))
    await fresh.drop()
  }, 40_000)

  test("under another installation's name sends nothing; what it emits is stored, and the right one sends it", async () => {
    const host = await underTest()
    try {
      await host.endpoint(receiver.url('/installation'))
      const copy = host.another({ installation: 'staging' })
      await copy.migrate()
      await copy.start()
      await copy.emit('test.happened', { n: 1 }, { tx: 'own' })
      await host.sql.begin((tx) => copy.emit('test.happened', { n: 2 }, { tx }))
      expect(await host.sql`select * from posthaste.workers`).toHaveLength(0)
      expect(receiver.requests('/installation')).toEqual([])
      await host.webhooks.start()
      const requests = await receiver.received('/installation', 2)
      expect(requests.map(({ data }) => data.n).toSorted()).toEqual([1, 2])
    } finally {
      await host.stop()
    }
  })
})

describe('stopping', () => {
  test('twice, and without having started', async () => {
    const webhooks = create(database.url)
    await Promise.all([webhooks.stop(), webhooks.stop()])
    await expect(webhooks.stop()).resolves.toBeUndefined()
  })

  test('while start() is under way leaves nothing running', async () => {
    const webhooks = create(database.url)
    await webhooks.migrate()
    const starting = webhooks.start().catch((error: unknown) => error)
    await webhooks.stop()
    const outcome = await starting
    // Either it had started and was stopped, or it says why it did not.
    if (outcome !== undefined) expect(outcome).toBeInstanceOf(Error)
    expect(await webhooks.stop()).toBeUndefined()
    await until('no connection of it to be left', async () => {
      const sql = postgres(database.url, { max: 1 })
      const [row] = await sql`select count(*)::int n from pg_stat_activity
        where datname = current_database() and application_name like 'posthaste%'`
      await sql.end()
      return row?.n === 0
    })
  })

  test('a worker whose lanes were taken away meanwhile says so, and ends', async () => {
    const logged: string[] = []
    const host = await underTest({
      logger: {
        debug() {},
        info() {},
        warn: (message) => logged.push(message),
        error: (message) => logged.push(message),
      },
    })
    const other = postgres(host.database.url, { max: 2 })
    try {
      await host.endpoint(receiver.url('/fenced'))
      await host.webhooks.start()
      const lock = await other.reserve()
      await lock`begin`
      await lock`lock table posthaste.attempts in share mode`
      await host.emit(1)
      await receiver.received('/fenced', 1)
      const stopped = host.webhooks.stop()
      await until('its lanes to be given back but for the one with the attempt', async () => {
        return (await other`select from posthaste.lanes where token is not null`).length === 1
      })
      await other`update posthaste.workers set fenced = true`
      await lock`rollback`
      lock.release()
      await stopped
      expect(logged.filter((message) => message.includes('lost its lease'))).toHaveLength(1)
      expect(await other`select * from posthaste.attempts`).toHaveLength(0)
    } finally {
      await other.end()
      await host.stop()
    }
  }, 30_000)

  test('lets the process end, with the job engine and after a delivery', async () => {
    const host = await underTest()
    try {
      await host.endpoint(receiver.url('/ends'))
      const worker = await startWorkerProcess(host.database.url, { worker: { jobEngine: true } })
      await worker.order({ do: 'migrate' }, 20_000)
      await worker.order({ do: 'start' })
      await worker.order({ do: 'emit', from: 1, to: 5 })
      await receiver.received('/ends', 5)
      await worker.order({ do: 'stop' })
      expect(await worker.finish(3_000)).toBe(0)
      expect(worker.unhandled).toEqual([])
      // Its lanes were given back, and its worker row says that it is gone.
      expect(await host.sql`select * from posthaste.lanes where token is not null`).toHaveLength(0)
      expect(await host.sql`select * from posthaste.workers where not fenced`).toHaveLength(0)
    } finally {
      await host.stop()
    }
  }, 30_000)
})
