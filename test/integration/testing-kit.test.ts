/** `@posthaste/core/testing`: an installation per file, driven by hand, on real Postgres. */
import { createWebhooks } from '@posthaste/core'
import { createTestInstallation, type TestInstallation } from '@posthaste/core/testing'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { testEvents } from '../support/webhooks-under-test.ts'

const START = new Date('2024-01-20T14:30:00.000Z')

let database: TestDatabase
let sql: postgres.Sql
let it: TestInstallation<typeof testEvents>
let url = 0
beforeAll(async () => {
  database = await createTestDatabase()
  sql = postgres(database.url, { max: 4, onnotice: () => {} })
  it = await createTestInstallation({ database: database.url, events: testEvents, startsAt: START })
})
afterEach(async () => {
  it.clear()
  const { data } = await it.webhooks.endpoints.list('default')
  for (const { id } of data) await it.webhooks.endpoints.remove('default', id)
  await it.settle()
})
afterAll(async () => {
  await it.stop()
  await sql.end()
  await database.drop()
})

const endpoint = (more: object = {}) =>
  it.webhooks.endpoints.create('default', { url: `https://shop.example/${++url}`, events: ['test.happened'], ...more })
const emit = (...ns: number[]) =>
  sql.begin(async (tx) => {
    for (const n of ns) await it.webhooks.emit('test.happened', { n }, { tx })
  })

