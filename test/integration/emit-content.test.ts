/** What may be emitted, what is refused before the database sees any of it, and what is then on the wire, byte for byte. */
import { createHmac } from 'node:crypto'
import { affiliateEvents, createWebhooks, VERSION } from '@posthaste/core'
import { verifyBodySignature, verifyWebhook } from '@posthaste/core/receiver'
import fc from 'fast-check'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from 'vitest'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'
import { type ReceivedRequest, type Receiver, startReceiver } from '../support/receiver.ts'
import {
  SECRET_KEYS,
  type TestEndpoint,
  type TestWebhooks,
  type UnderTest,
  underTest,
  uuidOf,
} from '../support/webhooks-under-test.ts'

let receiver: Receiver
let host: UnderTest
let endpoint: TestEndpoint
beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest({ maxDataBytes: 300_000 })
  endpoint = await host.endpoint(receiver.url('/all'), { events: ['*'] })
  await host.webhooks.start()
})
afterAll(async () => {
  await host.stop()
  await receiver.close()
})

const COMMISSION = affiliateEvents.definitions['commission.approved'].example

async function requestOf(id: string | null): Promise<ReceivedRequest> {
  const of = () => receiver.requests('/all').filter(({ eventId }) => eventId === id)
  await expect.poll(of, { timeout: 5_000 }).toHaveLength(1)
  return of()[0]!
}

describe('refused before the transaction is touched', () => {
  const cases: [string, string, unknown, object, string][] = [
    ['an unknown type', 'no.such', { n: 1 }, {}, 'UNKNOWN_EVENT_TYPE'],
    ['a type of the prototype', 'toString', { n: 1 }, {}, 'UNKNOWN_EVENT_TYPE'],
    ['a group', 'test.*', { n: 1 }, {}, 'UNKNOWN_EVENT_TYPE'],
    ['a missing member', 'test.happened', {}, {}, 'INVALID_DATA'],
    ['a wrong member', 'test.happened', { n: 'one' }, {}, 'INVALID_DATA'],
    ['no data', 'test.happened', undefined, {}, 'NOT_JSON'],
    ['an array', 'test.happened', [1], {}, 'NOT_JSON'],
    ['a text', 'test.happened', 'n', {}, 'NOT_JSON'],
    ['NaN', 'test.happened', { n: 1, more: Number.NaN }, {}, 'NOT_JSON'],
    ['Infinity', 'test.happened', { n: 1, more: [Number.POSITIVE_INFINITY] }, {}, 'NOT_JSON'],
    ['a bigint', 'test.happened', { n: 1, more: 1n }, {}, 'NOT_JSON'],
    ['a function', 'test.happened', { n: 1, more: () => 1 }, {}, 'NOT_JSON'],
    ['a map', 'test.happened', { n: 1, more: new Map([[1, 2]]) }, {}, 'NOT_JSON'],
    ['an invalid date', 'test.happened', { n: 1, more: new Date(Number.NaN) }, {}, 'NOT_JSON'],
    ['half a surrogate pair', 'test.happened', { n: 1, more: '\ude00' }, {}, 'NOT_JSON'],
    ['half a surrogate pair as a name', 'test.happened', { n: 1, '\ud83d': 1 }, {}, 'NOT_JSON'],
    ['undefined in an array', 'test.happened', { n: 1, more: [undefined] }, {}, 'NOT_JSON'],
    ['too much', 'test.happened', { n: 1, more: 'x'.repeat(300_000) }, {}, 'PAYLOAD_TOO_LARGE'],
    ['another account', 'test.happened', { n: 1 }, { account: 'mine' }, 'ACCOUNT_INVALID'],
    ['an empty key', 'test.happened', { n: 1 }, { idempotencyKey: '' }, 'IDEMPOTENCY_KEY_INVALID'],
    ['a long key', 'test.happened', { n: 1 }, { idempotencyKey: 'k'.repeat(256) }, 'IDEMPOTENCY_KEY_INVALID'],
    ['a key with NUL', 'test.happened', { n: 1 }, { idempotencyKey: 'a\u0000b' }, 'IDEMPOTENCY_KEY_INVALID'],
    ['a key that is no text', 'test.happened', { n: 1 }, { idempotencyKey: 7 }, 'IDEMPOTENCY_KEY_INVALID'],
    ['no date', 'test.happened', { n: 1 }, { occurredAt: '2024-01-20' }, 'INVALID_DATA'],
    ['an invalid occurredAt', 'test.happened', { n: 1 }, { occurredAt: new Date(Number.NaN) }, 'INVALID_DATA'],
    ['before 1970', 'test.happened', { n: 1 }, { occurredAt: new Date(-1) }, 'INVALID_DATA'],
    ['after 9999', 'test.happened', { n: 1 }, { occurredAt: new Date(253_402_300_800_000) }, 'INVALID_DATA'],
  ]
  test.each(cases)('%s', async (_name, type, data, options, code) => {
    let touched = 0
    const tx = {
      query: async () => {
        touched++
        return { rows: [{ id: null }] }
      },
    }
    const { webhooks } = host
    await expect(webhooks.emit(type as never, data as never, { ...options, tx })).rejects.toMatchObject({ code })
    const bulk = [
      { type: 'test.happened', data: { n: 1 } },
      { type, data, ...options },
    ] as never
    await expect(webhooks.emitMany(bulk, { tx })).rejects.toMatchObject({ code })
    await expect(webhooks.withTransaction(tx).emitMany(bulk)).rejects.toMatchObject({ code })
    expect(touched).toBe(0)
  })

  test('a cycle, with its path', async () => {
    const data: Record<string, unknown> = { n: 1, inner: {} }
    data.inner = { again: data }
    const refused = host.webhooks.emit('test.happened', data as never, { tx: 'own' })
    await expect(refused).rejects.toMatchObject({ code: 'NOT_JSON', message: expect.stringContaining('inner.again') })
  })

  test('a real transaction goes on after any of them, and commits', async () => {
    const id = await host.sql.begin(async (tx) => {
      for (const [, type, data, options, code] of cases) {
        const refused = host.webhooks.emit(type as never, data as never, { ...options, tx })
        await expect(refused).rejects.toMatchObject({ code })
      }
      return (await host.webhooks.emit('test.happened', { n: 4711 }, { tx })).id
    })
    expect((await requestOf(id)).data).toEqual({ n: 4711 })
  })
})

