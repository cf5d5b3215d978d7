/** Erasure and export of one account's, or one affiliate's, data. */
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { isAbout, needleOf } from '../../packages/core/src/privacy/data-subject.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { QUICK, type UnderTest, underTest } from '../support/webhooks-under-test.ts'

let receiver: Receiver
let it: UnderTest<'multi'>

beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(async () => await receiver.close())
beforeEach(async () => {
  it = await underTest<'multi'>({ ...QUICK, tenancy: 'multi', keepResponses: 'all' })
})
afterEach(async () => await it.stop())

let paths = 0
const freshPath = () => `/privacy/${++paths}`

async function endpoint(account: string, path: string, more = {}): Promise<string> {
  const created = await it.webhooks.endpoints.create(account, {
    url: receiver.url(path),
    events: ['test.happened', 'affiliate.approved'],
    ...more,
  })
  return created.id
}

async function approve(account: string, affiliate: number, key?: string): Promise<string> {
  const { id } = await it.webhooks.emit(
    'affiliate.approved',
    {
      ...it.webhooks.catalog.get('affiliate.approved').example,
      affiliate_id: affiliate,
      affiliate_name: `Name of ${affiliate}`,
    } as never,
    { tx: 'own', account, ...(key === undefined ? {} : { idempotencyKey: key }) } as never,
  )
  return id as string
}

/** Tables of ours in which a text is found anywhere. */
async function whereFound(text: string): Promise<string[]> {
  const tables = await it.sql`select relname from pg_class where relnamespace = 'posthaste'::regnamespace
    and relkind in ('r', 'p') and not relispartition order by 1`
  const found: string[] = []
  for (const { relname } of tables) {
    const rows = await it.sql.unsafe(`select from posthaste.${relname} t where strpos(t::text, $1) > 0`, [text])
    if (rows.length > 0) found.push(`${relname as string} (${rows.length})`)
  }
  return found
}

const counts = async () =>
  (
    await it.sql`select (select count(*)::int from posthaste.events) events, (select count(*)::int from posthaste.deliveries) deliveries,
      (select count(*)::int from posthaste.attempts) attempts, (select count(*)::int from posthaste.retries) retries`
  )[0]

describe('erasing an account', () => {
  test('leaves nothing of it in any table, and everything of the others; nothing of it is sent any more', async () => {
    const [mine, down, others] = [freshPath(), freshPath(), freshPath()]
    receiver.answer(down, 503)
    const first = await endpoint('acct-4711', mine, { description: 'of acct-4711', metadata: { owner: 'acct-4711' } })
    await endpoint('acct-4711', down)
    await endpoint('acct-other', others)
    await it.webhooks.start()
    for (let n = 1; n <= 3; n++) await approve('acct-4711', n, `key-acct-4711-${n}`)
    for (let n = 1; n <= 3; n++) await approve('acct-other', n, `key-${n}`)
    await approve('acct-4711', 1, 'key-acct-4711-1')
    await it.settled()
    await it.webhooks.replays.start('acct-4711', first, { since: '2020-01-01T00:00:00Z', which: 'all' })
    await it.sql`insert into posthaste.api_idempotency (account, key, fingerprint, answer) values ('acct-4711', 'k', 'f', 'a')`
    await until('the replay to be over', async () => receiver.requests(mine).length === 6)
    await it.settled()
    expect(await whereFound('acct-4711')).not.toEqual([])
    const before = await it.sql`select count(*)::int n from posthaste.attempts a
      join posthaste.endpoints e on e.no = a.endpoint where e.account = 'acct-other'`

    const erasure = await it.webhooks.erase({ account: 'acct-4711' })
    expect(erasure).toMatchObject({
      endpoints: 2,
      events: 4,
      deliveries: 9,
      replays: 1,
      apiAnswers: 1,
      idempotencyKeys: 3,
    })
    expect(erasure.notSent).toBe(3)
    expect(await whereFound('acct-4711')).toEqual([])
    const after = await it.sql`select count(*)::int n from posthaste.attempts`
    expect(after).toEqual(before)
    expect(await it.sql`select from posthaste.retries`).toHaveLength(0)
    expect(await it.sql`select from posthaste.endpoints`).toHaveLength(1)

    const sent = receiver.requests(down).length
    await it.moveTime(3_600_000)
    await approve('acct-other', 4)
    await receiver.received(others, 4)
    await it.settled()
    expect(receiver.requests(down)).toHaveLength(sent)
    expect(await it.webhooks.erase({ account: 'acct-4711' })).toMatchObject({ endpoints: 0, events: 0, attempts: 0 })
    expect(it.log).toEqual([])
  })

  test('while it is being sent to: what is queued is dropped, what is under way ends, and its record goes, too', async () => {
    const path = freshPath()
    receiver.answer(path, 'hang')
    await endpoint('acct-4711', path, { max_concurrency: 2 })
    await it.webhooks.start()
    for (let n = 1; n <= 30; n++) await approve('acct-4711', n)
    await receiver.received(path, 2)
    await until('all to be dispatched', async () => (await counts())!.deliveries === 30)
    const erasing = it.webhooks.erase({ account: 'acct-4711' })
    await until('its events to be gone', async () => (await counts())!.events === 0)
    // The worker is told by a command, which it heeds within a second; what it sends before that is under way, too.
    await sleep(1_000)
    receiver.release(200)
    expect(await erasing).toMatchObject({ endpoints: 1, events: 30, deliveries: 30, notSent: 30 })
    expect(receiver.requests(path)).toHaveLength(2)
    expect(await whereFound('acct-4711')).toEqual([])
    expect(await counts()).toEqual({ events: 0, deliveries: 0, attempts: 0, retries: 0 })
  })
})