describe('settle', () => {
  test('delivers what was committed, and nothing that was not', async () => {
    const { id, secret } = await endpoint()
    await emit(1)
    await sql
      .begin(async (tx) => {
        await it.webhooks.emit('test.happened', { n: 2 }, { tx })
        throw new Error('no')
      })
      .catch(() => {})
    expect(it.sent).toEqual([])
    await it.settle()
    const request = it.single({ type: 'test.happened', endpoint: id })
    expect(request).toMatchObject({ data: { n: 1 }, attempt: 1, endpointId: id, account: 'default', answer: 200 })
    expect(request.payload).toMatchObject({ event: 'test.happened', timestamp: START.getTime() / 1000 })
    expect(request.verifiesWith(secret)).toBe(true)
    const { data } = await it.webhooks.deliveries.list('default', id)
    expect(data).toMatchObject([{ status: 'succeeded' }])
    await it.settle()
    expect(it.sent).toHaveLength(1)
  })

  test('retries are for when their time has come, and not before', async () => {
    const { id } = await endpoint()
    it.respondWith(500)
    await emit(1)
    await it.settle()
    await it.advance(4_999)
    await it.settle()
    expect(it.sent).toHaveLength(1)
    await it.advance(1)
    await it.settle()
    expect(it.sent.map(({ attempt }) => attempt)).toEqual([1, 2])
    for (const wait of ['5m', '30m', '2h', '5h', '10h', '14h', '20h', '24h'] as const) {
      await it.advance(wait)
      await it.settle()
    }
    expect(it.sent.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    const { data } = await it.webhooks.deliveries.list('default', id)
    expect(data).toMatchObject([{ status: 'failed', attempt_count: 10 }])
  })

  test('an endpoint that is down is backed off as a whole, probed in time, and recovers', async () => {
    const { id } = await endpoint()
    it.respondWith({ error: 'CONNECT_FAILED' })
    await emit(1, 2, 3, 4, 5, 6, 7, 8)
    await it.settle()
    const before = it.sent.length
    expect(before).toBeLessThan(8)
    expect(await it.webhooks.endpoints.get('default', id)).toMatchObject({ status: 'degraded' })
    it.respondWith(200)
    await it.advance(9_999)
    await it.settle()
    expect(it.sent).toHaveLength(before)
    await it.advance('5m')
    await it.settle()
    expect(
      new Set(
        it
          .find({ endpoint: id })
          .filter(({ answer }) => answer === 200)
          .map(({ data }) => data.n),
      ).size,
    ).toBe(8)
    expect(await it.webhooks.endpoints.get('default', id)).toMatchObject({ status: 'active' })
  })

  test('Retry-After, a rate limit and 410 are what they say', async () => {
    const limited = await endpoint({ rate_limit: { limit: 1, per: 'second' } })
    await emit(1, 2)
    await it.settle()
    for (const sent of [1, 2]) {
      await it.advance('1s')
      await it.settle()
      expect(it.find({ endpoint: limited.id })).toHaveLength(sent)
    }
    await it.webhooks.endpoints.remove('default', limited.id)
    const asking = await endpoint()
    it.respondWith(({ attempt }) => (attempt === 1 ? { status: 503, headers: { 'Retry-After': '60' } } : 200))
    await emit(3)
    await it.settle()
    await it.advance('59s')
    await it.settle()
    expect(it.find({ endpoint: asking.id })).toHaveLength(1)
    await it.advance('1s')
    await it.settle()
    expect(it.find({ endpoint: asking.id })).toHaveLength(2)
    const disabled: string[] = []
    it.webhooks.events.on(
      'endpoint.disabled',
      ({ endpointId, reason }) => void disabled.push(`${endpointId} ${reason}`),
    )
    it.respondWith(410)
    await emit(4)
    await it.settle()
    expect(disabled).toEqual([`${asking.id} gone`])
    expect(await it.webhooks.endpoints.get('default', asking.id)).toMatchObject({ status: 'disabled' })
  })

  test('a rotation: both secrets while they overlap, the new one alone after it', async () => {
    const { id } = await endpoint({ secret: 'the_old_secret' })
    await it.webhooks.endpoints.rotateSecret('default', id, { secret: 'the_new_secret', overlap_seconds: 3600 })
    await emit(1)
    await it.settle()
    const during = it.single({ endpoint: id })
    expect([during.verifiesWith('the_old_secret'), during.verifiesWith('the_new_secret', 'standard')]).toEqual([
      true,
      true,
    ])
    expect(during.checkSignatures('the_new_secret')).toEqual({ xWebhook: false, standard: true, body: false })
    await it.advance('1h')
    it.clear()
    await emit(2)
    await it.settle()
    const after = it.single({ endpoint: id })
    expect([after.verifiesWith('the_old_secret', 'standard'), after.verifiesWith('the_new_secret')]).toEqual([
      false,
      true,
    ])
    expect(after.verifiesWith('the_new_secret_')).toBe(false)
  })

  test('a manual retry, a test of an endpoint and a replay', async () => {
    const { id } = await endpoint()
    it.respondWith(500)
    await emit(1)
    await it.settle()
    const [delivery] = (await it.webhooks.deliveries.list('default', id)).data
    it.respondWith(200)
    await it.webhooks.deliveries.retry('default', delivery!.id)
    await it.settle()
    expect(it.sent.map(({ attempt, answer }) => [attempt, answer])).toEqual([
      [1, 500],
      [2, 200],
    ])
    const tried = await it.webhooks.deliveries.sendTest('default', id, { event: 'payout.processed' })
    expect([tried.outcome, it.single({ type: 'payout.processed' }).endpointId]).toEqual(['succeeded', null])
    // What is replayed is found by the time of this installation, not by that of the machine.
    await it.advance('10d')
    const since = it.now().toISOString()
    await emit(2, 3)
    await it.settle()
    it.clear()
    const { id: replay } = await it.webhooks.replays.start('default', id, { since, which: 'all' })
    await it.settle()
    expect(it.sent.map(({ data }) => data.n)).toEqual([2, 3])
    expect(await it.webhooks.replays.get('default', replay)).toMatchObject({ status: 'completed', done: 2 })
  })

  test('a database that cannot be used is an error, not a pause for ever', async () => {
    const broken = await createTestInstallation({ database: database.url, events: testEvents })
    await broken.settle()
    await sql.unsafe(`alter table ${broken.options.schema}.retries rename to retries_of_nobody`)
    await expect(broken.settle()).rejects.toThrow('retries')
    await sql.unsafe(`alter table ${broken.options.schema}.retries_of_nobody rename to retries`)
    await broken.stop()
  })
})

describe('what was sent', () => {
  test('single says what there was instead', async () => {
    expect(() => it.single({ type: 'test.happened' })).toThrow(
      /one request with type test\.happened.*none.*settle\(\)/s,
    )
    const [one, two] = [await endpoint(), await endpoint()]
    await emit(1)
    await it.settle()
    expect(() => it.single()).toThrow(/there are 2\. Sent:\n {2}test\.happened to https:/)
    expect(it.single({ endpoint: one.url }).endpointId).toBe(one.id)
    expect(it.find({ account: 'default' })).toHaveLength(2)
    expect(it.find({ endpoint: two.id, attempt: 2 })).toEqual([])
  })

  test('a responder may look, wait, answer with anything, or throw', async () => {
    const { id } = await endpoint()
    it.respondWith(async ({ data }) => {
      await new Promise((resolve) => setImmediate(resolve))
      if (data.n === 1) throw new Error('the receiver broke')
      return { status: 400, headers: { 'X-Reason': 'no' }, body: 'not this one' }
    })
    await emit(1, 2)
    await it.settle()
    expect(it.sent.map(({ answer }) => answer).toSorted()).toEqual([400, 'CONNECTION_RESET'])
    const { data } = await it.webhooks.deliveries.list('default', id)
    const details = await Promise.all(data.map((one) => it.webhooks.deliveries.get('default', one.id)))
    const attempts = details.flatMap((one) => one.attempts)
    expect(attempts.map((one) => one.response?.excerpt ?? one.error_code).toSorted()).toEqual([
      'CONNECTION_RESET',
      'not this one',
    ])
  })
})

describe('an installation', () => {
  test('has its own schema, seen by nobody else, and leaves nothing', async () => {
    const other = await createTestInstallation({ database: database.url, events: testEvents })
    await other.webhooks.endpoints.create('default', { url: 'https://other.example', events: ['*'] })
    await emit(1)
    await other.settle()
    expect(other.sent).toEqual([])
    const schemas = async () =>
      await sql`select from pg_namespace where nspname = ${other.options.schema!} or nspname = ${other.options.queueSchema!}`
    expect(await schemas()).toHaveLength(1)
    await other.stop()
    await other.stop()
    expect(await schemas()).toHaveLength(0)
  })

  test('has every table and function of a migrated one, but no partitions', async () => {
    const webhooks = createWebhooks({
      database: database.url,
      installation: 'x',
      secretStorage: 'plain',
      worker: { jobEngine: false },
    })
    await webhooks.migrate()
    await webhooks.stop()
    const things = async (schema: string) => {
      const rows = await sql`
        select relname || ' ' || relkind::text name from pg_class where relnamespace = ${schema}::regnamespace and relname !~ '_\\d{8}'
        union all select proname || ' ' || pg_get_function_identity_arguments(oid) from pg_proc where pronamespace = ${schema}::regnamespace
        order by 1`
      return rows.map(({ name }) => (name as string).replaceAll(schema, 'schema')).toSorted()
    }
    expect(await things(it.options.schema!)).toEqual(await things('posthaste'))
    const [row] =
      await sql`select count(*)::int n from pg_class where relnamespace = ${it.options.schema!}::regnamespace
      and relname ~ '_\\d{8}'`
    expect(row?.n).toBe(0)
    await expect(it.webhooks.migrate()).resolves.toEqual([])
  })

  test('takes away what a killed run left hours ago, and nothing younger', async () => {
    const now = Math.floor(Date.now() / 1000)
    const [old, young] = [`posthaste_test_${now - 7 * 3600}_0`, `posthaste_test_${now - 3600}_0`]
    await sql.unsafe(`create schema ${old}; create schema ${young}; create table ${old}.x (n int)`)
    await (await createTestInstallation({ database: database.url })).stop()
    const left = await sql`select nspname from pg_namespace where nspname in (${old}, ${young})`
    expect(left.map(({ nspname }) => nspname)).toEqual([young])
    await sql.unsafe(`drop schema ${young}`)
  })

  test('serves code that makes its own object', async () => {
    const own = createWebhooks(it.options)
    const { id } = await endpoint()
    await own.emit('test.happened', { n: 7 }, { tx: 'own' })
    await own.stop()
    await it.settle()
    expect(it.single({ endpoint: id }).data).toEqual({ n: 7 })
  })

  test('of many accounts, and of the other envelope', async () => {
    await using many = await createTestInstallation<typeof testEvents, 'multi'>({
      database: database.url,
      events: testEvents,
      tenancy: 'multi',
      envelope: 'standard',
    })
    const { secret } = await many.webhooks.endpoints.create('acme', { url: 'https://acme.example', events: ['*'] })
    await many.webhooks.emit('test.happened', { n: 1 }, { tx: 'own', account: 'acme' })
    await many.webhooks.emit('test.happened', { n: 2 }, { tx: 'own', account: 'other' })
    await many.settle()
    const request = many.single()
    expect([request.account, request.payload.type, request.verifiesWith(secret)]).toEqual([
      'acme',
      'test.happened',
      true,
    ])
    expect(request.checkSignatures(secret).body).toBeNull()
  })

  test('goes on whatever the application starts and stops, and takes any name', async () => {
    await using other = await createTestInstallation({ database: database.url, installation: "O'Reilly" })
    await other.webhooks.start()
    await other.webhooks.endpoints.create('default', { url: 'https://shop.example', events: ['*'] })
    await other.webhooks.stop()
    await other.webhooks.emit('payout.failed', other.webhooks.catalog.get('payout.failed').example as never, {
      tx: 'own',
    })
    expect(other.sent).toEqual([])
    await other.settle()
    expect(other.single().type).toBe('payout.failed')
  })

  test('that cannot be made says why', async () => {
    const role = `posthaste_test_weak_${process.pid}`
    await sql.unsafe(`create role ${role} login password 'x'`)
    try {
      const weak = new URL(database.url)
      weak.username = role
      weak.password = 'x'
      await expect(createTestInstallation({ database: weak.href })).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining('create a schema'),
      })
    } finally {
      await sql.unsafe(`drop role ${role}`)
    }
    await expect(it.advance('soon' as never)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })
})
