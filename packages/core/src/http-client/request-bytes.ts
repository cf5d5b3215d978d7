import { TransportFailure } from './transport-failure.ts'

/**
 * A POST as it goes on the wire, head and body in one piece, so that it is one write to the socket. Framing is made here:
 * headers of the hop and of framing among those given are left out, `Content-Length` comes last.
 *
 * @param start request line, `host` and `connection`, each with its line end: see `requestStart`
 * @throws {TransportFailure} `SEND_FAILED` where a header could not be read back as it was given (RFC 9110 section 5.5)
 */
export function requestBytes(
  start: string,
  headers: ReadonlyArray<readonly [name: string, value: string]>,
  body: Uint8Array,
): Buffer {
  let head = start
  for (const [name, value] of headers) {
    const kind = kindOfName(name)
    if (kind === 'hop') continue
    if (kind === 'bad') throw unsendable('the name of a header holds a character that HTTP does not allow')
    if (UNSENDABLE_VALUE.test(value)) throw unsendable(`the header ${name} holds a character that HTTP does not allow`)
    head += `${name}: ${value}\r\n`
  }
  head += `content-length: ${body.length}\r\n\r\n`
  const bytes = Buffer.allocUnsafe(head.length + body.length)
  bytes.write(head, 0, 'latin1')
  bytes.set(body, head.length)
  return bytes
}

/** What all requests to one URL begin with. Both are parts of a parsed URL, and therefore ASCII. */
export function requestStart(path: string, host: string): string {
  return `POST ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n`
}

/** Anything but tab, space, visible ASCII and the upper half of Latin-1. */
const UNSENDABLE_VALUE = /[^\t\x20-\x7e\x80-\xff]/
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** Headers of the connection and of framing (RFC 9110 sections 7.6.1 and 8.6, RFC 9112), which are not the caller's. */
const HOP_HEADERS = new Set([
  'te',
  'host',
  'expect',
  'trailer',
  'upgrade',
  'connection',
  'keep-alive',
  'content-length',
  'proxy-connection',
  'transfer-encoding',
])

/** Names are few and come again with every request. */
const knownNames = new Map<string, 'plain' | 'hop' | 'bad'>()
const MOST_KNOWN_NAMES = 1_000

function kindOfName(name: string): 'plain' | 'hop' | 'bad' {
  const known = knownNames.get(name)
  if (known !== undefined) return known
  const kind = !TOKEN.test(name) ? 'bad' : HOP_HEADERS.has(name.toLowerCase()) ? 'hop' : 'plain'
  if (knownNames.size >= MOST_KNOWN_NAMES) knownNames.clear()
  knownNames.set(name, kind)
  return kind
}

function unsendable(reason: string): TransportFailure {
  return new TransportFailure('SEND_FAILED', `The request cannot be sent over HTTP: ${reason}.`)
}
