/** The page's own curl command against each example as a server, run as its README says. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { createHmac, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { startReceiver } from '../support/receiver.ts'

const CHECKOUT = resolve(import.meta.dirname, '..', '..')
const FRAMEWORKS = ['express', 'fastify', 'koa']
const serverOf = (framework: string) => [
  '--conditions=posthaste-source',
  join(CHECKOUT, 'examples', framework, 'src', 'server.ts'),
]
const SOURCE_DOCUMENT = '/work/shared/source-document.txt'
const hasCurl = spawnSync('curl', ['--version']).status === 0
const hasSourceDocument = existsSync(SOURCE_DOCUMENT)

const API_KEY = 'sk_live_your_api_key'
const readme = readFileSync(join(CHECKOUT, 'examples', 'express', 'README.md'), 'utf8')

/** As it stands on the page. */
const PAGE_CURL = `curl -X POST "https://rebusai.com/api/v1/affiliate/webhooks/" \\
  -H "Authorization: Bearer sk_live_your_api_key" \\
  -H "Content-Type: application/json" \\
  -d '{
    "url": "https://your-app.com/webhooks/affiliate",
    "events": ["commission.approved", "payout.processed", "affiliate.approved"],
    "secret": "your_webhook_secret",
    "active": true
  }'`
const PAGE_BODY = /-d '([^']+)'/.exec(PAGE_CURL)![1]!
const PAGE_HEADERS = Object.fromEntries(
  [...PAGE_CURL.matchAll(/-H "([^:]+): ([^"]+)"/g)].map(([, name, value]) => [name, value]),
)

interface EndpointAnswer {
  id: string
  url: string
  events: string[]
  active: boolean
  status: string
  secret?: string
  code?: string
}

let database: TestDatabase
let server: ChildProcess
let origin: string

async function startServer(framework: string): Promise<void> {
  database = await createTestDatabase()
  server = spawn(process.execPath, serverOf(framework), {
    cwd: CHECKOUT,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      DATABASE_URL: database.url,
      API_KEY,
      POSTHASTE_KEY: randomBytes(32).toString('base64'),
      PORT: '0',
      ALLOW_LOOPBACK_RECEIVERS: '1',
    },
  })
  for await (const line of createInterface({ input: server.stdout! })) {
    origin = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0] ?? ''
    if (origin) return
  }
  throw new Error('The server ended before it listened.')
}

async function stopServer(): Promise<void> {
  if (server.exitCode === null && server.signalCode === null) {
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  }
  await database.drop()
}

const PAGE_ENDPOINT = {
  id: expect.stringMatching(/^ep_[0-9a-f]{32}$/),
  url: 'https://your-app.com/webhooks/affiliate',
  events: ['commission.approved', 'payout.processed', 'affiliate.approved'],
  secret: 'your_webhook_secret',
  active: true,
  status: 'active',
}

async function postPage(path: string, headers: Record<string, string | undefined> = PAGE_HEADERS) {
  const response = await fetch(`${origin}${path}`, {
    method: 'POST',
    headers: headers as Record<string, string>,
    body: PAGE_BODY,
  })
  return { status: response.status, headers: response.headers, body: (await response.json()) as EndpointAnswer }
}

test.skipIf(!hasSourceDocument)(`the page's curl command stands in ${SOURCE_DOCUMENT} as it stands here`, () => {
  expect(readFileSync(SOURCE_DOCUMENT, 'utf8').replaceAll('\r\n', '\n')).toContain(PAGE_CURL)
})