describe('what waits for its turn at the dispatcher', () => {
  const KEYS = Array.from({ length: 20 }, (_, n) => `key-of-770077-${n}`)
  async function backlog(): Promise<void> {
    await endpoint('acct-4711', freshPath())
    for (const key of KEYS) await approve('acct-4711', 770_077, key)
    await approve('acct-4711', 5, 'key-of-another')
    for (let pages = 0; pages < 3; pages++) await it.sql`select posthaste.dispatch(4, 4)`
    expect(await whereFound('acct-4711')).toContainEqual(expect.stringMatching(/^turns/))
    expect(await whereFound(KEYS.at(-1)!)).toContainEqual(expect.stringMatching(/^turns/))
  }
  async function dispatchAll(): Promise<void> {
    for (let more = true; more; ) {
      const [look] = await it.sql`select more from posthaste.dispatch(4, 4)`
      more = look!.more as boolean
    }
  }

  test('is nowhere when its account is erased', async () => {
    await backlog()
    expect(await it.webhooks.erase({ account: 'acct-4711' })).toMatchObject({ events: 21, endpoints: 1 })
    expect(await whereFound('acct-4711')).toEqual([])
    expect(await whereFound('key-of-')).toEqual([])
    await dispatchAll()
    expect(await counts()).toMatchObject({ events: 0, deliveries: 0 })
  })

  test('loses the keys of those events that are erased', async () => {
    await backlog()
    expect(await it.webhooks.erase({ member: 'affiliate_id', value: 770_077 })).toMatchObject({ events: 20 })
    for (const key of KEYS) expect(await whereFound(key)).toEqual([])
    expect(await whereFound('key-of-another')).not.toEqual([])
    await dispatchAll()
    expect(await counts()).toMatchObject({ events: 1, deliveries: 1 })
  })
})

