/**
 * The other side of the demo: somebody else's server, in a process of its own. It knows of Posthaste only what the page
 * says, checks every request with the page's algorithm and with the package `standardwebhooks`, and tells its parent.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'

/** What an endpoint's owner knows: the secret as shown, and the same for Standard Webhooks libraries. */
export interface EndpointSecrets {
  secret: string
  standardSecret: string
}

export type ToReceiver =
  | ({ kind: 'endpoint'; path: string } & EndpointSecrets)
  /** The first event to come to this path is answered 503 so many times. */
  | { kind: 'fail'; path: string; times: number }

export interface ReceivedRequest {
  path: string
  /** Wall clock in ms, with fractions, when the last byte had come. */
  receivedAt: number
  /** What it was answered. */
  status: number
  headers: Record<string, string>
  body: string
  /** What the three ways to verify say. */
  checks: { page: boolean; body: boolean; standard: boolean }
}

export type FromReceiver = { kind: 'listening'; port: number } | ({ kind: 'received' } & ReceivedRequest)

/** The page's `verify_webhook`, word for word in another language: HMAC-SHA256 over the raw body. */
export function verifyWebhook(payload: Buffer, signature: string, secret: string): boolean {
  const expected = createHmac('sha256', secret).update(payload).digest('hex')
  const received = signature.replace('sha256=', '')
  return received.length === expected.length && timingSafeEqual(Buffer.from(expected), Buffer.from(received))
}

/** For those who see no headers: the body's own signature, over the bytes without it. */
export function verifyBody(payload: Buffer, secret: string): boolean {
  const text = payload.toString('latin1')
  const member = /,"signature":"(sha256=[0-9a-f]{64})"\}$/.exec(text)
  if (!member?.[1]) return false
  return verifyWebhook(Buffer.from(`${text.slice(0, member.index)}}`, 'latin1'), member[1], secret)
}

export function verifyStandard(payload: Buffer, headers: Record<string, string>, standardSecret: string): boolean {
  try {
    new Webhook(standardSecret).verify(payload, headers)
    return true
  } catch {
    return false
  }
}

async function run(send: (message: FromReceiver) => void): Promise<void> {
  const endpoints = new Map<string, EndpointSecrets>()
  const failures = new Map<string, { eventId: string | null; left: number }>()

  process.on('message', (message: ToReceiver) => {
    if (message.kind === 'endpoint') endpoints.set(message.path, message)
    else failures.set(message.path, { eventId: null, left: message.times })
  })
  // Ctrl-C reaches every process of the terminal; the parent says when it is over, by going away.
  process.on('SIGINT', () => {})
  process.on('disconnect', () => process.exit())

  const server = createServer(async (request, response) => {
    const body = await readBody(request)
    const receivedAt = performance.timeOrigin + performance.now()
    const path = request.url ?? '/'
    const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]))
    const known = endpoints.get(path)
    const checks = {
      page: known !== undefined && verifyWebhook(body, headers['x-webhook-signature'] ?? '', known.secret),
      body: known !== undefined && verifyBody(body, known.secret),
      standard: known !== undefined && verifyStandard(body, headers, known.standardSecret),
    }
    const status =
      known === undefined ? 404 : !checks.page ? 401 : isDown(path, headers['webhook-id'] ?? '') ? 503 : 200
    response.writeHead(status).end()
    send({ kind: 'received', path, receivedAt, status, headers, body: body.toString(), checks })
  })

  function isDown(path: string, eventId: string): boolean {
    const failure = failures.get(path)
    if (!failure || failure.left === 0) return false
    failure.eventId ??= eventId
    if (failure.eventId !== eventId) return false
    failure.left--
    return true
  }

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  send({ kind: 'listening', port: (server.address() as AddressInfo).port })
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

if (process.argv[1] === import.meta.filename) {
  if (!process.send) {
    console.error('The receiver is started by the demo: pnpm demo.')
    process.exit(1)
  }
  await run((message) => process.send?.(message))
}
