/** The examples of docs/network.md and docs/receiving.md run here as they stand there. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import postgres from 'postgres'
import { afterEach, describe, expect, test } from 'vitest'
import { type Agent, observePosthaste } from '../../examples/network/src/apm.ts'
import { throughTheProxy } from '../../examples/network/src/corporate-proxy.ts'
import { openPartners } from '../../examples/network/src/partner-mutual-tls.ts'
import { createReceiver } from '../../examples/receiver-inbox/src/app.ts'
import { CHANNEL_NAMES } from '../../packages/core/src/lifecycle/diagnostics-channel.ts'
import { createAuthority } from '../support/certificates.ts'
import { startConnectProxy } from '../support/connect-proxy.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { underTest } from '../support/webhooks-under-test.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'posthaste-network-'))
  cleanUps.push(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

describe('the pages', () => {
  test.each([
    ['network', 'examples/network/src', ['corporate-proxy', 'partner-mutual-tls', 'fetch-transport', 'apm']],
    ['receiving', 'examples/receiver-inbox/src', ['app']],
  ])('docs/%s.md shows the programs that run here, and no other', (page, folder, programs) => {
    const text = read(`docs/${page}.md`)
    for (const program of programs) expect(text).toContain(`\`\`\`ts\n${read(`${folder}/${program}.ts`)}\`\`\``)
    expect([...text.matchAll(/```ts\n/g)]).toHaveLength(programs.length)
  })

  test('docs/network.md lists every channel, and no other', () => {
    const listed = [...read('docs/network.md').matchAll(/^\| `(posthaste:[\w.]+)` \|/gm)].map(([, name]) => name)
    expect(listed.toSorted()).toEqual([...CHANNEL_NAMES].toSorted())
  })

  test('docs/network.md lists every code of our own network', () => {
    const codes = read('packages/core/src/http-client/transport.ts').match(/'(PROXY_\w+|TLS_SETTINGS\w+|SOURCE_\w+)'/g)!
    const listed = read('docs/network.md').match(/^\| `[A-Z_]+` \|/gm)!
    expect(listed.map((line) => line.split('`')[1]).toSorted()).toEqual(
      codes.map((code) => code.slice(1, -1)).toSorted(),
    )
  })
})

test('a corporate proxy with an allow-list', async () => {
  const receiver = await startReceiver()
  const proxy = await startConnectProxy({
    credentials: 'webhooks:s3cret',
    allow: ['hooks.partner.example'],
    hosts: { 'hooks.partner.example': '127.0.0.1' },
  })
  const file = join(temporaryFolder(), 'password')
  writeFileSync(file, 's3cret\n')
  const host = await underTest({
    http: throughTheProxy({ EGRESS_PROXY: proxy.url, EGRESS_PASSWORD_FILE: file }),
  })
  cleanUps.push(
    () => receiver.close(),
    () => proxy.stop(),
    () => host.stop(),
  )
  await host.webhooks.start()
  const port = new URL(receiver.url()).port
  await host.endpoint(`http://hooks.partner.example:${port}/`)
  await host.emit(1)
  await receiver.received('/', 1)
  expect(proxy.asked.map((asked) => asked.host)).toEqual(['hooks.partner.example'])
  await expect(host.endpoint('https://elsewhere.example/')).rejects.toMatchObject({ code: 'URL_REFUSED' })
  expect(host.log.join('\n')).not.toContain('s3cret')
})

test('a partner with mutual TLS, whose certificates are renewed', async () => {
  const bank = createAuthority('Bank CA')
  const clients = createAuthority('Bank clients')
  const folder = temporaryFolder()
  const write = (host: string, subject: string) => {
    const issued = clients.issue(subject, { usage: 'client' })
    mkdirSync(join(folder, host), { recursive: true })
    writeFileSync(join(folder, host, 'ca.pem'), bank.cert)
    writeFileSync(join(folder, host, 'client.pem'), issued.cert)
    writeFileSync(join(folder, host, 'client-key.pem'), issued.key)
  }
  write('hooks.bank.example', 'us 2026')
  write('hooks.insurer.example', 'us at the insurer')
  const seen: unknown[] = []
  const certificate = bank.issue('bank', { names: ['hooks.bank.example'] })
  const server = createServer({ ...certificate, requestCert: true, ca: clients.cert }, (request, response) => {
    seen.push((request.socket as TLSSocket).getPeerCertificate().subject.CN)
    request.resume().on('end', () => response.end())
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  cleanUps.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const partners = openPartners(folder)
  const lookup = async () => [{ address: '127.0.0.1', family: 4 }]
  const host = await underTest({ http: { ...partners.http, lookup } })
  cleanUps.push(() => host.stop())
  await host.webhooks.start()
  await host.endpoint(`https://hooks.bank.example:${(server.address() as AddressInfo).port}/`)
  await host.emit(1)
  await until('the first', () => seen.length === 1)
  write('hooks.bank.example', 'us 2027')
  partners.reload()
  await host.emit(2)
  await until('the second', () => seen.length === 2)
  expect(seen).toEqual(['us 2026', 'us 2027'])
})

test('an APM agent on the channels', async () => {
  const started: Record<string, unknown>[] = []
  const ended: Record<string, unknown>[] = []
  const counted: unknown[] = []
  const agent: Agent = {
    startSpan: (name, tags) => {
      started.push({ name, ...tags })
      return { end: (more) => ended.push({ ...tags, ...more }) }
    },
    count: (metric, tags) => counted.push([metric, tags]),
  }
  cleanUps.push(observePosthaste(agent))
  const receiver = await startReceiver()
  const host = await underTest({ retrySchedule: [] })
  cleanUps.push(
    () => receiver.close(),
    () => host.stop(),
  )
  await host.webhooks.start()
  const { id } = await host.endpoint(receiver.url('/hook?token=hush'))
  receiver.answer('/hook?token=hush', ({ data }) => (data.n === 1 ? 200 : data.n === 2 ? 500 : 410))
  for (const n of [1, 2, 3]) {
    await host.emit(n)
    await until(`attempt ${n}`, () => ended.length === n)
  }
  await until('the endpoint to be disabled', () => counted.length === 1)
  expect(started).toHaveLength(3)
  expect(started[0]).toEqual({
    name: 'webhook',
    endpointId: id,
    eventType: 'test.happened',
    attempt: 1,
    origin: new URL(receiver.url()).origin,
  })
  expect(ended.map(({ status, error }) => [status, error])).toEqual([
    [200, null],
    [500, 'HTTP_500'],
    [410, 'HTTP_410'],
  ])
  expect(ended[0]).toMatchObject({ total: expect.any(Number), firstByte: expect.any(Number) })
  expect(counted).toEqual([['webhook.endpoint_disabled', { reason: 'gone' }]])
  expect(JSON.stringify([started, ended])).not.toContain('hush')
})

describe('a receiver in Express with the inbox on its own Postgres', () => {
  test('books once what is delivered to two machines at once, again, and by a replay', async () => {
    const database = await createTestDatabase()
    const sql = postgres(database.url, { onnotice: () => {} })
    await sql`create table bookings (commission_id int primary key, affiliate_id int, cents int)`
    const host = await underTest({ retrySchedule: ['1s', '1h'] })
    cleanUps.push(
      () => database.drop(),
      () => sql.end(),
      () => host.stop(),
    )
    const secret = 'your_webhook_secret'
    const apps = await Promise.all([createReceiver(sql, secret), createReceiver(sql, secret)])
    const servers = apps.map((app) => app.listen(0, '127.0.0.1'))
    const urls: string[] = []
    for (const server of servers) {
      if (!server.listening) await once(server, 'listening')
      urls.push(`http://127.0.0.1:${(server.address() as AddressInfo).port}/webhooks`)
      cleanUps.push(() => {
        server.closeAllConnections()
        server.close()
      })
    }
    // What is sent is passed on to both machines, twice.
    const answers: unknown[] = []
    const relay = await startReceiver()
    cleanUps.push(() => relay.close())
    relay.answer('/', async ({ headers, body }) => {
      const copies = [...urls, ...urls].map(async (url) => {
        const { host: _host, connection: _connection, 'content-length': _length, ...rest } = headers
        const response = await fetch(url, { method: 'POST', headers: rest, body: new Uint8Array(body) })
        return { status: response.status, ...((await response.json()) as object) }
      })
      const all = await Promise.all(copies)
      answers.push(...all)
      return all.every(({ status }) => status === 200) ? 200 : 500
    })
    await host.webhooks.start()
    const { id } = await host.endpoint(relay.url('/'), { events: ['commission.approved'], secret })
    const { example } = host.webhooks.catalog.definitions['commission.approved']
    const emit = (n: number) =>
      host.webhooks.emit(
        'commission.approved',
        { ...example, commission_id: n, affiliate_id: 456, amount: 85.5 },
        { tx: 'own' },
      )
    await emit(1)
    await until('four answers', () => answers.length === 4)
    expect(answers.filter((answer) => (answer as { processed: boolean }).processed)).toHaveLength(1)
    expect(await sql`select * from bookings`).toEqual([{ commission_id: 1, affiliate_id: 456, cents: 8550 }])

    // A failing handler: 500, rolled back, and the retry books it.
    await sql`alter table bookings add constraint closed check (commission_id <> 2)`
    await emit(2)
    await until('refusals', () => answers.length === 8)
    expect(answers.slice(4)).toEqual(Array.from({ length: 4 }, () => ({ status: 500, error: 'try again' })))
    await sql`alter table bookings drop constraint closed`
    await until('the retry', () => answers.length >= 12, 20_000)
    expect(await sql`select commission_id from bookings order by 1`).toEqual([
      { commission_id: 1 },
      { commission_id: 2 },
    ])

    await host.webhooks.replays.start('default', id, { since: new Date(0).toISOString(), which: 'all' })
    await until('the replay', () => answers.length >= 20, 20_000)
    expect(await sql`select count(*)::int n from bookings`).toEqual([{ n: 2 }])
    expect(
      (await fetch(urls[0]!, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })).status,
    ).toBe(401)
  })

  test('starts and stops as a server', async () => {
    const database = await createTestDatabase()
    cleanUps.push(() => database.drop())
    const child = spawn(
      process.execPath,
      ['--conditions=posthaste-source', join(ROOT, 'examples/receiver-inbox/src/server.ts')],
      {
        env: { ...process.env, DATABASE_URL: database.url, WEBHOOK_SECRET: 'your_webhook_secret', PORT: '0' },
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    cleanUps.push(() => child.kill('SIGKILL'))
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    const port = /port (\d+)/.exec(line.toString())?.[1]
    expect((await fetch(`http://127.0.0.1:${port}/webhooks`, { method: 'POST', body: '{}' })).status).toBe(401)
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })
})
