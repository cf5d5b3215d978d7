/** A real egress proxy: tunnels by CONNECT, with an allow-list and Basic credentials, and as broken as a test wants it. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import type { Issued } from './certificates.ts'

export interface ConnectProxyOptions {
  /** `user:password`; other credentials are answered 407. */
  credentials?: string
  /** Hosts, as they are asked for; others are answered 403. */
  allow?: readonly string[]
  /** Where names lead, as the proxy's own name server would say; others are answered 502. */
  hosts?: Readonly<Record<string, string>>
  /** Speaks TLS with its clients. */
  tls?: Issued
  /** What to do instead of answering properly. */
  instead?: (socket: Socket, asked: AskedTunnel) => void
  /** What ALPN, SNI and the like of a client's TLS with the proxy are looked at for. */
  onClient?: (socket: Socket) => void
}

export interface AskedTunnel {
  host: string
  port: number
  /** The whole head, as it came. */
  head: string
}

export interface ConnectProxy {
  url: string
  port: number
  /** Tunnels that were asked for, in order. */
  asked: AskedTunnel[]
  /** Clients that are connected now. */
  connected(): number
  options: ConnectProxyOptions
  /** Stops listening and cuts every connection. */
  stop(): Promise<void>
  /** Listens again on the same port. */
  restart(): Promise<void>
}

export async function startConnectProxy(options: ConnectProxyOptions = {}): Promise<ConnectProxy> {
  const sockets = new Set<Socket>()
  const asked: AskedTunnel[] = []
  const track = (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
  }
  const clients = new Set<Socket>()

  function accept(client: Socket): void {
    track(client)
    clients.add(client)
    client.on('close', () => clients.delete(client))
    proxy.options.onClient?.(client)
    let head = ''
    const onData = (chunk: Buffer) => {
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      client.off('data', onData)
      client.pause()
      answer(client, head)
    }
    client.on('data', onData)
  }

  function answer(client: Socket, head: string): void {
    const [, name = '', port = ''] = /^CONNECT (\S+):(\d+) HTTP\/1\.1\r\n/.exec(head) ?? []
    const host = name.replace(/^\[|\]$/g, '')
    const request = { host, port: Number(port), head }
    asked.push(request)
    const { credentials, allow, hosts = {}, instead } = proxy.options
    if (instead !== undefined) {
      client.resume()
      instead(client, request)
      return
    }
    const refuse = (status: string): void => {
      client.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`)
    }
    const given = /\r\nproxy-authorization: Basic (\S+)\r\n/i.exec(head)?.[1] ?? ''
    if (credentials !== undefined && Buffer.from(given, 'base64').toString() !== credentials)
      refuse('407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="corp"')
    else if (allow !== undefined && !allow.includes(host)) refuse('403 Forbidden')
    else openTunnel(client, hosts[host] ?? host, request.port, refuse)
  }

  function openTunnel(client: Socket, host: string, port: number, refuse: (status: string) => void): void {
    const upstream = connect({ host, port })
    track(upstream)
    upstream.once('error', () => refuse('502 Bad Gateway'))
    upstream.once('connect', () => {
      client.write('HTTP/1.1 200 Connection established\r\nVia: 1.1 corp\r\n\r\n')
      client.pipe(upstream).pipe(client)
      client.on('close', () => upstream.destroy())
      upstream.on('close', () => client.destroy())
    })
  }

  const server =
    options.tls === undefined
      ? createServer(accept)
      : createTlsServer({ ...options.tls, minVersion: 'TLSv1.2' }, accept)
  server.on('tlsClientError', () => {})
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const proxy: ConnectProxy = {
    url: `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    port,
    asked,
    connected: () => clients.size,
    options: { ...options },
    async stop() {
      if (!server.listening) return
      server.close()
      for (const socket of sockets) socket.destroy()
      await once(server, 'close')
    },
    async restart() {
      await once(server.listen(port, '127.0.0.1'), 'listening')
    },
  }
  return proxy
}
