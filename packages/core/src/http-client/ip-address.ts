import { isIPv4, isIPv6 } from 'node:net'

/** An IP address as its bytes: 4 of IPv4, 16 of IPv6, in network order. */
export type IpBytes = Uint8Array

/**
 * The bytes of an IP address in any form that some resolver, URL parser or socket call takes for one: dotted IPv4, its
 * one- to four-part decimal, octal and hex forms (as `inet_aton` of POSIX.1-2024 reads them), IPv6 in every abbreviation
 * of RFC 4291 section 2.2, with or without brackets, and 4 or 16 raw bytes. Null for everything else, names and addresses with
 * a zone id (RFC 4007 section 11) included: a zone only has a meaning on this host.
 */
export function parseIpAddress(address: string | Uint8Array): IpBytes | null {
  if (typeof address !== 'string') return address.length === 4 || address.length === 16 ? address : null
  const text = address.startsWith('[') && address.endsWith(']') ? address.slice(1, -1) : address
  if (text.includes('%')) return null
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number)
  if (isIPv6(text)) return parseIpv6(text)
  return parseIpv4Number(text)
}

/** `isIPv6` has said that the text is well-formed. */
function parseIpv6(text: string): IpBytes {
  const bytes = new Uint8Array(16)
  const [head = '', tail] = text.split('::')
  const front = groupBytes(head)
  bytes.set(front, 0)
  if (tail !== undefined) {
    const back = groupBytes(tail)
    bytes.set(back, 16 - back.length)
  }
  return bytes
}

function groupBytes(groups: string): number[] {
  if (groups === '') return []
  return groups.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number)
    const value = Number.parseInt(group, 16)
    return [value >> 8, value & 0xff]
  })
}

const NUMBER_PART = /^(?:0[xX][0-9a-fA-F]*|\d+)$/

/** `2130706433`, `0x7f.1`, `0177.0.0.1`: each part but the last is one byte, the last fills what is left. */
function parseIpv4Number(text: string): IpBytes | null {
  const parts = (text.endsWith('.') ? text.slice(0, -1) : text).split('.')
  if (parts.length > 4 || !parts.every((part) => NUMBER_PART.test(part))) return null
  const values = parts.map(parsePart)
  const last = values.pop()
  if (last === undefined || Number.isNaN(last) || last >= 256 ** (4 - values.length)) return null
  const bytes = new Uint8Array(4)
  for (const [index, value] of values.entries()) {
    if (!(value <= 255)) return null
    bytes[index] = value
  }
  for (let index = 3, rest = last; index >= values.length; index--) {
    bytes[index] = rest % 256
    rest = Math.floor(rest / 256)
  }
  return bytes
}

function parsePart(part: string): number {
  if (/^0[xX]/.test(part)) return part.length === 2 ? 0 : Number.parseInt(part.slice(2), 16)
  if (part.length > 1 && part.startsWith('0')) return /^[0-7]+$/.test(part) ? Number.parseInt(part, 8) : Number.NaN
  return Number(part)
}

/** A block of addresses: those whose first `length` bits are those of `bytes`. */
export interface Cidr {
  bytes: IpBytes
  length: number
}

/** `10.0.0.0/8`, `fc00::/7`; an address alone is the block of itself. Null where it is not well-formed. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf('/')
  const address = slash === -1 ? text : text.slice(0, slash)
  if (!isIPv4(address) && !isIPv6(address)) return null
  const bytes = parseIpAddress(address)
  if (bytes === null) return null
  const suffix = slash === -1 ? String(bytes.length * 8) : text.slice(slash + 1)
  const length = /^\d{1,3}$/.test(suffix) ? Number(suffix) : Number.NaN
  return length <= bytes.length * 8 ? { bytes, length } : null
}

/** Whether the block holds the address; a block of one family never holds an address of the other. */
export function cidrContains(cidr: Cidr, address: IpBytes): boolean {
  if (cidr.bytes.length !== address.length) return false
  const wholeBytes = cidr.length >> 3
  for (let index = 0; index < wholeBytes; index++) if (cidr.bytes[index] !== address[index]) return false
  const bits = cidr.length & 7
  if (bits === 0) return true
  const mask = (0xff << (8 - bits)) & 0xff
  return ((cidr.bytes[wholeBytes] ?? 0) & mask) === ((address[wholeBytes] ?? 0) & mask)
}