describe('the request', () => {
  test("is the page's: method, headers in full, body, both signatures", async () => {
    const occurredAt = new Date('2024-01-20T14:30:00.789Z')
    const before = Math.floor(Date.now() / 1000)
    const { id } = await host.webhooks.emit('commission.approved', COMMISSION, { tx: 'own', occurredAt })
    const request = await requestOf(id)
    const data = JSON.stringify(COMMISSION)
    const unsigned = `{"event":"commission.approved","timestamp":1705761000,"data":${data}}`
    const hmac = (content: string | Buffer) => createHmac('sha256', endpoint.secret).update(content).digest('hex')
    const body = `${unsigned.slice(0, -1)},"signature":"sha256=${hmac(unsigned)}"}`
    expect(request.body.toString()).toBe(body)
    expect(request.method).toBe('POST')
    const sent = request.headers
    expect(sent).toMatchObject({
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
      'user-agent': `Posthaste/${VERSION}`,
      'x-webhook-event': 'commission.approved',
      'x-webhook-id': id,
      'x-webhook-attempt': '1',
      'x-webhook-signature': `sha256=${hmac(request.body)}`,
      'webhook-id': id,
    })
    expect(sent['x-webhook-delivery']).toMatch(/^dlv_[0-9a-f]{32}$/)
    const at = Number(sent['webhook-timestamp'])
    expect(at).toBeGreaterThanOrEqual(before)
    expect(at).toBeLessThanOrEqual(before + 10)
    const key = Buffer.from(endpoint.secret.slice('whsec_'.length), 'base64')
    const standard = createHmac('sha256', key).update(`${id}.${at}.`).update(request.body).digest('base64')
    expect(sent['webhook-signature']).toBe(`v1,${standard}`)
    // With the library of Standard Webhooks, and with our own kit.
    expect(new Webhook(endpoint.standardSecret).verify(request.body, sent)).toEqual(JSON.parse(body))
    await expect(verifyWebhook(request.body, sent, endpoint.secret)).resolves.toMatchObject({ id, attempt: 1 })
    await expect(verifyBodySignature(request.body, endpoint.secret)).resolves.toBe(true)
    // Nothing twice, nothing else of ours.
    const names = request.rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase())
    expect(new Set(names).size).toBe(names.length)
    expect(names.toSorted()).toEqual(
      Object.keys(sent)
        .filter((name) => /^(x-webhook|webhook|content|user-agent|host|connection|accept)/.test(name))
        .toSorted(),
    )
  })

  test.each<[string, unknown]>([
    ['unicode', { n: 1, text: 'Zürich – 東京 🎉 \u2028\u2029 \u0000 \ufeff "quoted" \\ / <&>' }],
    ['order and names', { z: 1, n: 1, a: 2, __proto__x: 3, '': 4, 'a.b': 5, 10: 6, 9: 7 }],
    ['numbers', { n: -0, max: 2 ** 53, tiny: 5e-324, big: 1.7976931348623157e308, price: 85.5, e: 1e21 }],
    ['nesting', { n: 1, deep: [[[{ a: [{}, [], null, true, false] }]]] }],
    ['a date', { n: 1, at: new Date('2024-02-29T23:59:59.999Z'), gone: undefined }],
    ['large', { n: 1, text: 'ä'.repeat(140_000) }],
  ])('carries exactly the JSON of the data: %s', async (_name, data) => {
    for (const bulk of [false, true]) {
      const { id } = bulk
        ? (await host.webhooks.emitMany([{ type: 'test.happened', data: data as never }], { tx: 'own' }))[0]!
        : await host.webhooks.emit('test.happened', data as never, { tx: 'own' })
      const { body } = await requestOf(id)
      const start = body.indexOf(',"data":') + ',"data":'.length
      expect(body.subarray(start, -87).equals(Buffer.from(JSON.stringify(data)))).toBe(true)
      await expect(verifyBodySignature(body, endpoint.secret)).resolves.toBe(true)
    }
  })

  test('any JSON that can be emitted arrives as it was, one by one and in bulk', {
    timeout: PROPERTY_TIMEOUT,
  }, async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 20 })
    const value = fc.jsonValue({ maxDepth: 3 }).filter((one) => JSON.stringify(one).isWellFormed())
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.dictionary(text, value, { maxKeys: 6 }), { minLength: 1, maxLength: 8 }),
        async (all) => {
          const events = all.map((one, n) => ({ type: 'test.happened' as const, data: { ...one, n } }))
          const single = events[0]!
          const ids = [
            await host.webhooks.emit(single.type, single.data, { tx: 'own' }),
            ...(await host.webhooks.emitMany(events, { tx: 'own' })),
          ]
          const rows = await host.sql`select id::text, data from posthaste.events
            where id = any (${ids.map(({ id }) => uuidOf(id as string))}::uuid[]) order by id`
          expect(rows.map((row) => row.data)).toEqual([single, ...events].map(({ data }) => JSON.stringify(data)))
        },
      ),
      propertyRuns(40),
    )
    await host.settled()
  })

  test('bulk: ids in the order given, over several statements, with options of their own', async () => {
    const occurredAt = new Date('2020-02-02T02:02:02Z')
    const events = Array.from({ length: 2_300 }, (_, n) => ({
      type: 'test.happened' as const,
      data: { n },
      ...(n === 1_500 ? { occurredAt, idempotencyKey: 'bulk-1500' } : {}),
    }))
    const emitted = await host.webhooks.emitMany(events, { tx: 'own' })
    expect(emitted).toHaveLength(2_300)
    const rows =
      await host.sql`select id::text, data, extract(epoch from occurred_at)::float8 * 1000 ms, idempotency_key
      from posthaste.events where id = any (${emitted.map(({ id }) => uuidOf(id as string))}::uuid[])`
    const byId = new Map(rows.map((row) => [`evt_${(row.id as string).replaceAll('-', '')}`, row]))
    expect(emitted.map(({ id }) => JSON.parse(byId.get(id as string)?.data as string).n)).toEqual(
      events.map(({ data }) => data.n),
    )
    expect(byId.get(emitted[1_500]!.id as string)).toMatchObject({
      ms: occurredAt.getTime(),
      idempotency_key: 'bulk-1500',
    })
    // Ids rise in the order of emitting, so that the log reads in that order.
    expect(emitted.map(({ id }) => id)).toEqual(emitted.map(({ id }) => id).toSorted())
    await host.settled(20_000)
    expect(await host.webhooks.emitMany([], { tx: 'own' })).toEqual([])
  })

  test("envelope 'standard': the body of Standard Webhooks, fixed when the event is emitted", async () => {
    const other = host.another({ envelope: 'standard' })
    const { id } = await other.emit(
      'test.happened',
      { n: 8 },
      { tx: 'own', occurredAt: new Date('2024-01-20T14:30:00.789Z') },
    )
    const request = await requestOf(id)
    expect(request.body.toString()).toBe(
      '{"type":"test.happened","timestamp":"2024-01-20T14:30:00.789Z","data":{"n":8}}',
    )
    expect(new Webhook(endpoint.standardSecret).verify(request.body, request.headers)).toBeTruthy()
  })
})

