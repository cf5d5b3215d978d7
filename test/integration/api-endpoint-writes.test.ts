/** What each write of the endpoint service leaves in the database: the row, subscriptions, commands, health, seals. */

import { getTableConfig } from 'drizzle-orm/pg-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parsePublicId } from '../../packages/core/src/ids.ts'
import { tables } from '../../packages/core/src/storage/tables.ts'
import { freshAccount, SCHEMA, startTestApi, type TestApi } from '../contract/management-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi({ maxEndpointsPerAccount: 5 })
})
afterAll(() => api.stop())

const BODY = { url: 'https://your-app.com/hooks', events: ['commission.approved', 'payout.*'] }

interface Row {
  no: number
  id: string
  secret: string
  previous_secret: string | null
  overlap: number | null
  previous_accepted: boolean
  headers: string | null
  disabled_reason: string | null
  disabled_at: string | null
  deleted_at: string | null
  version: number
  url: string
}

async function rowOf(id: string): Promise<Row> {
  const [row] = await api.sql<Row[]>`
    select *, extract(epoch from previous_until - posthaste.clock())::float8 overlap
    from posthaste.endpoints where id = ${parsePublicId('ep', id)}`
  if (row === undefined) throw new Error(`no row of ${id}`)
  return row
}

async function patternsOf(id: string): Promise<string[]> {
  const { no } = await rowOf(id)
  const rows = await api.sql<{ pattern: string; account: string }[]>`
    select pattern from posthaste.subscriptions where endpoint = ${no} order by pattern`
  return rows.map(({ pattern }) => pattern)
}

async function commandsOf(id: string): Promise<string[]> {
  const { no } = await rowOf(id)
  const rows = await api.sql<{ kind: string }[]>`select kind from posthaste.commands where endpoint = ${no} order by id`
  return rows.map(({ kind }) => kind)
}

/** As the breaker does. */
async function disable(id: string): Promise<void> {
  const { no } = await rowOf(id)
  await api.sql`update posthaste.endpoints set disabled_reason = 'gone', disabled_at = posthaste.clock() where no = ${no}`
  await api.sql`delete from posthaste.subscriptions where endpoint = ${no}`
  await api.sql`insert into posthaste.endpoint_health (endpoint, epoch, failing_since, backoff_ms, backoff_until)
    values (${no}, 4, posthaste.clock(), 10000, posthaste.clock() + interval '1 hour')`
}

test('the definitions for drizzle are those of the migrations', async () => {
  for (const table of Object.values(tables(SCHEMA))) {
    const config = getTableConfig(table)
    const columns = await api.sql<{ name: string; type: string; required: boolean }[]>`
      select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as required
      from pg_attribute a where a.attrelid = ${`${SCHEMA}.${config.name}`}::regclass and a.attnum > 0 and not a.attisdropped
      order by a.attnum`
    const defined = config.columns.map((column) => ({
      name: column.name,
      type: column.getSQLType(),
      required: column.notNull,
    }))
    // Columns that only the database fills are left out of the log's definition.
    const found =
      config.name === 'commands' ? columns.filter(({ name }) => name !== 'id' && name !== 'xid') : [...columns]
    expect([config.name, defined]).toEqual([config.name, found])
  }
})

describe('subscriptions are exactly the patterns of served endpoints', () => {
  test('through creation, changes, switching off and on, and deletion', async () => {
    const account = freshAccount()
    const { id } = await api.endpoints.create(account, BODY)
    expect(await patternsOf(id)).toEqual(['commission.approved', 'payout.*'])
    await api.endpoints.update(account, id, { events: ['payout.*', '*'] })
    expect(await patternsOf(id)).toEqual(['*', 'payout.*'])
    await api.endpoints.update(account, id, { active: false })
    expect(await patternsOf(id)).toEqual([])
    await api.endpoints.update(account, id, { events: ['code.redeemed'] })
    expect(await patternsOf(id)).toEqual([])
    await api.endpoints.update(account, id, { active: true })
    expect(await patternsOf(id)).toEqual(['code.redeemed'])
    await api.endpoints.replace(account, id, { ...BODY, active: false })
    expect(await patternsOf(id)).toEqual([])
    await api.endpoints.replace(account, id, BODY)
    expect(await patternsOf(id)).toEqual(['commission.approved', 'payout.*'])
    await api.endpoints.remove(account, id)
    expect(await patternsOf(id)).toEqual([])
    expect((await rowOf(id)).deleted_at).not.toBeNull()
    expect(await commandsOf(id)).toEqual([
      'config',
      'config',
      'config',
      'config',
      'resume',
      'config',
      'resume',
      'deleted',
    ])
  })

  test('an endpoint that is created inactive has none', async () => {
    const { id } = await api.endpoints.create(freshAccount(), { ...BODY, active: false })
    expect(await patternsOf(id)).toEqual([])
  })

  test('changes at the same time leave those of the last one', async () => {
    const account = freshAccount()
    const { id } = await api.endpoints.create(account, BODY)
    const choices = [['*'], ['link.clicked'], ['payout.*', 'code.redeemed'], ['commission.*']]
    await Promise.all([
      ...choices.map((events) => api.endpoints.update(account, id, { events })),
      api.endpoints.update(account, id, { active: false }),
      api.endpoints.update(account, id, { active: true }),
    ])
    const { events, active } = await api.endpoints.get(account, id)
    expect(await patternsOf(id)).toEqual(active ? events.toSorted() : [])
  })
})

