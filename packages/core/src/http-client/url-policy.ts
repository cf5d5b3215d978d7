import type { AddressPolicy } from './address-guard.ts'
import { parseIpAddress } from './ip-address.ts'
import type { Lookup, LookupAddress } from './name-lookup.ts'

/** The normalised URL (for use, not to show: owners see what they typed), or why not, without echoing credentials. */
export type UrlVerdict = { ok: true; url: string } | { ok: false; message: string }

/** In characters, as the owner typed it (the contract). */
export const MAX_URL_LENGTH = 2_048

/** A URL may wait this long for its name to be looked up while an endpoint is created, in ms. */
export const CREATION_LOOKUP_TIMEOUT_MS = 3_000

/**
 * What can be said of an endpoint's URL without asking a name server: absolute https (or http where the policy allows
 * it), no credentials, no fragment, at most 2,048 characters, a host that is not an address outside the public
 * internet in whatever form it is written (the WHATWG parser turns octal, hex, decimal, percent-encoded and full-width
 * forms into plain ones), and a host and port that the policy allows. Text that parsers are known to read in
 * different ways (white space, backslashes, missing slashes) is refused rather than repaired.
 */
export function checkEndpointUrl(url: string, policy: AddressPolicy): UrlVerdict {
  const parsed = parseEndpointUrl(url, policy)
  return typeof parsed === 'string' ? { ok: false, message: parsed } : { ok: true, url: parsed.href }
}

/**
 * As `checkEndpointUrl`, and looks the name up: refused when any of its addresses is refused. A name that has no
 * answer yet, or none within `timeoutMs` (default 3,000), is accepted; every send checks again.
 */
export async function checkEndpointUrlResolved(
  url: string,
  policy: AddressPolicy,
  lookup: Lookup,
  timeoutMs: number = CREATION_LOOKUP_TIMEOUT_MS,
): Promise<UrlVerdict> {
  const parsed = parseEndpointUrl(url, policy)
  if (typeof parsed === 'string') return { ok: false, message: parsed }
  const accepted: UrlVerdict = { ok: true, url: parsed.href }
  if (parseIpAddress(parsed.hostname) !== null) return accepted
  const refusal = refusalOfAnswers(await answersWithin(parsed.hostname, lookup, timeoutMs), policy)
  return refusal === null ? accepted : { ok: false, message: `The host ${parsed.hostname} ${refusal}.` }
}

/** Why a name with these addresses may not be reached ("has an address that is private (RFC 1918)"), or null. */
export function refusalOfAnswers(answers: readonly LookupAddress[], policy: AddressPolicy): string | null {
  for (const { address } of answers) {
    const verdict = policy.checkAddress(address)
    if (!verdict.allowed) return `has an address that ${verdict.reason}`
  }
  return null
}

async function answersWithin(hostname: string, lookup: Lookup, timeoutMs: number): Promise<readonly LookupAddress[]> {
  let timer: NodeJS.Timeout | undefined
  const noAnswer = new Promise<readonly LookupAddress[]>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, [])
  })
  try {
    return await Promise.race([lookup(hostname), noAnswer])
  } catch {
    return []
  } finally {
    clearTimeout(timer)
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const UNSAFE_CHARACTERS = /[\u0000-\u0020\u007f\\]/

/** The URL, or the sentence that says what is wrong with it. */
export function parseEndpointUrl(url: string, policy: AddressPolicy): URL | string {
  if (url.length > MAX_URL_LENGTH) return `The URL must have at most ${MAX_URL_LENGTH} characters, not ${url.length}.`
  if (UNSAFE_CHARACTERS.test(url)) return 'The URL must not contain white space, control characters or backslashes.'
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase()
  if (scheme === undefined) return 'The URL must be absolute and begin with https://.'
  if (scheme === 'http' && !policy.allowHttp) return 'The URL must begin with https://; plain http is not allowed here.'
  if (scheme !== 'https' && scheme !== 'http') return 'The URL must begin with https://.'
  const authority = /^[a-z]+:\/\/([^/?#]+)/i.exec(url)?.[1]
  if (authority === undefined) return `The URL must begin with ${scheme}:// and a host.`
  if (authority.includes('@')) return 'The URL must not contain credentials; use a custom header instead.'
  if (url.includes('#')) return 'The URL must not have a fragment (#…); it is never sent.'
  if (/^\[[^\]]*%/.test(authority)) return 'The host must not be an IPv6 address with a zone id.'
  const parsed = URL.parse(url)
  if (parsed === null) return 'The URL is malformed; check its host and port.'
  return refusalOfParsed(parsed, policy) ?? parsed
}

function refusalOfParsed(parsed: URL, policy: AddressPolicy): string | null {
  const { hostname } = parsed
  if (hostname.length > 253) return 'The host must have at most 253 characters (RFC 1035).'
  if (hostname.endsWith('.') || hostname.startsWith('.') || hostname.includes('..'))
    return 'The host must not begin or end with a dot, or have an empty part.'
  const host = policy.checkHost(hostname)
  if (!host.allowed) return `The host ${hostname} ${host.reason}.`
  const portNumber = portOf(parsed)
  const port = policy.checkPort(portNumber)
  if (!port.allowed) return `The port ${portNumber} ${port.reason}.`
  if (parseIpAddress(hostname) !== null) {
    const address = policy.checkAddress(hostname)
    return address.allowed ? null : `The host ${hostname} ${address.reason}.`
  }
  return isLocalName(hostname) && !allowsLoopback(policy) ? `The host ${hostname} is this machine (RFC 6761).` : null
}

function isLocalName(hostname: string): boolean {
  return hostname === 'localhost' || hostname.endsWith('.localhost')
}

function allowsLoopback(policy: AddressPolicy): boolean {
  return policy.checkAddress('127.0.0.1').allowed || policy.checkAddress('::1').allowed
}

/** The port that a URL means, its scheme's own included. */
export function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port)
  return url.protocol === 'https:' ? 443 : 80
}