describe('when_subscribed', () => {
  test('writes nothing while nobody subscribes, and an event once somebody does', async () => {
    const lonely = await underTest()
    try {
      const { webhooks, sql } = lonely
      const count = async () => (await sql`select count(*)::int n from posthaste.events where type = 'test.seen'`)[0]!.n
      const emit = async () => [
        (await webhooks.emit('test.seen', { n: 1 }, { tx: 'own' })).id,
        ...(
          await webhooks.emitMany(
            [
              { type: 'test.seen', data: { n: 2 } },
              { type: 'test.happened', data: { n: 3 } },
            ],
            { tx: 'own' },
          )
        ).map(({ id }) => id),
      ]
      const id = expect.stringMatching(/^evt_[0-9a-f]{32}$/)
      expect(await emit()).toEqual([null, null, id])
      const created = await lonely.endpoint('http://127.0.0.1:9/none', { events: ['test.happened'] })
      expect(await emit()).toEqual([null, null, id])
      expect(await count()).toBe(0)
      await webhooks.endpoints.update('default', created.id, { events: ['test.*'] })
      expect(await emit()).toEqual([id, id, id])
      await webhooks.endpoints.update('default', created.id, { active: false })
      expect(await emit()).toEqual([null, null, id])
      expect(await count()).toBe(2)
    } finally {
      await lonely.stop()
    }
  })
})

