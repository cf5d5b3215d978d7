/** Stands between a worker and Postgres, and can fall silent: nothing is forwarded and nothing refused, as in a lost network. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface TcpProxy {
  readonly port: number
  /** Forwards nothing any more, of the connections there are and of new ones. */
  fallSilent(): void
  /** New connections are forwarded again. `resume`: the old ones, too, with what was kept back; else they stay silent for ever. */
  recover(resume: boolean): void
  close(): Promise<void>
}

export async function startTcpProxy(target: number): Promise<TcpProxy> {
  const pairs = new Set<[Socket, Socket]>()
  let silent = false
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1')
    const pair: [Socket, Socket] = [client, upstream]
    pairs.add(pair)
    for (const [from, to] of [pair, [upstream, client] as const]) {
      from.on('error', () => {})
      from.pipe(to)
      from.on('close', () => {
        // A lost network tells nobody that the other side has gone.
        if (silent) return
        pairs.delete(pair)
        to.destroy()
      })
    }
    if (silent) hush(pair)
  })
  const hush = ([client, upstream]: [Socket, Socket]) => {
    client.unpipe(upstream)
    upstream.unpipe(client)
    client.pause()
    upstream.pause()
  }
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    fallSilent() {
      silent = true
      for (const pair of pairs) hush(pair)
    },
    recover(resume) {
      silent = false
      for (const pair of pairs) {
        const [client, upstream] = pair
        if (client.destroyed || upstream.destroyed) {
          pairs.delete(pair)
          client.destroy()
          upstream.destroy()
        } else if (resume) {
          client.pipe(upstream)
          upstream.pipe(client)
        }
      }
    },
    async close() {
      for (const [client, upstream] of pairs) {
        client.destroy()
        upstream.destroy()
      }
      server.close()
      await once(server, 'close')
    },
  }
}
