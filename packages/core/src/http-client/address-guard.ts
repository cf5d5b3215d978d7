import { PosthasteError } from '../errors.ts'
import { type Cidr, cidrContains, type IpBytes, parseCidr, parseIpAddress } from './ip-address.ts'

/** What an installation lets its endpoints reach. The defaults are for production; development needs one or two. */
export interface AddressPolicyOptions {
  /** Also plain `http:`. Signed bodies then travel in the clear. Default false. */
  allowHttp?: boolean
  /**
   * Blocks that are reachable although they are not public, e.g. `['127.0.0.0/8', '::1/128']` while developing. A name
   * is reachable only if all of its addresses are. Default `[]`.
   */
  allowedCidrs?: readonly string[]
  /**
   * Blocks that are not reachable although they are public, by whatever name: addresses of your own that lead inwards, the
   * prefix of a NAT64 of your own (RFC 6052). Wins over `allowedCidrs`. Default `[]`.
   */
  deniedCidrs?: readonly string[]
  /** The only ports that may be reached; null for any. Default null. */
  allowedPorts?: readonly number[] | null
  /**
   * The only hosts that may be reached: `hooks.example.com`, or `*.example.com` for every name below it (not itself);
   * null for any. Their addresses must still be public or in `allowedCidrs`. Default null.
   */
  allowedHosts?: readonly string[] | null
  /**
   * Hosts that may not be reached, written as in `allowedHosts`, over which it wins. What they resolve to can still be reached by
   * another name: see `deniedCidrs`. Default `[]`.
   */
  deniedHosts?: readonly string[]
}

/** Allowed, or why not: a clause that goes on from "…because it" or "the host", and names no resolved address. */
export type Verdict = { allowed: true } | { allowed: false; reason: string }

/** Decides what may be reached. Made once by `createAddressPolicy`, asked for every endpoint URL and at every connect. */
export interface AddressPolicy {
  readonly allowHttp: boolean
  /** An IP address in any textual or binary form; what is not an address is refused. */
  checkAddress(address: string | Uint8Array): Verdict
  /** A host as `URL.hostname` gives it. Says nothing about its addresses. */
  checkHost(hostname: string): Verdict
  checkPort(port: number): Verdict
}

/**
 * What is not public, from the IANA IPv4 Special-Purpose Address Registry (RFC 6890, as updated) where "Globally
 * Reachable" is false, the multicast block of RFC 5771 and, last, the one address in public space by which a cloud
 * platform serves its own virtual machines (Azure's documentation, "What is IP address 168.63.129.16?"). The services
 * `169.254.169.254` (AWS, Azure, GCP and others), `100.100.100.200` (Alibaba) and `192.0.0.192` (Oracle) lie within
 * blocks that are listed anyway.
 */
const REFUSED_IPV4: ReadonlyArray<readonly [cidr: string, reason: string]> = [
  ['0.0.0.0/8', 'is of "this network" (RFC 791)'],
  ['10.0.0.0/8', 'is private (RFC 1918)'],
  ['100.64.0.0/10', 'is shared by a carrier-grade NAT (RFC 6598)'],
  ['127.0.0.0/8', 'is loopback (RFC 1122)'],
  ['169.254.0.0/16', 'is link-local, where cloud metadata lives (RFC 3927)'],
  ['172.16.0.0/12', 'is private (RFC 1918)'],
  ['192.0.0.0/24', 'is reserved for protocol assignments (RFC 6890)'],
  ['192.0.2.0/24', 'is for documentation (RFC 5737)'],
  ['192.88.99.0/24', 'is of the deprecated 6to4 relays (RFC 7526)'],
  ['192.168.0.0/16', 'is private (RFC 1918)'],
  ['198.18.0.0/15', 'is for benchmarking (RFC 2544)'],
  ['198.51.100.0/24', 'is for documentation (RFC 5737)'],
  ['203.0.113.0/24', 'is for documentation (RFC 5737)'],
  ['224.0.0.0/4', 'is multicast (RFC 5771)'],
  ['255.255.255.255/32', 'is broadcast (RFC 919)'],
  ['240.0.0.0/4', 'is reserved (RFC 1112)'],
  ['168.63.129.16/32', 'is the metadata address of a cloud platform'],
]