describe('erasing what is said of an affiliate', () => {
  test('leaves nothing in any table, and the events about others are delivered, in order', async () => {
    const [path, ordered] = [freshPath(), freshPath()]
    for (const to of [path, ordered]) {
      receiver.answer(to, ({ data }) => ({
        status: data.affiliate_id === 770_077 ? 500 : 200,
        body: `thank you for ${data.affiliate_id}`,
      }))
    }
    await endpoint('acct-1', path)
    await endpoint('acct-1', ordered, { ordering: 'fifo' })
    await it.webhooks.start()
    await approve('acct-1', 5)
    await approve('acct-1', 770_077, 'approved-770077')
    await receiver.received(ordered, 2)
    // It waits for a retry, and holds what is behind it.
    await approve('acct-1', 6)
    await receiver.received(path, 3)
    await until('both failures to be recorded', async () => (await counts())!.retries === 2)
    expect(receiver.requests(ordered).map(({ data }) => data.affiliate_id)).toEqual([5, 770_077])

    const erasure = await it.webhooks.erase({ member: 'affiliate_id', value: '770077' })
    expect(erasure).toMatchObject({
      endpoints: 0,
      events: 1,
      deliveries: 2,
      attempts: 2,
      notSent: 2,
      idempotencyKeys: 1,
    })
    expect(await whereFound('770077')).toEqual([])
    await receiver.received(ordered, 3)
    expect(receiver.requests(ordered).at(-1)!.data.affiliate_id).toBe(6)
    await it.moveTime(3_600_000)
    await approve('acct-1', 7)
    await receiver.received(path, 4)
    await receiver.received(ordered, 4)
    expect(receiver.requests(path).filter(({ data }) => data.affiliate_id === 770_077)).toHaveLength(1)
    expect(it.log).toEqual([])
  })

  test('of one account only, where one is named; while others emit, and dispatchers look', async () => {
    await endpoint('acct-1', freshPath())
    await endpoint('acct-2', freshPath())
    await it.webhooks.start()
    let emitting = true
    const others = (async () => {
      for (let n = 1; emitting; n++) await approve('acct-2', n)
    })()
    for (let n = 0; n < 40; n++) await approve('acct-1', n % 2 === 0 ? 880_088 : n)
    await approve('acct-2', 880_088)
    const erasure = await it.webhooks.erase({ account: 'acct-1', member: 'affiliate_id', value: 880_088 })
    emitting = false
    await others
    expect(erasure.events).toBe(20)
    await it.settled(30_000)
    expect(await whereFound('880088')).toEqual(['events (1)'])
    const [left] = await it.sql`select count(*)::int n from posthaste.deliveries d
      where not exists (select from posthaste.events e where e.id = d.event_id)`
    expect(left!.n).toBe(0)
  }, 60_000)

  test('an erasure that was interrupted is finished by the next one', async () => {
    await endpoint('acct-1', freshPath())
    for (let n = 0; n < 5; n++) await approve('acct-1', 990_099)
    await it.sql`select * from posthaste.dispatch(1000, 2000, 'test')`
    // Its events and deliveries are gone, and then the process was; an attempt that was under way has been recorded since.
    const [delivery] = await it.sql`select id::text, seq, endpoint from posthaste.deliveries limit 1`
    await it.sql`delete from posthaste.deliveries where id = ${delivery!.id as string}::uuid`
    await it.sql`insert into posthaste.commands (kind, endpoint, payload) values ('erased', 1, ${JSON.stringify([delivery!.id])})`
    await it.sql`insert into posthaste.attempts (delivery_id, number, endpoint, seq, outcome, final, at, response_excerpt)
      values (${delivery!.id as string}::uuid, 1, 1, 1, 2, false, now(), 'about 990099')`
    expect(await it.webhooks.erase({ member: 'affiliate_id', value: 990_099 })).toMatchObject({
      events: 5,
      deliveries: 4,
    })
    expect(await whereFound('990099')).toEqual([])
  })

  test('finds every spelling that the data may have', () => {
    const member = fc.constantFrom('a', 'b.c', 'd.e.f')
    const value = fc.oneof(
      fc.string({ unit: 'grapheme', minLength: 1 }),
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
    )
    fc.assert(
      fc.property(member, value, fc.boolean(), (path, wanted, inArray) => {
        const leaf: unknown = inArray ? [0, wanted] : wanted
        const data = path.split('.').reduceRight<unknown>((inner, name) => ({ other: 'x', [name]: inner }), leaf)
        const text = JSON.stringify(data)
        expect(text.includes(needleOf(wanted))).toBe(true)
        expect(isAbout(text, path, wanted)).toBe(true)
        expect(isAbout(text, `${path}x`, wanted)).toBe(false)
      }),
    )
    expect(isAbout('{"a":{"b":12}}', 'a.b', '12')).toBe(true)
    expect(isAbout('{"a":123}', 'a', 12)).toBe(false)
    expect(isAbout('{"__proto__":{"a":1}}', 'toString', 'x')).toBe(false)
  })
})

