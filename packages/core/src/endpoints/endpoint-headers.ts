/** The custom headers that an endpoint's owner may add to every request, and how their values stay secret. */
import type { FieldError } from '../errors.ts'

/** From the contract. */
export const MAX_HEADERS = 20

/** In characters. Receivers commonly refuse request heads above 8 KiB, and 20 of these would already be more. */
const MAX_NAME_LENGTH = 100
const MAX_VALUE_LENGTH = 2_048

/** What answers show in place of a value; sent back, it means "as it is". */
export const REDACTED = '***'

/** A `token` of RFC 9110, 5.6.2. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** A `field-value` of RFC 9110, 5.5, without the obsolete bytes above ASCII: no white space at its ends. */
const VALUE = /^([\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?)?$/

/**
 * Names that an owner may not set: what every request of ours carries, what describes its body or its connection (RFC 9110,
 * 7.6.1; `keep-alive` and the `proxy-` ones from RFC 2068), and `Host`.
 */
const RESERVED_NAMES = new Set([
  'accept-encoding',
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'user-agent',
])

/** The signature's headers and those of Standard Webhooks, and whatever else we may add under their prefixes. */
const RESERVED_PREFIXES = ['x-webhook-', 'webhook-']

/** What is wrong with a set of headers; paths begin at `headers`. */
export function headerErrors(headers: Readonly<Record<string, string>>): FieldError[] {
  const errors: FieldError[] = []
  const names = Object.keys(headers)
  if (names.length > MAX_HEADERS) {
    errors.push({
      path: 'headers',
      message: `At most ${MAX_HEADERS} custom headers are possible, not ${names.length}.`,
    })
  }
  const seen = new Set<string>()
  for (const name of names.slice(0, MAX_HEADERS)) {
    const problem = nameProblem(name) ?? valueProblem(headers[name] ?? '')
    if (problem !== null) errors.push({ path: `headers.${name.slice(0, MAX_NAME_LENGTH)}`, message: problem })
    const lower = name.toLowerCase()
    if (seen.has(lower)) errors.push({ path: `headers.${name}`, message: 'The same header is named twice.' })
    seen.add(lower)
  }
  return errors
}

function nameProblem(name: string): string | null {
  if (!NAME.test(name) || name.length > MAX_NAME_LENGTH) {
    return `A header's name is 1 to ${MAX_NAME_LENGTH} letters, digits or !#$%&'*+-.^_\`|~ (RFC 9110).`
  }
  const lower = name.toLowerCase()
  if (RESERVED_NAMES.has(lower) || RESERVED_PREFIXES.some((prefix) => lower.startsWith(prefix))) {
    return 'This header is set by the sender, or belongs to the connection, and cannot be changed.'
  }
  return null
}

function valueProblem(value: string): string | null {
  if (value.length > MAX_VALUE_LENGTH) return `A header's value has at most ${MAX_VALUE_LENGTH} characters.`
  if (!VALUE.test(value)) return "A header's value is printable ASCII without white space at its ends (RFC 9110)."
  return null
}

export type MergedHeaders = { headers: Record<string, string>; errors: FieldError[] }

/**
 * The headers to store: those given, where a redacted value keeps the stored one of the same name (in any case). A redacted
 * value with nothing to keep is an error.
 */
export function mergeHeaders(
  given: Readonly<Record<string, string>>,
  stored: Readonly<Record<string, string>>,
): MergedHeaders {
  const storedByName = new Map(Object.entries(stored).map(([name, value]) => [name.toLowerCase(), value]))
  const errors: FieldError[] = []
  const entries: [string, string][] = []
  for (const [name, value] of Object.entries(given)) {
    const kept = value === REDACTED ? storedByName.get(name.toLowerCase()) : value
    if (kept === undefined) {
      errors.push({
        path: `headers.${name}`,
        message: `${REDACTED} stands for a value that is not shown, and there is none to keep.`,
      })
    } else {
      entries.push([name, kept])
    }
  }
  return { headers: Object.fromEntries(entries), errors }
}

/** The headers as answers show them: names only. */
export function redactHeaders(names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, REDACTED]))
}