test('two open transactions that emit to one endpoint, with one key, commit in either order without waiting', async () => {
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    const clients = await Promise.all([host.sql.reserve(), host.sql.reserve()])
    const key = `either-${order.join('')}`
    for (const [n, client] of clients.entries()) {
      await client`begin`
      await client`set local lock_timeout = '100ms'`
      await client`set local statement_timeout = '2s'`
      const tx = { query: (text: string, values: unknown[]) => client.unsafe(text, values as never[]) }
      await host.webhooks.emit('test.happened', { n }, { tx, idempotencyKey: key })
    }
    for (const index of order) await clients[index]!`commit`
    for (const client of clients) client.release()
    await host.settled()
    const rows =
      await host.sql`select d.id from posthaste.events e left join posthaste.deliveries d on d.event_id = e.id
      where e.idempotency_key = ${key}`
    expect(rows).toHaveLength(2)
    expect(rows.filter((row) => row.id !== null)).toHaveLength(1)
  }
})

describe('accounts', () => {
  test("'multi': needs an account, keeps to it", async () => {
    const many = await underTest<'multi'>({ tenancy: 'multi' })
    try {
      const { webhooks, sql } = many
      for (const account of ['a', 'b', 'Zürich 🎉']) {
        await webhooks.endpoints.create(account, {
          url: receiver.url(`/account-${encodeURIComponent(account)}`),
          events: ['*'],
        })
      }
      await webhooks.start()
      for (const account of [undefined, '', 'x'.repeat(129), 'a\u0000', 'a\nb', '\ud800', 7]) {
        const code = account === undefined ? 'ACCOUNT_REQUIRED' : 'ACCOUNT_INVALID'
        const refused = webhooks.emit('test.happened', { n: 1 }, { tx: 'own', account: account as string })
        await expect(refused).rejects.toMatchObject({ code })
      }
      const { id } = await webhooks.emit('test.happened', { n: 1 }, { tx: 'own', account: 'Zürich 🎉' })
      await webhooks.emitMany([{ type: 'test.happened', data: { n: 2 }, account: 'a' }], { tx: 'own' })
      await receiver.received(`/account-${encodeURIComponent('Zürich 🎉')}`, 1)
      await receiver.received('/account-a', 1)
      const rows = await sql`select event_id::text from posthaste.deliveries`
      expect(rows).toHaveLength(2)
      expect(receiver.requests('/account-b')).toEqual([])
      expect(receiver.requests(`/account-${encodeURIComponent('Zürich 🎉')}`)[0]?.eventId).toBe(id)
    } finally {
      await many.stop()
    }
  })
})

