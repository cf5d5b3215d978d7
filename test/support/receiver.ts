/** A receiver of webhooks that keeps what it was sent, byte for byte, and answers what the test says. */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { until } from './until.ts'

export interface ReceivedRequest {
  path: string
  method: string
  headers: Record<string, string>
  /** Names and values as they came, in order. */
  rawHeaders: string[]
  body: Buffer
  /** Monotonic ms when the whole request was there. */
  at: number
  eventId: string
  deliveryId: string
  attempt: number
  /** `data` of the body. */
  data: Record<string, unknown>
}

/** A status; or status, headers and body; or no answer at all: `hang` keeps the connection open, `reset` breaks it. */
export type Answer = number | { status: number; headers?: Record<string, string>; body?: string } | 'hang' | 'reset'

export type Answerer = (request: ReceivedRequest) => Answer | Promise<Answer>

export interface Receiver {
  /** The URL of a path, `/` unless said otherwise. */
  url(path?: string): string
  /** Everything so far, in order of arrival; of one path where one is given. */
  requests(path?: string): ReceivedRequest[]
  /** What to answer on a path from now on; 200 where nothing was said. */
  answer(path: string, how: Answer | Answerer): void
  /** Waits until at least `count` requests came to this path. */
  received(path: string, count: number, withinMs?: number): Promise<ReceivedRequest[]>
  /** Ends the requests that hang, on this path or on all, with this status. */
  release(status: number, path?: string): void
  /** Requests that are being answered or hang at this moment. */
  open(path: string): number
  close(): Promise<void>
}

export async function startReceiver(): Promise<Receiver> {
  const requests: ReceivedRequest[] = []
  const answers = new Map<string, Answer | Answerer>()
  const hanging = new Map<ServerResponse, string>()
  const open = new Map<string, number>()
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    const path = request.url ?? '/'
    open.set(path, (open.get(path) ?? 0) + 1)
    response.on('close', () => {
      open.set(path, (open.get(path) ?? 0) - 1)
      hanging.delete(response)
    })
    request.on('error', () => {})
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]))
      const body = Buffer.concat(chunks)
      const received: ReceivedRequest = {
        path,
        method: request.method ?? '',
        headers,
        rawHeaders: request.rawHeaders,
        body,
        at: performance.now(),
        eventId: headers['x-webhook-id'] ?? '',
        deliveryId: headers['x-webhook-delivery'] ?? '',
        attempt: Number(headers['x-webhook-attempt']),
        data: JSON.parse(body.toString('utf8')).data,
      }
      requests.push(received)
      const how = answers.get(path) ?? 200
      void Promise.resolve(typeof how === 'function' ? how(received) : how).then((answer) => {
        if (answer === 'hang') hanging.set(response, path)
        else if (answer === 'reset') request.socket.destroy()
        else if (typeof answer === 'number') response.writeHead(answer).end()
        else response.writeHead(answer.status, answer.headers).end(answer.body)
      })
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const of = (path?: string) => (path === undefined ? [...requests] : requests.filter((one) => one.path === path))
  return {
    url: (path = '/') => `http://127.0.0.1:${port}${path}`,
    requests: of,
    answer: (path, how) => void answers.set(path, how),
    async received(path, count, withinMs) {
      await until(`${count} requests to ${path}`, () => of(path).length >= count, withinMs).catch((error: Error) => {
        throw new Error(`${error.message}; ${of(path).length} came`)
      })
      return of(path)
    },
    release(status, path) {
      for (const [response, of] of hanging) {
        if (path !== undefined && path !== of) continue
        hanging.delete(response)
        response.writeHead(status).end()
      }
    },
    open: (path) => open.get(path) ?? 0,
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}
