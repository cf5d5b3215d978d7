import { isIPv6, type Socket } from 'node:net'
import { TransportFailure } from './transport-failure.ts'

/** Longer heads of a proxy's answer are not read, in bytes. */
const MAX_HEAD_BYTES = 16_384

/**
 * Asks the proxy at the other end of `socket` for a tunnel and reads its answer, not a byte further. Resolves with the status;
 * rejects with `PROXY_FAILED` where there is no HTTP answer. Nothing that the proxy says but the status is repeated anywhere.
 *
 * @param host a name, or an address without brackets
 */
export function requestTunnel(
  socket: Socket,
  host: string,
  port: number,
  authorization: string | null,
): Promise<number> {
  const authority = `${isIPv6(host) ? `[${host}]` : host}:${port}`
  const lines = [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`]
  if (authorization !== null) lines.push(`Proxy-Authorization: ${authorization}`)
  return new Promise((resolve, reject) => {
    let head: Buffer = Buffer.alloc(0)
    const end = (settle: () => void) => {
      socket.off('data', onData)
      socket.off('close', onClose)
      socket.off('end', onClose)
      socket.pause()
      settle()
    }
    const fail = (message: string) => end(() => reject(new TransportFailure('PROXY_FAILED', message)))
    const onClose = () => fail('The proxy closed the connection before it answered CONNECT.')
    const onData = (chunk: Buffer) => {
      head = head.length === 0 ? chunk : Buffer.concat([head, chunk])
      const headEnd = head.indexOf('\r\n\r\n')
      if (headEnd === -1) {
        if (!couldBeHttp(head)) fail("The proxy's answer to CONNECT is not HTTP/1.1; is http.proxy an HTTP proxy?")
        else if (head.length > MAX_HEAD_BYTES) fail("The head of the proxy's answer to CONNECT is larger than 16 KiB.")
        return
      }
      const status = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |\r\n)/.exec(head.toString('latin1', 0, 64))?.[1]
      if (status === undefined) {
        fail("The proxy's answer to CONNECT is not HTTP/1.1; is http.proxy an HTTP proxy?")
        return
      }
      const rest = head.subarray(headEnd + 4)
      end(() => {
        // What the receiver said first belongs to whoever reads the tunnel.
        if (rest.length > 0) socket.unshift(rest)
        resolve(Number(status))
      })
    }
    socket.on('data', onData)
    socket.on('close', onClose)
    socket.on('end', onClose)
    if (socket.destroyed || socket.readableEnded) onClose()
    else socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  })
}

function couldBeHttp(head: Buffer): boolean {
  const start = 'HTTP/1.'
  const known = Math.min(head.length, start.length)
  return head.toString('latin1', 0, known) === start.slice(0, known)
}

/** Why the proxy opened no tunnel; null where it did. */
export function refusalOfStatus(status: number): TransportFailure | null {
  if (status >= 200 && status < 300) return null
  if (status === 407)
    return new TransportFailure('PROXY_AUTH_FAILED', 'The proxy wants other credentials (407): check http.proxy.')
  if (status >= 500)
    return new TransportFailure(
      'PROXY_GATEWAY_FAILED',
      `The proxy could not reach the receiver (it answered CONNECT with ${status}).`,
    )
  return new TransportFailure(
    'PROXY_REFUSED',
    `The proxy refused a connection to the receiver (it answered CONNECT with ${status}): is it on the proxy's allow-list?`,
  )
}
