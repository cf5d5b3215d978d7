import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { TEST_CERTIFICATE, TEST_KEY } from './hostile-certificate.ts'

/** A receiver that speaks bytes, so that it can break every rule of HTTP. */
export interface HostileReceiver extends AsyncDisposable {
  port: number
  url: string
  /** Connections accepted so far. */
  connections(): number
  /** Everything that was received, of all connections, in order. */
  received(): string
  /** Requests of which a complete head was received. */
  requests(): number
  /** Waits until every connection so far was closed by the other side or ended. */
  allClosed(): Promise<void>
}

export interface ReceivedRequest {
  socket: Socket
  /** 1 for the first connection. */
  connection: number
  /** 1 for the first request of this connection. */
  request: number
}

export interface HostileReceiverOptions {
  tls?: boolean
  /** Called when a connection is accepted (with TLS, after the handshake). */
  onConnect?: (socket: Socket) => void
}

/** Calls `answer` once for every complete request (head and body by `content-length`). Listens on 127.0.0.1. */
export async function startHostileReceiver(
  answer: (request: ReceivedRequest) => void,
  options: HostileReceiverOptions = {},
): Promise<HostileReceiver> {
  const sockets = new Set<Socket>()
  let connections = 0
  let requests = 0
  let received = ''

  function accept(socket: Socket): void {
    const connection = ++connections
    let request = 0
    let buffered = Buffer.alloc(0)
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1')
      buffered = Buffer.concat([buffered, chunk])
      for (;;) {
        const rest = afterOneRequest(buffered)
        if (rest === null) break
        buffered = Buffer.from(rest)
        requests++
        answer({ socket, connection, request: ++request })
      }
    })
    options.onConnect?.(socket)
  }

  const server: Server = options.tls
    ? createTlsServer({ cert: TEST_CERTIFICATE, key: TEST_KEY, ALPNProtocols: ['h2', 'http/1.1'] }, accept)
    : createServer(accept)
  server.on('tlsClientError', () => {})
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}/hook`,
    connections: () => connections,
    received: () => received,
    requests: () => requests,
    async allClosed() {
      // Not `once`, which rejects where the connection ends by a reset.
      await Promise.all([...sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve))))
    },
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
      await once(server, 'close')
    },
  }
}

/** What follows the first complete request, or null where there is none yet. */
function afterOneRequest(bytes: Buffer): Buffer | null {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd === -1) return null
  const length = /\r\ncontent-length: (\d+)/i.exec(bytes.toString('latin1', 0, headEnd))?.[1] ?? '0'
  const end = headEnd + 4 + Number(length)
  return bytes.length < end ? null : bytes.subarray(end)
}

/** Writes a piece again and again until the connection ends, waiting `everyMs` or as fast as it is taken (0). */
export function writeForever(socket: Socket, piece: string | Buffer, everyMs: number): void {
  const write = (): void => {
    if (socket.destroyed) return
    const flowing = socket.write(piece)
    if (everyMs > 0) setTimeout(write, everyMs)
    else if (flowing) setImmediate(write)
    else socket.once('drain', write)
  }
  write()
}

/** Writes a text byte by byte. */
export function writeSlowly(socket: Socket, text: string, everyMs: number): void {
  const [first, ...rest] = text
  if (first === undefined || socket.destroyed) return
  socket.write(first)
  setTimeout(() => writeSlowly(socket, rest.join(''), everyMs), everyMs)
}
