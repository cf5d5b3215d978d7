/**
 * A receiver that answers 200 and remembers what came: HTTP by hand over TCP, since `node:http` would take more CPU than the
 * sender that is measured. It understands what undici writes and nothing else (a fixed `content-length`, whole heads).
 */
import { createServer, type Socket } from 'node:net'
import { type RemoteMethods, serveParent, wallClock } from '../support/child-process.ts'

const HEAD_END = Buffer.from('\r\n\r\n')
const CONTENT_LENGTH = Buffer.from('\r\ncontent-length: ')
const WEBHOOK_ID = Buffer.from('\r\nwebhook-id: ')
const ANSWER = Buffer.from('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok')
const EMPTY = Buffer.alloc(0)

export interface Received {
  /** `<path> <webhook-id>` of every request, in order. */
  keys: string[]
  /** When each came, wall clock in ms. */
  times: Float64Array
  /** The first request, for comparison. */
  first: string
  connections: number
}

let keys: string[] = []
let times: number[] = []
let first = ''
let connections = 0
let port = 0
/** Endpoints 1 to this one are not answered; what they are sent is counted alone. */
let hangThrough = 0
let hanging = 0
/** This endpoint is answered; what it is sent is counted alone. */
let aside = 0
let atAside = 0
let awaited: { count: number; resolve(): void } | null = null

function serve(socket: Socket): void {
  connections++
  socket.setNoDelay(true)
  let rest: Buffer = EMPTY
  socket.on('data', (chunk) => {
    rest = take(socket, rest.length === 0 ? chunk : Buffer.concat([rest, chunk]))
  })
  socket.on('error', () => socket.destroy())
}

/** Answers the complete requests at the front and returns what is behind them. */
function take(socket: Socket, data: Buffer): Buffer {
  for (;;) {
    const headEnd = data.indexOf(HEAD_END)
    if (headEnd < 0) return data
    const length = Number.parseInt(headerOf(data, CONTENT_LENGTH, headEnd), 10)
    const id = headerOf(data, WEBHOOK_ID, headEnd)
    if (!(length >= 0) || id === '') {
      socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
      return EMPTY
    }
    const end = headEnd + HEAD_END.length + length
    if (data.length < end) return data
    if (keys.length === 0) first = data.toString('latin1', 0, end)
    const pathStart = data.indexOf(0x20) + 1
    const path = data.toString('latin1', pathStart, data.indexOf(0x20, pathStart))
    const endpoint = hangThrough > 0 || aside > 0 ? Number(path.slice(path.lastIndexOf('/') + 1)) : 0
    if (endpoint > 0 && endpoint <= hangThrough) {
      hanging++
    } else {
      if (endpoint > 0 && endpoint <= aside) atAside++
      else {
        keys.push(`${path} ${id}`)
        times.push(wallClock())
      }
      socket.write(ANSWER)
    }
    if (awaited !== null && keys.length >= awaited.count) awaited.resolve()
    if (data.length === end) return EMPTY
    data = data.subarray(end)
  }
}

function headerOf(data: Buffer, name: Buffer, headEnd: number): string {
  const at = data.indexOf(name)
  if (at < 0 || at > headEnd) return ''
  return data.toString('latin1', at + name.length, data.indexOf(0x0d, at + name.length))
}

const server = createServer(serve)

const methods = {
  async listen() {
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', 4_096, resolve))
    port = (server.address() as { port: number }).port
    return port
  },
  reset() {
    keys = []
    times = []
    first = ''
    connections = 0
    hanging = 0
    atAside = 0
  },
  /** From now on endpoints 1 to `hang` are not answered, and 1 to `apart` are not kept in the list; 0 for none. */
  behave({ hang, apart }: { hang: number; apart: number }) {
    hangThrough = hang
    aside = apart
  },
  /** What was left out of `received`. */
  leftOut() {
    return { hanging, atAside }
  },
  /** Resolves when so many requests have come. False: they did not within the time. */
  async awaitCount({ count, timeoutMs }: { count: number; timeoutMs: number }) {
    if (keys.length >= count) return true
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const timer = setTimeout(() => resolve(false), timeoutMs)
    awaited = { count, resolve: () => resolve(true) }
    const came = await promise
    clearTimeout(timer)
    awaited = null
    return came
  },
  count() {
    return keys.length
  },
  /** How many came since; they are not kept. Millions would be garbage to collect in what is measured next. */
  forget() {
    const count = keys.length
    keys = []
    times = []
    return count
  },
  received(): Received {
    return { keys, times: Float64Array.from(times), first, connections }
  },
}

export type Receiver = typeof methods
export type ReceiverCalls = RemoteMethods<Receiver>

serveParent(methods as never)
