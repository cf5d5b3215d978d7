/** The example receiver, on node:http and as a fetch handler without Node, with real deliveries and with what is none. */
import { type ChildProcess, spawn } from 'node:child_process'
import { affiliateEvents, generateSecret } from '@posthaste/core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createSigner, standardSignature } from '../../packages/core/src/signing/sign.ts'
import { runOnEdge } from '../support/edge-runtime.ts'
import { type ReceivedRequest, type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const SOURCES = new URL('../../examples/receiver/src/', import.meta.url)
const SECRET = 'the secret of this endpoint'
const NEXT = generateSecret()
const APPROVED = affiliateEvents.get('commission.approved').example
const LINE = 'commission 123: 85.5 for John Smith'

let host: UnderTest
/** Keeps what was delivered, to be sent again, changed. */
let recorder: Receiver
let delivered: ReceivedRequest
let child: ChildProcess
let output: string[]
let url: string

beforeAll(async () => {
  recorder = await startReceiver()
  host = await underTest()
  await host.webhooks.start()
  await host.endpoint(recorder.url('/recorded'), { events: ['*'], secret: SECRET })
  await host.webhooks.emit('commission.approved', APPROVED as never, { tx: 'own' })
  delivered = (await recorder.received('/recorded', 1))[0] as ReceivedRequest
})
afterAll(async () => {
  child?.kill('SIGKILL')
  await host.stop()
  await recorder.close()
})

async function startServer(env: Record<string, string>): Promise<void> {
  child?.kill('SIGKILL')
  output = []
  child = spawn(process.execPath, ['--conditions=posthaste-source', new URL('server.ts', SOURCES).pathname], {
    env: { PATH: process.env.PATH ?? '', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines = (chunk: Buffer) => void output.push(...chunk.toString().split('\n').filter(Boolean))
  child.stdout?.on('data', lines)
  child.stderr?.on('data', lines)
  await until(`the receiver to listen (${output})`, () => output.some((line) => line.startsWith('listening')), 30_000)
  url = output.find((line) => line.startsWith('listening'))!.replace('listening on ', '')
  output.length = 0
}

/** What was delivered, changed as the case says. */
interface Request {
  headers: Record<string, string>
  body: Buffer
}
const original = (): Request => ({ headers: signatureHeaders(delivered.headers), body: delivered.body })

function signatureHeaders(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => /^(x-webhook|webhook)-|content-type/.test(name)))
}

function signedAt(seconds: number, secret = SECRET): Request {
  const { headers, body } = original()
  const signature = standardSignature(headers['webhook-id'] ?? '', seconds, body, [createSigner(secret)])
  return { headers: { ...headers, 'webhook-timestamp': String(seconds), 'webhook-signature': signature }, body }
}

const now = () => Math.floor(Date.now() / 1000)

/** What each is answered, and what the log says of it. */
const CASES: [what: string, make: () => Request, status: number, log: RegExp][] = [
  ['a delivery', () => signedAt(now()), 200, new RegExp(LINE)],
  ['a delivery by the next secret', () => signedAt(now(), NEXT), 200, /seen before: evt_/],
  ['one by another secret', () => signedAt(now(), 'another secret'), 401, /refused at signature/],
  ['one of which a byte was changed', () => tampered(), 401, /refused at signature/],
  ['one that was recorded ten minutes ago', () => signedAt(now() - 600), 401, /refused at timestamp/],
  ['one that comes from the future', () => signedAt(now() + 600), 401, /refused at timestamp/],
  ['one without its headers', () => ({ headers: {}, body: delivered.body }), 401, /refused at headers/],
  ['one that was parsed and written again', () => rewritten(), 401, /refused at signature/],
]

function tampered(): Request {
  const request = signedAt(now())
  return { ...request, body: Buffer.from(request.body.toString().replace('85.5', '95.5')) }
}

function rewritten(): Request {
  const request = signedAt(now())
  return { ...request, body: Buffer.from(JSON.stringify(JSON.parse(request.body.toString()), null, 1)) }
}

describe('on node:http', () => {
  const send = async ({ headers, body }: Request) =>
    (await fetch(url, { method: 'POST', headers, body: new Uint8Array(body) })).status

  test('takes what is delivered, before, during and after a change of the secret', async () => {
    await startServer({ WEBHOOK_SECRET: SECRET, WEBHOOK_SECRET_NEXT: NEXT })
    const { id } = await host.endpoint(url, { events: ['commission.*', 'payout.*'], secret: SECRET })
    const deliver = async (expected: string) => {
      const before = output.length
      await host.webhooks.emit('commission.approved', APPROVED as never, { tx: 'own' })
      await until(`${expected} (${output})`, () => output.slice(before).includes(expected))
    }
    await deliver(LINE)
    await host.webhooks.endpoints.rotateSecret('default', id, { secret: NEXT, overlap_seconds: 3_600 })
    await deliver(LINE)
    // Its line is written before its answer: killed in between, the receiver would be sent the event again.
    await host.settled()
    await startServer({ WEBHOOK_SECRET: NEXT })
    await host.webhooks.endpoints.update('default', id, { url })
    await deliver(LINE)
    await host.settled()
    const { data } = await host.webhooks.deliveries.list('default', id)
    expect(data.map(({ status, attempt_count }) => [status, attempt_count])).toEqual(
      [...Array(3)].map(() => ['succeeded', 1]),
    )
  })

  describe('answers', () => {
    beforeAll(() => startServer({ WEBHOOK_SECRET: SECRET, WEBHOOK_SECRET_NEXT: NEXT }))
    beforeEach(() => {
      output.length = 0
    })

    test.each(CASES)('%s', async (_, make, status, log) => {
      expect(await send(make())).toBe(status)
      await until('the log', () => output.length > 0)
      expect(output.join('\n')).toMatch(log)
      expect(output.join('\n')).not.toContain(SECRET)
    })

    test('405 to other methods and 413 to what is too large', async () => {
      expect((await fetch(url)).status).toBe(405)
      expect(await send({ headers: {}, body: Buffer.alloc(2_200_000) })).toBe(413)
    })
  })

  test('does not start without a secret', async () => {
    const alone = spawn(process.execPath, ['--conditions=posthaste-source', new URL('server.ts', SOURCES).pathname], {
      env: { PATH: process.env.PATH ?? '', PORT: '0' },
      stdio: 'ignore',
    })
    const code = await new Promise((resolve) => alone.once('exit', resolve))
    expect(code).toBe(1)
  })
})

test('as a fetch handler, with the globals of the web alone', async () => {
  const requests = CASES.map(([, make]) => make()).map(({ headers, body }) => ({
    method: 'POST',
    headers,
    body: body.toString('base64'),
  }))
  const env = { WEBHOOK_SECRET: SECRET, WEBHOOK_SECRET_NEXT: NEXT }
  const get = { method: 'GET', headers: {}, body: '' }
  const { statuses, log } = await runOnEdge(new URL('edge.ts', SOURCES), env, [...requests, get])
  expect(statuses).toEqual([...CASES.map(([, , status]) => status), 405])
  for (const [index, [, , , expected]] of CASES.entries()) expect(log[index]).toMatch(expected)
  const broken = await runOnEdge(new URL('edge.ts', SOURCES), { WEBHOOK_SECRET: 'whsec_%%%' }, requests.slice(0, 1))
  expect([broken.statuses, broken.log[0]]).toEqual([[500], expect.stringContaining('refused at secret')])
})

test('a module that imports something of Node does not run there', async () => {
  const running = runOnEdge(new URL('server.ts', SOURCES), {}, [])
  await expect(running).rejects.toThrow(/imports node:events, which an edge runtime does not have/)
})