test('what is asked for has to be said well', async () => {
  for (const subject of [
    {},
    { account: '' },
    { member: 'a' },
    { member: 'a..b', value: 1 },
    { value: 1, account: 'a' },
    { member: 'a', value: '' },
    null,
  ]) {
    await expect(it.webhooks.erase(subject as never)).rejects.toMatchObject({ code: 'VALIDATION_FAILED' })
    await expect(it.webhooks.exportData(subject as never).next()).rejects.toMatchObject({ code: 'VALIDATION_FAILED' })
  }
})

describe('export', () => {
  test('everything of an account, and no secret', async () => {
    const path = freshPath()
    receiver.answer(path, ({ data }) => (data.affiliate_id === 2 ? 503 : 200))
    const id = await endpoint('acct-1', path, {
      secret: 'a-secret-of-some-length',
      headers: { 'X-Token': 'a-token' },
      description: 'mine',
    })
    await endpoint('acct-2', freshPath())
    await it.webhooks.start()
    const events = [await approve('acct-1', 1, 'key-1'), await approve('acct-1', 2)]
    await approve('acct-2', 1)
    await it.settled()
    await it.webhooks.replays.start('acct-1', id, { since: '2020-01-01T00:00:00Z', which: 'missing' })
    const records: Record<string, unknown>[] = []
    for await (const record of it.webhooks.exportData({ account: 'acct-1' })) records.push(record)
    const of = (kind: string) => records.filter(({ record }) => record === kind)
    expect(of('endpoint')).toMatchObject([
      { id, url: receiver.url(path), description: 'mine', header_names: ['X-Token'] },
    ])
    expect(of('event')).toMatchObject([
      { id: events[0], type: 'affiliate.approved', idempotency_key: 'key-1', data: { affiliate_id: 1 } },
      { id: events[1], data: { affiliate_id: 2 } },
    ])
    expect(of('delivery')).toMatchObject([
      { event_id: events[0], endpoint_id: id, next_attempt_at: null },
      { event_id: events[1], endpoint_id: id, next_attempt_at: expect.stringMatching(/^\d{4}-.*Z$/) },
    ])
    expect(of('attempt')).toMatchObject([
      { number: 1, outcome: 'succeeded', status_code: 200 },
      { number: 1, outcome: 'failed', status_code: 503, error_code: 'HTTP_503' },
    ])
    expect(of('replay')).toMatchObject([{ endpoint_id: id, which: 'missing' }])
    expect(of('idempotency_key')).toMatchObject([{ key: 'key-1' }])
    const text = records.map((record) => JSON.stringify(record)).join('\n')
    const [sealed] = await it.sql`select secret, headers from posthaste.endpoints where account = 'acct-1'`
    for (const secret of ['a-secret-of-some-length', 'a-token', sealed!.secret as string, sealed!.headers as string]) {
      expect(text).not.toContain(secret)
    }
    expect(text).not.toContain('acct-2')
  })

  test('events about somebody, of all accounts, in pages', async () => {
    for (let n = 0; n < 250; n++) await approve(n % 2 === 0 ? 'acct-1' : 'acct-2', n % 5)
    const found: unknown[] = []
    for await (const record of it.webhooks.exportData({ member: 'affiliate_id', value: 3 })) found.push(record)
    expect(found).toHaveLength(50)
    for (const record of found) expect(record).toMatchObject({ record: 'event', data: { affiliate_id: 3 } })
  })
})