/** Never run: what the compiler refuses. */
export async function typesOf(single: TestWebhooks, multi: TestWebhooks<'multi'>): Promise<void> {
  await single.emit('test.happened', { n: 1 }, { tx: 'own' })
  await single.emit('test.happened', { n: 1 })
  // @ts-expect-error: there is no such event
  await single.emit('test.happend', { n: 1 }, { tx: 'own' })
  // @ts-expect-error: n is missing
  await single.emit('test.happened', {}, { tx: 'own' })
  // @ts-expect-error: n is a number
  await single.emit('test.happened', { n: '1' }, { tx: 'own' })
  // @ts-expect-error: data of another event
  await single.emit('commission.approved', { n: 1 }, { tx: 'own' })
  // @ts-expect-error: there is one account
  await single.emit('test.happened', { n: 1 }, { tx: 'own', account: 'mine' })
  // @ts-expect-error: there is no such option
  await single.emit('test.happened', { n: 1 }, { tx: 'own', idempotencykey: 'x' })
  // @ts-expect-error: a date
  await single.emit('test.happened', { n: 1 }, { tx: 'own', occurredAt: '2024-01-20' })
  // @ts-expect-error: an open transaction, or 'own'
  await single.emit('test.happened', { n: 1 }, { tx: 'mine' })
  const bound = single.withTransaction({ query: async () => [] })
  await bound.emit('test.happened', { n: 1 }, { idempotencyKey: 'x' })
  // @ts-expect-error: it is bound to a transaction
  await bound.emit('test.happened', { n: 1 }, { tx: 'own' })
  const withTx = { tx: 'own', idempotencyKey: 'x' } as const
  // @ts-expect-error: it is bound to a transaction
  await bound.emit('test.happened', { n: 1 }, withTx)
  await multi.emit('test.happened', { n: 1 }, { account: 'mine' })
  // @ts-expect-error: whose event is it?
  await multi.emit('test.happened', { n: 1 }, { tx: 'own' })
  // @ts-expect-error: whose event is it?
  await multi.emit('test.happened', { n: 1 })
  await multi.withTransaction({ query: async () => [] }).emit('test.happened', { n: 1 }, { account: 'mine' })
  // @ts-expect-error: whose event is it?
  await multi.withTransaction({ query: async () => [] }).emit('test.happened', { n: 1 })
  // @ts-expect-error: whose event is it?
  await multi.emitMany([{ type: 'test.happened', data: { n: 1 } }], { tx: 'own' })
  // @ts-expect-error: n is missing
  await single.emitMany([{ type: 'test.happened', data: {} }], { tx: 'own' })
  const plain = createWebhooks({ database: 'postgres://x/y', installation: 'x', secretKeys: SECRET_KEYS })
  await plain.emit('commission.approved', COMMISSION, { tx: 'own' })
  // @ts-expect-error: not in the catalogue of the page
  await plain.emit('test.happened', { n: 1 }, { tx: 'own' })
  expectTypeOf(await plain.emit('commission.approved', COMMISSION)).toEqualTypeOf<{ id: string | null }>()
}
