/** What the rest relies on of every `Transport`, seen from a server on this machine. */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { OutboundRequest, OutboundResult, Transport } from '../http-client/transport.ts'
import { type ConformanceCase, type ConformanceReport, runCases } from './conformance.ts'

export interface TransportSuiteOptions {
  /** Makes a transport; each case uses one of its own, and closes it. It must be able to reach 127.0.0.1 by plain http. */
  create(): Transport
}

interface Seen {
  method: string
  url: string
  headers: IncomingHttpHeaders
  body: Buffer
}

type Respond = (response: ServerResponse, seen: Seen) => void

interface Bench {
  transport: Transport
  origin: string
  /** Requests that came, in order. */
  seen: Seen[]
  send(more?: Partial<OutboundRequest>): Promise<OutboundResult>
}

const BODY = Buffer.from('{"event":"x","data":{"ä":"\u{1f600}"}}')
/** What the contract lets a transport read of an answer, in bytes. */
const MOST_BYTES = 16_384
const SHORT_DEADLINE_MS = 200
/** Late, even for a loaded machine; a deadline that is not kept at all lasts longer. */
const LATE_MS = 5_000

/** Each case of `checkTransport`, for a report or a test of its own. */
export const transportCases: readonly ConformanceCase<TransportSuiteOptions>[] = [
  onBench('posts these bytes and headers', ok, async ({ send, seen }) => {
    const result = expectStatus(await send(), 200)
    expect(result.headers !== null && Object.keys(result.headers).length === 0, 'headers of a success were kept')
    expect(result.excerpt === null, 'the body of a success was kept')
    expect(result.retryAfter === null, 'retryAfter must be null without a Retry-After')
    expect(result.timings.total > 0, 'timings.total must be in ms')
    const [request] = seen
    expect(
      seen.length === 1 && request?.method === 'POST' && request.url === '/hook?a=%20',
      'it is one POST to the URL',
    )
    expect(request?.body.equals(BODY) === true, 'the body must arrive byte for byte')
    expect(request?.headers['webhook-id'] === 'evt_1', 'the headers must arrive')
    expect(request?.headers['content-type'] === 'application/json', 'the content type must arrive')
  }),
  onBench(
    'keeps the answer of a failure',
    (response) => void response.writeHead(503, { 'Retry-After': '7', 'X-A': 'b' }).end('down'),
    async ({ send }) => {
      const result = expectStatus(await send(), 503)
      expect(result.excerpt === 'down' && result.headers['x-a'] === 'b', 'headers and excerpt of a failure are kept')
      expect(result.retryAfter === '7', 'retryAfter is the header as it came')
    },
  ),
  onBench(
    'keeps the answer of a success where it is wanted',
    (response) => void response.end('hällo'),
    async ({ send }) => {
      expect(expectStatus(await send({ keepResponse: true }), 200).excerpt === 'hällo', 'keepResponse keeps the body')
    },
  ),
  onBench(
    'never follows a redirect',
    (response) => void response.writeHead(307, { Location: '/elsewhere' }).end(),
    async ({ send, seen }) => {
      expectStatus(await send(), 307)
      expect(seen.length === 1, 'the redirect was followed')
    },
  ),
  onBench(
    'keeps no more than 16 KiB of an answer',
    (response) => void response.writeHead(500).end('a'.repeat(1_000_000)),
    async ({ send }) => {
      const { excerpt } = expectStatus(await send(), 500)
      expect((excerpt?.length ?? 0) <= MOST_BYTES, `${excerpt?.length} bytes were kept`)
    },
  ),
  onBench(
    'ends at the deadline',
    () => {},
    async ({ send }) => {
      const at = performance.now()
      expectError(await within(send({ deadlineMs: SHORT_DEADLINE_MS })), 'TIMEOUT')
      expect(performance.now() - at < LATE_MS, 'it ended long after the deadline')
    },
  ),
  onBench(
    'answers an error where the connection is lost',
    (response) => void (response.socket as Socket).destroy(),
    async ({ send }) => void expectError(await send(), null),
  ),
  onBench('asks mayStart before anything is sent', ok, async ({ send, seen }) => {
    expectError(await send({ mayStart: () => false }), 'NOT_STARTED')
    expect(seen.length === 0, 'it sent although mayStart answered false')
    expectStatus(await send({ mayStart: () => true }), 200)
  }),
  onBench(
    'gives each of many at once its own answer',
    (response, { url }) => void response.writeHead(200 + Number(url.slice(1))).end(),
    async ({ send, origin }) => {
      const results = await Promise.all(Array.from({ length: 50 }, (_, n) => send({ url: `${origin}/${n}` })))
      for (const [n, result] of results.entries()) expectStatus(result, 200 + n)
    },
  ),
  onBench('may be closed twice', ok, async ({ send, transport }) => {
    await send()
    await transport.close()
  }),
]

/** Runs every case against a transport of the host's. Never rejects for what a case finds: see `passed` of the report. */
export function checkTransport(options: TransportSuiteOptions): Promise<ConformanceReport> {
  return runCases(transportCases, options)
}

function ok(response: ServerResponse): void {
  response.end('ok')
}

function onBench(
  name: string,
  respond: Respond,
  check: (bench: Bench) => Promise<void>,
): ConformanceCase<TransportSuiteOptions> {
  return {
    name,
    async run({ create }) {
      const seen: Seen[] = []
      const server = createServer(async (request, response) => {
        const { method = '', url = '', headers } = request
        const one = { method, url, headers, body: Buffer.concat(await request.toArray()) }
        seen.push(one)
        respond(response, one)
      })
      await once(server.listen(0, '127.0.0.1'), 'listening')
      const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      const transport = create()
      const base: OutboundRequest = {
        url: `${origin}/hook?a=%20`,
        headers: [
          ['Content-Type', 'application/json'],
          ['webhook-id', 'evt_1'],
        ],
        body: BODY,
        deadlineMs: 10_000,
      }
      try {
        await check({ transport, origin, seen, send: (more = {}) => transport.send({ ...base, ...more }) })
        await transport.close()
      } finally {
        server.closeAllConnections()
        server.close()
      }
    },
  }
}

async function within(result: Promise<OutboundResult>): Promise<OutboundResult> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('it did not end at the deadline')), LATE_MS)
  })
  return await Promise.race([result, late]).finally(() => clearTimeout(timer))
}

function expectStatus(result: OutboundResult, status: number): OutboundResult & { kind: 'response' } {
  if (result.kind === 'response' && result.statusCode === status) return result
  throw new Error(`expected the status ${status}, not ${result.kind === 'response' ? result.statusCode : result.code}`)
}

function expectError(result: OutboundResult, code: string | null): void {
  if (result.kind !== 'error') throw new Error(`expected an error, not the status ${result.statusCode}`)
  expect(code === null || result.code === code, `expected the code ${code}, not ${result.code}`)
  expect(typeof result.message === 'string' && typeof result.staleConnection === 'boolean', 'the error is incomplete')
}

function expect(isSo: boolean, otherwise: string): void {
  if (!isSo) throw new Error(otherwise)
}
