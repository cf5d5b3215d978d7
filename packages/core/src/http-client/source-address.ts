import { isIP } from 'node:net'
import { PosthasteError } from '../errors.ts'

/** The addresses of this machine that connections begin at, by family; of a family without one, none is opened. */
export type SourceAddresses = ReadonlyMap<number, string>

/**
 * One address, or one of each family.
 *
 * @throws PosthasteError CONFIG_INVALID
 */
export function parseSourceAddresses(option: string | readonly string[] | undefined): SourceAddresses | null {
  if (option === undefined) return null
  const addresses = new Map<number, string>()
  for (const address of typeof option === 'string' ? [option] : option) {
    const family = isIP(address)
    if (family === 0 || addresses.has(family)) throw invalid()
    addresses.set(family, address)
  }
  if (addresses.size === 0) throw invalid()
  return addresses
}

function invalid(): PosthasteError {
  return new PosthasteError(
    'CONFIG_INVALID',
    "http.localAddress must be an IP address of this machine such as '10.0.0.5', or a list of one IPv4 and one IPv6 address.",
  )
}
