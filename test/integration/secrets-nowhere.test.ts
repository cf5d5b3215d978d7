/**
 * Secrets are where the contract puts them and nowhere else: one long run in which as much as possible happens and goes wrong,
 * and then a search through everything that came out of it.
 */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import {
  createWebhooks,
  generateEd25519Keys,
  type LifecycleEventName,
  type Logger,
  type Permission,
} from '@posthaste/core'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { CHANNEL_NAMES } from '../../packages/core/src/lifecycle/diagnostics-channel.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { createSecretSearch, dumpTables } from '../support/secret-search.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { until } from '../support/until.ts'
import { type TestOptions, type UnderTest, underTest, withTestOptions } from '../support/webhooks-under-test.ts'

const search = createSecretSearch()
const secret = (name: string, value: string) => {
  search.secret(name, value)
  return value
}

const KEY = secret('key of the key ring', Buffer.alloc(32, 0x5a).toString('base64'))
const NEXT_KEY = secret('next key of the key ring', Buffer.alloc(32, 0x5b).toString('hex'))
const ED25519 = generateEd25519Keys().privateKey
secret('private ed25519 key', ED25519)
const GIVEN = secret('a given secret', 'gïven-sécret "with" \\ odd 🔑 text')
const PATCHED = secret('a secret in a PATCH', 'patched-secret-81f3a2')
const STANDARD = secret('a given whsec_', `whsec_${Buffer.alloc(32, 0x77).toString('base64')}`)
const TOKEN = secret('a token in a custom header', 'Bearer tok_f00dfacef00dface')
const ODD_VALUE = secret('a custom header', 'odd "value" \\ with/signs=1')
const REFUSED = 'refused-secret-77aa12'
secret('a refused secret', REFUSED)

const PROXY_PASSWORD = secret('the password of a proxy', 'proxy-password-9c1d2e')
secret('credentials of a proxy', Buffer.from(`user:${PROXY_PASSWORD}`).toString('base64'))

const HEADERS = { Authorization: TOKEN, 'X-Odd': ODD_VALUE }
const EVERYTHING: Permission[] = ['read', 'write', 'secrets', 'test', 'replay']

/** What the contract allows to hold secrets: kept apart, to see that the search would have found them. */
const allowed: string[] = []

const logger: Logger = {
  debug: (...args) => search.collect('log', args),
  info: (...args) => search.collect('log', args),
  warn: (...args) => search.collect('log', args),
  error: (...args) => search.collect('log', args),
}

const heard = new Set<string>()
const onChannel = (message: unknown, name: string | symbol) => {
  heard.add(String(name))
  search.collect(`channel ${String(name)}`, message)
}

let receiver: Receiver
let host: UnderTest
let raw: { url: string; close(): Promise<void> }

beforeAll(async () => {
  for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
    vi.spyOn(console, method).mockImplementation((...args: unknown[]) => search.collect('console', args))
  }
  receiver = await startReceiver()
  raw = await startGarbageReceiver()
  host = await underTest({
    logger,
    secretKeys: { current: 'k1', keys: { k1: KEY } },
    ed25519: { privateKeys: [ED25519] },
    keepResponses: 'all',
    retrySchedule: [50, 50],
    http: { deadline: '1s' },
    worker: { jobEngine: true },
  })
  const names: LifecycleEventName[] = [
    'delivery.succeeded',
    'delivery.failed',
    'attempt.failed',
    'endpoint.disabled',
    'endpoint.degraded',
    'endpoint.recovered',
    'endpoint.unreadable',
    'events.dispatched',
    'lanes.changed',
  ]
  for (const name of names) host.webhooks.events.on(name, (event: unknown) => search.collect(`event ${name}`, event))
  host.webhooks.events.on('delivery.failed', () => {
    throw new Error('a listener that fails', { cause: new Error('and why') })
  })
  for (const name of CHANNEL_NAMES) subscribe(name, onChannel)
  await host.webhooks.start()
})
afterAll(async () => {
  for (const name of CHANNEL_NAMES) unsubscribe(name, onChannel)
  vi.restoreAllMocks()
  await host.stop()
  await raw.close()
  await receiver.close()
})

interface CallOptions {
  body?: unknown
  headers?: Record<string, string>
  /** Its answer may hold secrets. */
  secretAnswer?: boolean
}