describe('enabling', () => {
  test('a disabled endpoint: reason cleared, new epoch, clean record, subscriptions back, resume', async () => {
    const account = freshAccount()
    const { id } = await api.endpoints.create(account, BODY)
    await disable(id)
    expect(await api.endpoints.get(account, id)).toMatchObject({
      active: true,
      status: 'disabled',
      disabled_reason: 'gone',
    })
    const enabled = await api.endpoints.update(account, id, { active: true })
    expect(enabled).toMatchObject({ active: true, status: 'active', disabled_reason: null })
    expect(await patternsOf(id)).toEqual(['commission.approved', 'payout.*'])
    expect(await commandsOf(id)).toEqual(['config', 'resume'])
    const { no, disabled_at } = await rowOf(id)
    expect(disabled_at).toBeNull()
    const health = await api.sql`select * from posthaste.endpoint_health where endpoint = ${no}`
    expect([...health]).toEqual([
      { endpoint: no, epoch: 5, failing_since: null, backoff_ms: null, backoff_until: null },
    ])
  })

  test('other changes leave it disabled', async () => {
    const account = freshAccount()
    const { id } = await api.endpoints.create(account, BODY)
    await disable(id)
    const changed = await api.endpoints.update(account, id, { description: 'x', events: ['*'] })
    expect(changed.status).toBe('disabled')
    expect(await patternsOf(id)).toEqual([])
    const off = await api.endpoints.update(account, id, { active: false })
    expect([off.status, off.disabled_reason]).toEqual(['inactive', 'gone'])
  })

  test('`active: true` for one that is served changes neither its record nor its commands to resume', async () => {
    const account = freshAccount()
    const { id } = await api.endpoints.create(account, BODY)
    const { no } = await rowOf(id)
    await api.sql`insert into posthaste.endpoint_health (endpoint, epoch, backoff_ms, backoff_until)
      values (${no}, 2, 10000, posthaste.clock() + interval '1 hour')`
    const same = await api.endpoints.update(account, id, { active: true })
    expect(same.status).toBe('degraded')
    expect(await commandsOf(id)).toEqual(['config', 'config'])
    await api.sql`update posthaste.endpoint_health set backoff_until = posthaste.clock() - interval '1 ms' where endpoint = ${no}`
    expect((await api.endpoints.get(account, id)).status).toBe('active')
  })
})

