import { TransportFailure } from './transport-failure.ts'

/**
 * A POST as it goes on the wire, head and body in one piece, so that it is one write to the socket. Framing is made here:
 * headers of the hop and of framing among those given are left out, `Content-Length` comes last.
 *
 * @param start request line, `host` and `connection`: see `requestStart`
 * @throws {TransportFailure} `SEND_FAILED` where a header could not be read back as it was given (RFC 9110 section 5.5)
 */
export function requestBytes(
  start: string,
  headers: ReadonlyArray<readonly [name: string, value: string]>,
  body: Uint8Array,
): Buffer {
  // Joined once: adding piece to piece makes a string of each step.
  const parts = [start]
  for (const [name, value] of headers) {
    const field = fieldStart(name)
    if (field === '') continue
    if (UNSENDABLE_VALUE.test(value)) throw unsendable(`the header ${name} holds a character that HTTP does not allow`)
    parts.push(field, value)
  }
  parts.push('\r\ncontent-length: ', String(body.length), '\r\n\r\n')
  const head = parts.join('')
  const bytes = Buffer.allocUnsafe(head.length + body.length)
  bytes.write(head, 0, 'latin1')
  bytes.set(body, head.length)
  return bytes
}

/** What all requests to one URL begin with. Both are parts of a parsed URL, and therefore ASCII. */
export function requestStart(path: string, host: string): string {
  return `POST ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive`
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
const fieldStarts = new Map<string, string>()
const MOST_FIELD_STARTS = 1_000

/** What is written before the value; nothing for headers that are not the caller's. */
function fieldStart(name: string): string {
  const known = fieldStarts.get(name)
  if (known !== undefined) return known
  if (!TOKEN.test(name)) throw unsendable('the name of a header holds a character that HTTP does not allow')
  const start = HOP_HEADERS.has(name.toLowerCase()) ? '' : `\r\n${name}: `
  if (fieldStarts.size >= MOST_FIELD_STARTS) fieldStarts.clear()
  fieldStarts.set(name, start)
  return start
}

function unsendable(reason: string): TransportFailure {
  return new TransportFailure('SEND_FAILED', `The request cannot be sent over HTTP: ${reason}.`)
}