/** One request to the API, whose answer is collected. */
async function call(method: string, path: string, { body, headers, secretAnswer }: CallOptions = {}) {
  const text = typeof body === 'string' ? body : body === undefined ? undefined : JSON.stringify(body)
  const request = new Request(`http://localhost/hooks${path}`, {
    method,
    headers: { ...(text === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(text === undefined ? {} : { body: text }),
  })
  const response = await host.webhooks.handler(request, {
    mountPath: '/hooks',
    frameworkRequest: null,
    authorize: () => ({ permissions: EVERYTHING }),
  })
  const answer = await response.text()
  const whole = JSON.stringify([...response.headers]) + answer
  if (secretAnswer === true) allowed.push(whole)
  else search.collect(`answer to ${method} ${path.replaceAll(/[0-9a-f]{32}/g, '…')}`, whole)
  return { status: response.status, json: answer === '' ? {} : JSON.parse(answer) }
}

/** What this rejects with, or throws, is collected. */
async function failing(what: string, work: () => unknown): Promise<void> {
  try {
    await work()
  } catch (error) {
    search.collect(`error of ${what}`, error)
    search.collect(`error of ${what}`, String((error as Error).stack))
    return
  }
  throw new Error(`${what} did not fail`)
}

/** Answers every request with garbage that repeats what it got. */
async function startGarbageReceiver() {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => socket.end(`${chunk.toString('latin1')}\r\n\r\n`))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as { port: number }
  return {
    url: `http://127.0.0.1:${port}/`,
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

test('everything happens, and secrets are nowhere but where they belong', async () => {
  // Receivers that send back what they got.
  const echo = (status: number) => (request: { headers: Record<string, string>; body: Buffer }) => ({
    status,
    headers: {
      'X-Echo': request.headers.authorization ?? '',
      Location: `https://example.com/?t=${encodeURIComponent(request.headers['x-odd'] ?? '')}`,
    },
    body: JSON.stringify(request.headers) + request.body.toString() + request.headers.authorization,
  })
  for (const status of [200, 302, 400, 401, 500]) receiver.answer(`/echo-${status}`, echo(status))
  const cut = `${'x'.repeat(16_384 - 15)}${TOKEN}`
  receiver.answer('/cut', () => ({ status: 500, body: cut }))
  receiver.answer('/gone', (request) => ({ ...echo(410)(request) }))
  receiver.answer('/reset', 'reset')
  receiver.answer('/hang', 'hang')

  // Endpoints: created in every way, changed, rotated.
  const urls = [200, 302, 400, 401, 500].map((status) => receiver.url(`/echo-${status}`))
  urls.push(...['/cut', '/gone', '/reset', '/hang'].map((path) => receiver.url(path)), raw.url)
  const ids: string[] = []
  for (const [index, url] of urls.entries()) {
    const given = index % 3 === 0 ? {} : { secret: index % 3 === 1 ? GIVEN : STANDARD }
    const body = { url, events: ['*'], headers: HEADERS, ...given }
    const keyed = { 'idempotency-key': `create-${index}` }
    const { status, json } = await call('POST', '/', { body, headers: keyed, secretAnswer: true })
    expect(status).toBe(201)
    if (index % 3 === 0) secret('a generated secret', json.secret)
    ids.push(json.id)
    expect((await call('POST', '/', { body, headers: keyed, secretAnswer: true })).json).toEqual(json)
    const other = { ...body, secret: REFUSED }
    expect((await call('POST', '/', { body: other, headers: keyed })).status).toBe(422)
  }
  const [first = '', second = ''] = ids
  secret('a rotated secret', (await call('POST', `/${first}/rotate-secret`, { secretAnswer: true })).json.secret)
  await call('GET', `/${first}/secret`, { secretAnswer: true })
  await call('PATCH', `/${second}`, { body: { secret: PATCHED, description: 'changed' } })
  await call('PUT', `/${second}`, {
    body: { url: urls[1], events: ['*'], headers: { authorization: '***', 'X-Odd': ODD_VALUE } },
  })

  // Input that is refused, with secrets in every place.
  const url = 'https://example.com/'
  const bodies: unknown[] = [
    { url, events: ['*'], secret: `whsec_${REFUSED}` },
    { url, events: ['*'], secret: `${REFUSED}\n` },
    { url, events: ['*'], secret: REFUSED.repeat(20) },
    { url, events: ['*'], secret: [REFUSED] },
    { url, events: ['*'], secret: REFUSED, secrets: REFUSED },
    { url, events: ['*'], headers: { 'X-A': `${REFUSED}\r\nX-B: 1` } },
    { url, events: ['*'], headers: { Host: REFUSED } },
    { url, events: ['*'], headers: { 'X-A': { v: REFUSED } } },
    { url, events: ['*'], headers: [REFUSED] },
    { url: 'http://10.0.0.1/', events: ['*'], secret: REFUSED, headers: { 'X-A': REFUSED } },
    { url: `https://user:${REFUSED}@example.com/`, events: ['*'] },
    { url, events: ['no.such'], secret: REFUSED },
    `{"secret": "${REFUSED}", `,
    `{"secret": "${REFUSED}"}}`,
    `"${REFUSED}"`,
  ]
  for (const body of bodies) {
    expect((await call('POST', '/', { body })).status).toBeGreaterThanOrEqual(400)
    expect((await call('PUT', `/${first}`, { body })).status).toBeGreaterThanOrEqual(400)
    const parsed = typeof body === 'string' ? { secret: body } : body
    await failing('create', () => host.webhooks.endpoints.create('default', parsed as never))
    await failing('update', () =>
      host.webhooks.endpoints.update('default', first, { more: 1, ...(parsed as object) } as never),
    )
  }
  await failing('rotateSecret', () =>
    host.webhooks.endpoints.rotateSecret('default', first, { secret: `\u0000${REFUSED}` }),
  )
  await call('POST', `/${first}/rotate-secret`, { body: { secret: REFUSED, overlap_seconds: -1 } })

  // Deliveries, in a transaction and of their own; tests; retries; a replay.
  await host.emit(1, 2, 3)
  await host.webhooks.emit('test.happened', { n: 4 }, { tx: 'own', idempotencyKey: 'emit-1' })
  await failing('emit', () => host.webhooks.emit('test.happened', { n: REFUSED } as never, { tx: 'own' }))
  await host.dispatched()
  for (const id of ids) await call('POST', `/${id}/test`, { body: { event: 'test.happened' } })
  receiver.release(500)
  await until('each endpoint to be attempted', async () => {
    const [row] = await host.sql`select count(distinct endpoint)::int n from posthaste.attempts`
    return row?.n === ids.length
  })
  // Connections that break, and statements that fail with their parameters at hand.
  await host.sql`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and application_name = 'posthaste'`
  await host.sql`alter table posthaste.subscriptions rename to away`
  const keyed = { 'idempotency-key': 'broken' }
  const broken = { url, events: ['*'], secret: GIVEN, headers: HEADERS }
  await until('the connections to be back', async () => (await call('GET', '/')).status === 200)
  expect((await call('POST', '/', { body: broken, headers: keyed })).status).toBeGreaterThanOrEqual(500)
  await failing('a broken create', () => host.webhooks.endpoints.create('default', broken))
  await failing('a broken emit', () =>
    host.webhooks.emit('test.happened', { n: 5 }, { tx: { query: REFUSED } as never }),
  )
  await host.sql`alter table posthaste.away rename to subscriptions`
  await call('POST', `/${first}/replay`, { body: { since: '2020-01-01T00:00:00Z', which: 'all' } })

  // A process without the key, one that changes it, and options that are refused.
  const blind = host.another({ logger, secretKeys: { current: 'k2', keys: { k2: NEXT_KEY } } })
  await failing('revealSecret without the key', () => blind.endpoints.revealSecret('default', first))
  await failing('sendTest without the key', () => blind.deliveries.sendTest('default', first))
  search.collect('usage', await blind.secretKeys.usage())
  search.collect('reseal without the key', await blind.secretKeys.reseal())
  const proxied = host.another({ logger, http: { proxy: { url: `http://user:${PROXY_PASSWORD}@127.0.0.1:1` } } })
  search.collect('a test through a proxy', await proxied.deliveries.sendTest('default', first))
  search.collect('an object with a proxy', { ...proxied, catalog: null })
  const changing = host.another({ logger, secretKeys: { current: 'k2', keys: { k1: KEY, k2: NEXT_KEY } } })
  search.collect('reseal', await changing.secretKeys.reseal())
  const wrong: [string, TestOptions][] = [
    ['keys that are too short', { secretKeys: { current: 'k1', keys: { k1: REFUSED } } }],
    ['a current key that is not there', { secretKeys: { current: 'k9', keys: { k1: KEY } } }],
    ['both kinds of storage', { secretKeys: { current: 'k1', keys: { k1: KEY } }, secretStorage: 'plain' }],
    ['a broken proxy', { http: { proxy: { url: `ftp://user:${PROXY_PASSWORD}@h` } } }],
    ['a broken ed25519 key', { ed25519: { privateKeys: [`${ED25519.slice(0, -8)}AAAAAA==`] } }],
    ['a private key for a public one', { ed25519: { privateKeys: [], publicKeys: [ED25519] } }],
  ]
  for (const [what, options] of wrong) {
    await failing(what, () => createWebhooks(withTestOptions(host.database.url, options)))
  }
  await failing('a wrong database', () => createWebhooks({ ...withTestOptions(`mysql://u:${REFUSED}@h/d`) }))

  // Everything that can be read.
  await call('GET', '/')
  for (const path of ['/events', '/event-types', '/openapi.json', '/jwks.json']) await call('GET', path)
  for (const id of ids) {
    await call('GET', `/${id}`)
    await call('GET', `/${id}/stats`)
    const { json } = await call('GET', `/${id}/deliveries`)
    for (const delivery of json.data.slice(0, 3)) {
      await call('GET', `/deliveries/${delivery.id}`)
      await call('POST', `/deliveries/${delivery.id}/retry`)
    }
  }
  const { json: events } = await call('GET', '/events')
  for (const { id } of events.data) await call('GET', `/events/${id}`)
  await call('DELETE', `/${ids.at(-1)}`)
  // But for the catalogue, whose schemas alone are 40 MB of text.
  search.collect('the object', { ...host.webhooks, catalog: null })
  search.collect('the object as JSON', JSON.stringify(host.webhooks) ?? '')
  search.collect('migrations', host.webhooks.migrations())
  const running = await host.sql`select query from pg_stat_activity where datname = current_database()`
  search.collect('running queries', [...running])
  const tables = await dumpTables(host.sql, ['posthaste', 'posthaste_worker'])
  for (const [table, text] of tables) search.collect(`table ${table}`, text)

  expect(search.leaks()).toEqual([])

  // The search finds what is there: in the answers that may hold it, in the requests, and in a plain table.
  expect(search.find(allowed.join('\n'))).toEqual(
    expect.arrayContaining(['a given secret', 'a given whsec_', 'a generated secret', 'a rotated secret']),
  )
  const sent = receiver.requests().map(({ headers, body }) => JSON.stringify(headers) + body.toString())
  expect(search.find(sent.join('\n')).toSorted()).toEqual(['a custom header', 'a token in a custom header'])
  expect(search.size).toBeGreaterThan(150)
  expect([...tables.keys()]).toEqual(
    expect.arrayContaining(['posthaste.endpoints', 'posthaste.attempts', 'posthaste.api_idempotency']),
  )
  expect([...heard]).toEqual(
    expect.arrayContaining(['posthaste:attempt.start', 'posthaste:attempt.end', 'posthaste:attempt.failed']),
  )
  // Excerpts were kept, with the echo taken out of them.
  expect(tables.get('posthaste.attempts')).toContain('***')
}, 120_000)

test('no secret is sent to Postgres in the clear, so no log of statements there, whatever it logs, holds one', async () => {
  const sent: Buffer[] = []
  const proxy = await startTcpProxy(host.database.url, (data) => void sent.push(data))
  const own = createSecretSearch()
  const named = (name: string, value: string) => {
    own.secret(name, value)
    return value
  }
  const given = named('a given secret', 'wire-secret-0a1b2c')
  const header = named('a custom header', 'wire-header-3d4e5f')
  const webhooks = host.another({
    logger,
    database: proxy.url,
    keepResponses: 'all',
    secretKeys: { current: 'k2', keys: { k1: KEY, k2: NEXT_KEY } },
  })
  const request = async (method: string, path: string, body?: unknown) => {
    const headers = { 'content-type': 'application/json', 'idempotency-key': 'wire-key' }
    const init = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) }
    const context = { mountPath: '', frameworkRequest: null, authorize: () => ({ permissions: EVERYTHING }) }
    const answer = await webhooks.handler(new Request(`http://localhost${path}`, init), context)
    expect(answer.status).toBeLessThan(300)
    return (await answer.json()) as { id: string; secret: string }
  }
  try {
    receiver.answer('/wire', ({ headers }) => ({ status: 500, body: String(headers['x-wire']) }))
    const url = receiver.url('/wire')
    // With a key, so that the answer is kept, too; and a second time, from there.
    const create = {
      url,
      events: ['payout.failed'],
      secret: given,
      headers: { 'X-Wire': header },
      metadata: { seen: 'yes-it-is' },
    }
    const { id } = await request('POST', '/', create)
    expect((await request('POST', '/', create)).secret).toBe(given)
    await request('PATCH', `/${id}`, { secret: named('a secret in a PATCH', 'wire-patched-6a7b8c') })
    await request('PUT', `/${id}`, { ...create, secret: named('a secret in a PUT', 'wire-put-9d0e1f') })
    named('a generated secret', (await webhooks.endpoints.rotateSecret('default', id)).secret)
    await request('GET', `/${id}/secret`)
    await request('POST', `/${id}/test`, {})
    await webhooks.secretKeys.reseal()
  } finally {
    await webhooks.stop()
    await proxy.close()
  }
  const text = Buffer.concat(sent).toString()
  // What is no secret is readable on this wire, so a secret would be.
  expect(text).toContain('yes-it-is')
  expect(text).toContain('wire-key')
  expect(own.find(text)).toEqual([])
}, 60_000)
