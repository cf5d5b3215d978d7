/** The README's program runs as it stands there, against a real Postgres and a real receiver. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { affiliateEvents } from '@posthaste/core'
import postgres from 'postgres'
import { afterAll, expect, test } from 'vitest'
import { createTestDatabase } from '../support/postgres.ts'
import { snippetsOf } from '../support/snippets.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const program = readFileSync(`${root}examples/express/src/quickstart.ts`, 'utf8')
const copy = `${root}examples/express/.tmp/quickstart-${process.pid}.ts`
const children: ChildProcess[] = []
const hasCurl = spawnSync('curl', ['--version']).status === 0

afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(copy, { force: true })
})

test('the README shows the program that runs here', () => {
  expect(readFileSync(`${root}README.md`, 'utf8')).toContain(`\`\`\`ts\n${program}\`\`\``)
})

test('a payout that is processed over HTTP becomes a signed POST', { timeout: 40_000 }, async () => {
  const database = await createTestDatabase()
  const received: { body: string; signature: string | undefined }[] = []
  const receiver = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      received.push({ body, signature: request.headers['x-webhook-signature'] as string | undefined })
      response.end()
    })
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => receiver.once('listening', resolve))
  const receiverPort = (receiver.address() as AddressInfo).port

  const sql = postgres(database.url, { onnotice: () => {} })
  await sql`create table payouts (id int primary key, batch_id int, affiliate_id int, affiliate_name text, amount_cents int,
    commission_ids int[], status text)`
  await sql`insert into payouts values (31, 7, 456, 'John Smith', 8550, '{123}', 'created')`

  // The one thing that a test needs and a production system must not have: receivers on this machine.
  const loopback = "http: { allowHttp: true, allowedCidrs: ['127.0.0.0/8'] },\n  logger: console,"
  expect(program).toContain('logger: console,')
  mkdirSync(`${root}examples/express/.tmp`, { recursive: true })
  writeFileSync(copy, program.replace('logger: console,', loopback))
  const port = await freePort()
  const child = spawn(process.execPath, ['--conditions=posthaste-source', copy], {
    env: {
      ...process.env,
      DATABASE_URL: database.url,
      POSTHASTE_KEY: Buffer.alloc(32, 7).toString('base64'),
      API_KEY: 'sk_live_your_api_key',
      PORT: String(port),
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  children.push(child)
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))

  const api = `http://127.0.0.1:${port}/api/v1/affiliate/webhooks/`
  const created = await eventually(() =>
    fetch(api, {
      method: 'POST',
      headers: { authorization: 'Bearer sk_live_your_api_key', 'content-type': 'application/json' },
      body: JSON.stringify({
        url: `http://127.0.0.1:${receiverPort}/hook`,
        events: ['commission.approved', 'payout.processed', 'affiliate.approved'],
        secret: 'your_webhook_secret',
        active: true,
      }),
    }),
  )
  expect(created.status).toBe(201)
  expect((await fetch(api)).status).toBe(401)
  if (hasCurl) {
    const [command = ''] = snippetsOf('README.md', 'sh')
      .filter(({ code }) => code.startsWith('curl '))
      .map(({ code }) => code)
    const { stdout } = await promisify(execFile)('sh', ['-c', command.replace('localhost:3000', `127.0.0.1:${port}`)], {
      env: { ...process.env, API_KEY: 'sk_live_your_api_key' },
    })
    expect(JSON.parse(stdout)).toMatchObject({ url: 'https://your-app.com/webhooks/affiliate', active: true })
  }

  const processed = await fetch(`http://127.0.0.1:${port}/payouts/31/process`, { method: 'POST' })
  expect(processed.status).toBe(200)
  await eventually(() => {
    if (received.length === 0) throw new Error('nothing received yet')
  })
  const { body, signature } = received[0]!
  expect(signature).toBe(`sha256=${createHmac('sha256', 'your_webhook_secret').update(body).digest('hex')}`)
  expect(JSON.parse(body)).toMatchObject({ event: 'payout.processed', data: { payout_id: 31, amount: 85.5 } })
  // What the README shows of another event has the members that came, in their order, and is an example of the catalogue.
  const shown = JSON.parse(snippetsOf('README.md', 'json')[0]!.code)
  expect(Object.keys(shown)).toEqual(Object.keys(JSON.parse(body)))
  expect(affiliateEvents.get(shown.event).example).toMatchObject(shown.data)
  expect(await sql`select status from payouts`).toEqual([{ status: 'processed' }])

  child.kill('SIGTERM')
  expect(await ended).toBe(0)
  receiver.close()
  await sql.end()
  await database.drop()
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function eventually<T>(look: () => T | Promise<T>): Promise<T> {
  const deadline = Date.now() + 25_000
  for (;;) {
    try {
      return await look()
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
