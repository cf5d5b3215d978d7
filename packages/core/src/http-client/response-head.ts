/** How the end of a response's body is told (RFC 9112 section 6.3). */
export type BodyFraming = { kind: 'length'; bytes: number } | { kind: 'chunked' } | { kind: 'close' }

/** The head of a response, as far as an exchange must know it at once. */
export interface ResponseHead {
  statusCode: number
  framing: BodyFraming
  /** The connection may carry another request after this response. */
  persistent: boolean
  /** `Keep-Alive: timeout=…` in ms; null without. */
  keepAliveMs: number | null
  /** The first `Retry-After`. */
  retryAfter: string | null
  /** The whole head, from which `headersOf` reads. */
  text: string
}

/**
 * A status line and header lines as RFC 9112 writes them, and nothing else: no bare CR or LF, no folded lines, no space before
 * a colon, no control characters. What parsers are known to read in different ways is refused rather than repaired.
 */
const HEAD =
  /^HTTP\/1\.[01] [1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*)*$/

/** 15 digits: beyond them numbers lose exactness, and no answer is a petabyte long. */
const LENGTH = /^[0-9]{1,15}$/

/**
 * Reads a head, without the empty line at its end (Latin-1). Null where it is not one, or where it tells the end of its body
 * in more than one way: two lengths, a length beside `Transfer-Encoding`, a coding other than `chunked`.
 */
export function parseHead(text: string): ResponseHead | null {
  if (!HEAD.test(text)) return null
  const statusCode = Number(text.slice(9, 12))
  let persistent = text.charCodeAt(7) === 0x31
  let length: string | null = null
  let coding: string | null = null
  let keepAliveMs: number | null = null
  let retryAfter: string | null = null
  for (let [at, end] = lineAfter(text, 0); at >= 0; [at, end] = lineAfter(text, end)) {
    const colon = text.indexOf(':', at)
    const name = text.slice(at, colon).toLowerCase()
    switch (name) {
      case 'content-length':
        if (length !== null) return null
        length = text.slice(colon + 1, end).trim()
        break
      case 'transfer-encoding':
        if (coding !== null) return null
        coding = text
          .slice(colon + 1, end)
          .trim()
          .toLowerCase()
        break
      case 'connection':
        persistent = persists(text.slice(colon + 1, end), persistent)
        break
      case 'keep-alive':
        keepAliveMs ??= timeoutMs(text.slice(colon + 1, end))
        break
      case 'retry-after':
        retryAfter ??= text.slice(colon + 1, end).trim()
        break
    }
  }
  const framing = framingOf(statusCode, length, coding)
  if (framing === null) return null
  return { statusCode, framing, persistent: persistent && framing.kind !== 'close', keepAliveMs, retryAfter, text }
}

/** All headers, lower-cased; a repeated one is joined by `, ` (RFC 9110 section 5.3). */
export function headersOf({ text }: ResponseHead): Record<string, string> {
  const headers: Record<string, string> = {}
  for (let [at, end] = lineAfter(text, 0); at >= 0; [at, end] = lineAfter(text, end)) {
    const colon = text.indexOf(':', at)
    const name = text.slice(at, colon).toLowerCase()
    if (name === '__proto__') continue
    const value = text.slice(colon + 1, end).trim()
    headers[name] = Object.hasOwn(headers, name) ? `${headers[name]}, ${value}` : value
  }
  return headers
}

/** Where the next line begins and ends; -1 where there is none. */
function lineAfter(text: string, from: number): [start: number, end: number] {
  const lineEnd = text.indexOf('\r\n', from)
  if (lineEnd < 0) return [-1, -1]
  const next = text.indexOf('\r\n', lineEnd + 2)
  return [lineEnd + 2, next < 0 ? text.length : next]
}

function framingOf(statusCode: number, length: string | null, coding: string | null): BodyFraming | null {
  if (length !== null && (coding !== null || !LENGTH.test(length))) return null
  if (coding !== null && coding !== 'chunked') return null
  if (statusCode < 200 || statusCode === 204 || statusCode === 304) return { kind: 'length', bytes: 0 }
  if (coding !== null) return { kind: 'chunked' }
  return length === null ? { kind: 'close' } : { kind: 'length', bytes: Number(length) }
}

function persists(value: string, otherwise: boolean): boolean {
  const options = value.toLowerCase().split(',')
  if (options.some((option) => option.trim() === 'close')) return false
  return otherwise || options.some((option) => option.trim() === 'keep-alive')
}

function timeoutMs(value: string): number | null {
  const seconds = /(?:^|[,;\s])timeout\s*=\s*"?(\d{1,6})/i.exec(value)?.[1]
  return seconds === undefined ? null : Number(seconds) * 1_000
}