/**
 * As above, from the IANA IPv6 Special-Purpose Address Registry. `2001::/23` is refused whole, with the few addresses
 * in it that are globally reachable: they are anycast services of protocols, none is a web server. Blocks that embed an
 * IPv4 address are refused whole too, even around a public one: a receiver has no reason to be reached that way, and
 * NAT64, 6to4 and Teredo gateways would carry the request to private ones.
 */
const REFUSED_IPV6: ReadonlyArray<readonly [cidr: string, reason: string]> = [
  ['::/128', 'is unspecified (RFC 4291)'],
  ['::1/128', 'is loopback (RFC 4291)'],
  ['::ffff:0:0/96', 'is an IPv4-mapped address (RFC 4291)'],
  ['::/96', 'is an IPv4-compatible address (RFC 4291)'],
  ['::ffff:0:0:0/96', 'is an IPv4-translated address (RFC 2765)'],
  ['64:ff9b::/96', 'is translated by NAT64 (RFC 6052)'],
  ['64:ff9b:1::/48', 'is translated by a local NAT64 (RFC 8215)'],
  ['100::/64', 'is discard-only (RFC 6666)'],
  ['100:0:0:1::/64', 'is a dummy prefix (RFC 9780)'],
  ['2001::/32', 'is a Teredo tunnel (RFC 4380)'],
  ['2001:2::/48', 'is for benchmarking (RFC 5180)'],
  ['2001:10::/28', 'is an ORCHID (RFC 4843)'],
  ['2001:20::/28', 'is an ORCHIDv2 (RFC 7343)'],
  ['2001::/23', 'is reserved for protocol assignments (RFC 2928)'],
  ['2001:db8::/32', 'is for documentation (RFC 3849)'],
  ['2002::/16', 'is a 6to4 tunnel (RFC 3056)'],
  ['3fff::/20', 'is for documentation (RFC 9637)'],
  ['5f00::/16', 'is a segment-routing identifier (RFC 9602)'],
  ['fc00::/7', 'is private (unique local, RFC 4193)'],
  ['fe80::/10', 'is link-local (RFC 4291)'],
  ['fec0::/10', 'is site-local (RFC 3879)'],
  ['ff00::/8', 'is multicast (RFC 4291)'],
]

/** IANA hands out global unicast addresses from this block alone (IANA IPv6 Address Space registry, RFC 4291 2.4). */
const GLOBAL_UNICAST = requireCidr('2000::/3')

const REFUSED = [...REFUSED_IPV4, ...REFUSED_IPV6].map(([cidr, reason]) => ({ cidr: requireCidr(cidr), reason }))

const ALLOWED: Verdict = { allowed: true }

/** Why the address is not public, as a clause ("is private (RFC 1918)"), or null where it is public. */
export function refusalOfAddress(address: string | Uint8Array): string | null {
  const bytes = parseIpAddress(address)
  return bytes === null ? NOT_AN_ADDRESS : refusalOfBytes(bytes)
}

/** Whether the address, in any textual or binary form, is one that the public internet routes to a host. */
export function isPublicAddress(address: string | Uint8Array): boolean {
  return refusalOfAddress(address) === null
}

const NOT_AN_ADDRESS = 'is not an IP address'

function refusalOfBytes(bytes: IpBytes): string | null {
  for (const { cidr, reason } of REFUSED) if (cidrContains(cidr, bytes)) return reason
  return bytes.length === 16 && !cidrContains(GLOBAL_UNICAST, bytes) ? 'is not global unicast (RFC 4291)' : null
}

