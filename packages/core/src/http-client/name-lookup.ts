import { lookup as systemResolve } from 'node:dns/promises'

export interface LookupAddress {
  address: string
  family: number
}

/** All addresses of a host name; rejects where it has none. `dns.promises.lookup(name, { all: true })` is one. */
export type Lookup = (hostname: string) => Promise<readonly LookupAddress[]>

/** The operating system's own answer, in its order of preference (RFC 6724), `/etc/hosts` included. */
export const systemLookup: Lookup = (hostname) => systemResolve(hostname, { all: true, order: 'verbatim' })

/**
 * Lets look-ups of one name that run at the same time share one answer: `getaddrinfo` occupies one of libuv's four
 * threads for as long as a name server takes, and a burst to one host would otherwise ask once for each connection. An
 * answer is never kept: the next connect looks up again.
 */
export function shareConcurrentLookups(lookup: Lookup): Lookup {
  const running = new Map<string, Promise<readonly LookupAddress[]>>()
  return (hostname) => {
    const shared = running.get(hostname)
    if (shared !== undefined) return shared
    // An async function, so that a look-up that throws at once rejects as well.
    const answer = (async () => lookup(hostname))().finally(() => running.delete(hostname))
    running.set(hostname, answer)
    return answer
  }
}
