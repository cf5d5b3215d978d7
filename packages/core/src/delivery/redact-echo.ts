import type { OutboundResult } from '../http-client/transport.ts'

/** Shorter ones keep nothing secret, and would be found in every text. */
const SHORTEST = 4
/** Of a word within a value: `Bearer` is none. */
const SHORTEST_WORD = 8
/**
 * Of one value; its longest, since a secret is. An owner chooses values and answers, and each word costs a search through the answer:
 * without a limit one failed attempt took 5 s of everybody's time.
 */
const MOST_WORDS = 8
const REDACTED = '***'
/** In no header's value, and in no text that Postgres takes. */
const SEPARATOR = '\u0000'

/**
 * What a receiver answered, without the values of the endpoint's custom headers: receivers that are being debugged send back
 * what they got, and answers are kept in the clear. Found are a value, each of its words (the token of `Bearer …`), and both as
 * they stand in JSON and in URLs (of a value of many words the longest eight); also where the end of the excerpt has cut one off. What a receiver encodes in another way is
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
  const names = Object.keys(result.headers)
  const [excerpt = '', ...values] = redactAll([result.excerpt ?? '', ...Object.values(result.headers)], echoes)
  return {
    ...result,
    headers: Object.fromEntries(names.map((name, index) => [name, values[index] ?? ''])),
    excerpt: result.excerpt === null ? null : withoutBeginning(excerpt, echoes),
  }
}

/** All texts at once: a receiver may answer thousands of small headers. */
function redactAll(texts: readonly string[], echoes: readonly string[]): string[] {
  const joined = texts.map((text) => text.replaceAll(SEPARATOR, '\ufffd')).join(SEPARATOR)
  return echoes.reduce((rest, echo) => rest.replaceAll(echo, REDACTED), joined).split(SEPARATOR)
}

/** Longest first, so that no part of one is left behind by another. */
function echoesOf(values: readonly string[]): string[] {
  const found = new Set<string>()
  for (const value of values) {
    const words = value
      .split(/[\t ]+/)
      .filter((word) => word.length >= SHORTEST_WORD)
      .toSorted((a, b) => b.length - a.length)
      .slice(0, MOST_WORDS)
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