/** Compiles the options once. Throws `CONFIG_INVALID` for what cannot mean anything (a malformed block, port or host). */
export function createAddressPolicy(options: AddressPolicyOptions = {}): AddressPolicy {
  const { allowHttp = false } = options
  // `process.env.ALLOW_HTTP` is text, of which 'false' would be true.
  if (typeof allowHttp !== 'boolean') throw new PosthasteError('CONFIG_INVALID', 'allowHttp must be true or false.')
  for (const option of LISTS) requireList(options[option], option)
  const allowedCidrs = (options.allowedCidrs ?? []).map((block) => requireCidr(block))
  const deniedCidrs = (options.deniedCidrs ?? []).map((block) => requireCidr(block, 'deniedCidrs'))
  const allowedPorts = options.allowedPorts == null ? null : new Set(options.allowedPorts.map(requirePort))
  const allowedHosts = options.allowedHosts == null ? null : options.allowedHosts.map(hostMatcher)
  const deniedHosts = (options.deniedHosts ?? []).map(hostMatcher)
  return {
    allowHttp,
    checkAddress(address) {
      const bytes = parseIpAddress(address)
      if (bytes === null) return { allowed: false, reason: NOT_AN_ADDRESS }
      if (deniedCidrs.some((cidr) => cidrContains(cidr, bytes))) return { allowed: false, reason: 'is denied here' }
      if (allowedCidrs.some((cidr) => cidrContains(cidr, bytes))) return ALLOWED
      const reason = refusalOfBytes(bytes)
      return reason === null ? ALLOWED : { allowed: false, reason }
    },
    checkHost(hostname) {
      const host = hostname.toLowerCase()
      if (deniedHosts.some((matches) => matches(host))) return { allowed: false, reason: 'is denied here' }
      if (allowedHosts !== null && !allowedHosts.some((matches) => matches(host)))
        return { allowed: false, reason: 'is not among the hosts allowed here' }
      return ALLOWED
    },
    checkPort(port) {
      if (port === 0) return { allowed: false, reason: 'cannot be connected to' }
      if (allowedPorts !== null && !allowedPorts.has(port))
        return { allowed: false, reason: `is not among those allowed here (${[...allowedPorts].join(', ')})` }
      return ALLOWED
    },
  }
}

const LISTS = ['allowedCidrs', 'deniedCidrs', 'allowedPorts', 'allowedHosts', 'deniedHosts'] as const

function requireList(value: unknown, option: string): void {
  if (value === undefined || value === null || Array.isArray(value)) return
  throw new PosthasteError('CONFIG_INVALID', `${option} must be a list, not ${JSON.stringify(value)}.`)
}

function requireCidr(text: string, option = 'allowedCidrs'): Cidr {
  const cidr = parseCidr(text)
  if (cidr === null)
    throw new PosthasteError('CONFIG_INVALID', `Write ${option} like '127.0.0.0/8' or '::1/128', not '${text}'.`)
  return cidr
}

function requirePort(port: number): number {
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new PosthasteError('CONFIG_INVALID', `allowedPorts are whole numbers from 1 to 65535, not ${port}.`)
  return port
}

/** Normalised by the URL parser, so that case and international names compare as they arrive. */
export function hostMatcher(pattern: string): (host: string) => boolean {
  const wildcard = pattern.startsWith('*.')
  const name = wildcard ? pattern.slice(2) : pattern
  const hostname = /[\s/?#@\\]/.test(name) ? null : URL.parse(`http://${name}/`)
  if (hostname === null || hostname.port !== '' || hostname.hostname === '' || hostname.hostname.includes('*'))
    throw new PosthasteError('CONFIG_INVALID', `Write hosts like 'example.com' or '*.example.com', not '${pattern}'.`)
  const expected = hostname.hostname
  return wildcard ? (host) => host.endsWith(`.${expected}`) : (host) => host === expected
}
