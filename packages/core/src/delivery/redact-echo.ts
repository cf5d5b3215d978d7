import type { OutboundResult } from '../http-client/transport.ts'

/** Shorter ones keep nothing secret, and would be found in every text. */
const SHORTEST = 4
/** Of a word within a value: `Bearer` is none. */
const SHORTEST_WORD = 8
const REDACTED = '***'

/**
 * What a receiver answered, without the values of the endpoint's custom headers: receivers that are being debugged send back
 * what they got, and answers are kept in the clear. Found are a value, each of its words (the token of `Bearer …`), and both as
 * they stand in JSON and in URLs; also where the end of the excerpt has cut one off. What a receiver encodes in another way is
 * not.
 */
export function redactEcho(
  result: OutboundResult,
  headers: ReadonlyArray<readonly [name: string, value: string]>,
): OutboundResult {
  if (headers.length === 0 || result.kind === 'error') return result
  if (result.excerpt === null && Object.keys(result.headers).length === 0) return result
  const echoes = echoesOf(headers.map(([, value]) => value))
  if (echoes.length === 0) return result
  const clean = (text: string) => echoes.reduce((rest, echo) => rest.replaceAll(echo, REDACTED), text)
  return {
    ...result,
    headers: Object.fromEntries(Object.entries(result.headers).map(([name, value]) => [name, clean(value)])),
    excerpt: result.excerpt === null ? null : withoutBeginning(clean(result.excerpt), echoes),
  }
}

/** Longest first, so that no part of one is left behind by another. */
function echoesOf(values: readonly string[]): string[] {
  const found = new Set<string>()
  for (const value of values) {
    const words = value.split(/[\t ]+/).filter((word) => word.length >= SHORTEST_WORD)
    for (const part of value.length < SHORTEST ? [] : [value, ...words]) {
      for (const form of [part, JSON.stringify(part).slice(1, -1), encodeURIComponent(part)]) found.add(form)
    }
  }
  return [...found].toSorted((a, b) => b.length - a.length)
}

/** Without the beginning of a value at the end of the text. */
function withoutBeginning(text: string, echoes: readonly string[]): string {
  for (const echo of echoes) {
    for (let length = echo.length - 1; length >= SHORTEST; length--) {
      if (text.endsWith(echo.slice(0, length))) return text.slice(0, -length) + REDACTED
    }
  }
  return text
}
