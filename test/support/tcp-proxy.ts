/** Between a client and a server of this machine: the network that can go away, loudly or without a word, and come back. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface TcpProxy {
  /** The server's URL, through this proxy. */
  url: string
  port: number
  /** Breaks every connection and refuses new ones. */
  cut(): void
  /** Lets connections through again. */
  mend(): void
  /** Forwards nothing any more, of the connections there are and of new ones, and tells nobody. */
  fallSilent(): void
  /** After that: new connections are forwarded again. `resume`: the old ones, too, with what was kept back; else never. */
  recover(resume: boolean): void
  close(): Promise<void>
}

type Pair = readonly [client: Socket, upstream: Socket]

/** @param onClientData told all that clients send */
export async function startTcpProxy(serverUrl: string, onClientData?: (data: Buffer) => void): Promise<TcpProxy> {
  const target = new URL(serverUrl)
  const pairs = new Set<Pair>()
  let state: 'open' | 'cut' | 'silent' = 'open'
  const server = createServer((client) => {
    if (state === 'cut') {
      client.resetAndDestroy()
      return
    }
    const pair: Pair = [client, connect(Number(target.port), target.hostname)]
    pairs.add(pair)
    if (onClientData !== undefined) client.on('data', onClientData)
    for (const socket of pair) {
      // 'close' follows.
      socket.on('error', () => {})
      socket.on('close', () => {
        // Silence tells nobody that the other side has gone.
        if (state !== 'silent') end(pair)
      })
    }
    if (state === 'open') join(pair)
  })
  const end = (pair: Pair) => {
    pairs.delete(pair)
    for (const socket of pair) socket.destroy()
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const url = new URL(serverUrl)
  url.hostname = '127.0.0.1'
  url.port = String(port)
  const cut = () => {
    state = 'cut'
    for (const [client, upstream] of pairs) {
      client.resetAndDestroy()
      upstream.resetAndDestroy()
    }
  }
  return {
    url: url.href,
    port,
    cut,
    mend() {
      state = 'open'
    },
    fallSilent() {
      state = 'silent'
      for (const [client, upstream] of pairs) {
        client.unpipe(upstream).pause()
        upstream.unpipe(client).pause()
      }
    },
    recover(resume) {
      state = 'open'
      for (const pair of pairs) {
        if (pair.some(({ destroyed }) => destroyed)) end(pair)
        else if (resume) join(pair)
      }
    },
    async close() {
      const closed = once(server, 'close')
      server.close()
      for (const pair of pairs) end(pair)
      await closed
    },
  }
}

function join([client, upstream]: Pair): void {
  client.pipe(upstream)
  upstream.pipe(client)
}