describe('secrets', () => {
  const open = (row: Row, column: 'secret' | 'previous_secret' | 'headers') =>
    api.keyring.open(row[column] ?? '', `endpoint:${row.id}:${column}`)

  test('lie sealed, each bound to its endpoint and column', async () => {
    const account = freshAccount()
    const created = await api.endpoints.create(account, {
      ...BODY,
      secret: 'my own secret',
      headers: { 'X-Key': 'value' },
    })
    const row = await rowOf(created.id)
    expect(JSON.stringify(row)).not.toMatch(/my own secret|value/)
    expect(open(row, 'secret')).toBe('my own secret')
    expect(open(row, 'headers')).toBe('{"X-Key":"value"}')
    expect(() => api.keyring.open(row.secret, `endpoint:${row.id}:previous_secret`)).toThrow()
  })

  test('another secret is a rotation of a day; the same one is none', async () => {
    const account = freshAccount()
    const { id } = await api.endpoints.create(account, { ...BODY, secret: 'secret number one' })
    for (const [change, old] of [
      [() => api.endpoints.update(account, id, { secret: 'secret number two' }), 'secret number one'],
      [() => api.endpoints.replace(account, id, { ...BODY, secret: 'secret number three' }), 'secret number two'],
    ] as const) {
      const answer = await change()
      expect(JSON.stringify(answer)).not.toContain('secret number')
      const row = await rowOf(id)
      expect(open(row, 'previous_secret')).toBe(old)
      expect(row.previous_accepted).toBe(true)
      expect(row.overlap).toBeGreaterThan(86_300)
      expect(row.overlap).toBeLessThanOrEqual(86_400)
    }
    const before = await rowOf(id)
    await api.endpoints.update(account, id, { secret: 'secret number three' })
    await api.endpoints.replace(account, id, BODY)
    const after = await rowOf(id)
    expect([after.secret, after.previous_secret]).toEqual([before.secret, before.previous_secret])
  })

  test('rotation: generated or given, with the overlap that was asked for', async () => {
    const account = freshAccount()
    const created = await api.endpoints.create(account, BODY)
    const rotated = await api.endpoints.rotateSecret(account, created.id)
    expect(rotated.secret).toMatch(/^whsec_/)
    expect(rotated.secret).not.toBe(created.secret)
    expect(open(await rowOf(created.id), 'previous_secret')).toBe(created.secret)

    const hour = await api.endpoints.rotateSecret(account, created.id, { secret: 'given by me', overlap_seconds: 3600 })
    expect(hour.secret).toBe('given by me')
    expect(Math.round((await rowOf(created.id)).overlap ?? 0)).toBe(3600)

    const none = await api.endpoints.rotateSecret(account, created.id, { overlap_seconds: 0 })
    const row = await rowOf(created.id)
    expect([row.previous_secret, row.overlap, row.previous_accepted]).toEqual([null, null, false])
    expect(await api.endpoints.revealSecret(account, created.id)).toEqual({
      secret: none.secret,
      standard_webhooks_secret: none.secret,
    })
    await expect(api.endpoints.rotateSecret(account, created.id, { overlap_seconds: 604_801 })).rejects.toMatchObject({
      code: 'VALIDATION_FAILED',
    })
  })

  test('a redacted header value keeps the stored one, in another case too', async () => {
    const account = freshAccount()
    const { id } = await api.endpoints.create(account, { ...BODY, headers: { 'X-One': 'first', 'X-Two': 'second' } })
    const changed = await api.endpoints.replace(account, id, { ...BODY, headers: { 'x-one': '***', 'X-New': 'third' } })
    expect(changed.headers).toEqual({ 'x-one': '***', 'X-New': '***' })
    expect(open(await rowOf(id), 'headers')).toBe('{"x-one":"first","X-New":"third"}')
    await expect(api.endpoints.update(account, id, { headers: { 'X-Two': '***' } })).rejects.toMatchObject({
      code: 'VALIDATION_FAILED',
      errors: [{ path: 'headers.X-Two' }],
    })
  })
})

describe('writes as a whole', () => {
  test('the limit of an account holds for creations at the same time, and deleted ones do not count', async () => {
    const account = freshAccount()
    const results = await Promise.allSettled(Array.from({ length: 12 }, () => api.endpoints.create(account, BODY)))
    const refused = results.filter((result) => result.status === 'rejected')
    expect(refused).toHaveLength(7)
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'ENDPOINT_LIMIT_REACHED', status: 409 })
    const { data } = await api.endpoints.list(account)
    expect(data).toHaveLength(5)
    await api.endpoints.remove(account, data[0]?.id ?? '')
    await api.endpoints.create(account, BODY)
    await expect(api.endpoints.create(account, BODY)).rejects.toMatchObject({ code: 'ENDPOINT_LIMIT_REACHED' })
    await api.endpoints.create(freshAccount(), BODY)
  })

  test('a nudge follows each commit that changed something, and no other', async () => {
    const account = freshAccount()
    const count = async (work: () => Promise<unknown>) => {
      const before = api.changes()
      await work().catch(() => {})
      return api.changes() - before
    }
    const { id } = await api.endpoints.create(account, BODY)
    expect(await count(() => api.endpoints.update(account, id, { description: 'x' }))).toBe(1)
    expect(await count(() => api.endpoints.update(account, id, {}))).toBe(0)
    expect(await count(() => api.endpoints.update(account, id, { events: ['nope'] }))).toBe(0)
    expect(await count(() => api.endpoints.update(freshAccount(), id, { description: 'x' }))).toBe(0)
    expect(await count(() => api.endpoints.remove(account, id))).toBe(1)
  })

  test('input is refused before the database is asked', async () => {
    const { schemas: _, ...service } = api.endpoints
    for (const call of [
      () => service.create('a', { ...BODY, secret: 'short' }),
      () => service.create('a', { ...BODY, url: 'https://10.0.0.1/' }),
      () => service.update('a', 'ep_0', { events: [] }),
      () => service.rotateSecret('a', 'ep_0', { overlap_seconds: -1 }),
      () => service.list('a', { limit: 0 }),
    ]) {
      await expect(call()).rejects.toMatchObject({ status: 422, errors: [expect.anything()] })
    }
  })
})