describe.each(FRAMEWORKS)('the server of examples/%s', (framework) => {
  beforeAll(() => startServer(framework))
  afterAll(stopServer)

  test.each(['/api/v1/affiliate/webhooks/', '/api/v1/affiliate/webhooks'])(
    'creates the endpoint of the page at %s',
    async (path) => {
      const { status, headers, body } = await postPage(path)
      expect(status).toBe(201)
      expect(body).toMatchObject(PAGE_ENDPOINT)
      expect(headers.get('location')).toBe(`/api/v1/affiliate/webhooks/${body.id}`)
      const read = await fetch(`${origin}${headers.get('location')}`, {
        headers: PAGE_HEADERS as Record<string, string>,
      })
      const { secret, ...endpoint } = (await read.json()) as EndpointAnswer
      expect([read.status, endpoint.id, secret]).toEqual([200, body.id, undefined])
    },
  )

  test.skipIf(!hasCurl)('takes the page’s curl command itself, with and without the slash', async () => {
    const here = PAGE_CURL.replace('https://rebusai.com', origin)
    for (const command of [here, here.replace('/webhooks/"', '/webhooks"')]) {
      const { stdout } = await promisify(execFile)('sh', ['-c', `${command} --silent --show-error`])
      expect(JSON.parse(stdout)).toMatchObject(PAGE_ENDPOINT)
    }
  })

  test('needs its key', async () => {
    for (const Authorization of ['Bearer sk_live_wrong', 'Bearer', undefined]) {
      const headers = Authorization ? { ...PAGE_HEADERS, Authorization } : { 'Content-Type': 'application/json' }
      expect(await postPage('/api/v1/affiliate/webhooks/', headers)).toMatchObject({
        status: 401,
        body: { code: 'UNAUTHENTICATED' },
      })
    }
  })

  test.skipIf(!hasCurl)('works as the commands of the README say', async () => {
    const snippets = [...readme.matchAll(/```sh\n(.*?)```/gs)].map((match) => match[1]!)
    const curls = snippets.filter((snippet) => snippet.includes('curl'))
    expect(curls).toHaveLength(2)
    const outputs: string[] = []
    for (const snippet of curls) {
      const script = `set -e; ${snippet.replaceAll('http://127.0.0.1:3000', origin)}`
      const { stdout } = await promisify(execFile)('sh', ['-c', script], { env: { ...process.env, API_KEY } })
      outputs.push(stdout)
    }
    expect(JSON.parse(outputs[0]!)).toMatchObject(PAGE_ENDPOINT)
    const answers = outputs[1]!.trim().split('\n')
    expect(answers).toHaveLength(5)
    expect(JSON.parse(answers.at(-1)!)).toEqual({
      commission_id: 1,
      affiliate_id: 1,
      amount: 76.95,
      status: 'approved',
    })
  })

  test('sends a signed event for what happens in its routes', async () => {
    const receiver = await startReceiver()
    const post = (path: string, body: unknown) =>
      fetch(`${origin}/api/v1/affiliate${path}`, {
        method: 'POST',
        headers: PAGE_HEADERS as Record<string, string>,
        body: JSON.stringify(body),
      })
    await post('/webhooks', { url: receiver.url('/hook'), events: ['affiliate.*'], secret: 'your_webhook_secret' })
    const signedUp = await post('/affiliates', { name: 'Jane Doe', email: 'jane@example.com' })
    const { affiliate_id } = (await signedUp.json()) as { affiliate_id: number }
    const [request] = await receiver.received('/hook', 1)
    expect(request).toMatchObject({ data: { affiliate_id, affiliate_name: 'Jane Doe' } })
    const expected = createHmac('sha256', 'your_webhook_secret').update(request!.body).digest('hex')
    expect(request!.headers['x-webhook-signature']).toBe(`sha256=${expected}`)
    await receiver.close()
  })

  test('says which variables are missing', async () => {
    const { PATH } = process.env
    const failed = spawnSync(process.execPath, serverOf(framework), { cwd: CHECKOUT, env: { PATH }, encoding: 'utf8' })
    expect(failed.status).toBe(1)
    expect(failed.stderr).toMatch(/DATABASE_URL.*API_KEY.*POSTHASTE_KEY/)
  })

  test('stops when it is told to', async () => {
    const ended = once(server, 'exit')
    server.kill('SIGTERM')
    expect(await ended).toEqual([0, null])
  })
})

test('the README names every variable that the server reads, and no other', () => {
  const source = readFileSync(join(CHECKOUT, 'examples', 'affiliate', 'src', 'shop', 'run-server.ts'), 'utf8')
  const read = [...source.matchAll(/process\.env\.(\w+)|need\('(\w+)'/g)].map((match) => match[1] ?? match[2])
  const named = [...readme.matchAll(/^\| `([A-Z_]+)` +\|/gm)].map((match) => match[1])
  expect(named.toSorted()).toEqual(read.toSorted())
})
