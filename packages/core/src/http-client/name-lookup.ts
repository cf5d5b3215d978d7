import { lookup as askSystem, CANCELLED, Resolver, TIMEOUT } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface LookupAddress {
  address: string
  family: number
}

/** All addresses of a host name; rejects where it has none. `dns.promises.lookup(name, { all: true })` is one. */
export type Lookup = (hostname: string) => Promise<readonly LookupAddress[]>

export interface SystemLookupOptions {
  /** `address:port`. Default: the operating system's, as they are at each look-up. */
  servers?: readonly string[]
  /** Default: the operating system's. */
  hostsFile?: string
  /** Default: `getaddrinfo`. */
  askSystem?: Lookup
  /** Default 10,000. */
  giveUpAfterMs?: number
}

/**
 * As long as `getaddrinfo` waits for a silent name server. By itself c-ares goes on for half a minute, and a process cannot end
 * before.
 */
const GIVE_UP_AFTER_MS = 10_000

/**
 * All that the operating system knows, search domains and mDNS included, at the price of a thread for as long as it takes: for
 * names that the operator wrote, such as the proxy's.
 */
export const fullSystemLookup: Lookup = (hostname) => askSystem(hostname, { all: true, order: 'verbatim' })

/** Once one family is known, the other one has so long to answer (RFC 8305 section 3 has 50 ms, of name servers nearby), in ms. */
const OTHER_FAMILY_WITHIN_MS = 1_000

/**
 * Names with a dot are asked of the system's name servers by sockets, any number at the same time. `getaddrinfo` would occupy a
 * thread of libuv until the name server gives up, and two such threads are all that there are (four, of which slow work gets
 * half): four endpoints whose name servers are silent would keep every other name, Postgres' included, waiting for 20 s.
 *
 * `getaddrinfo` is still asked for what strangers have no name server for and it knows at once: names in the hosts file, names
 * without a dot, and those below `localhost`. What else it may know (search domains for names with a dot, mDNS) is not looked up.
 */
export function createSystemLookup(options: SystemLookupOptions = {}): Lookup {
  const hostsFile = options.hostsFile ?? systemHostsFile()
  const system = options.askSystem ?? fullSystemLookup
  return async (hostname) => {
    if (isOfThisMachine(hostname) || (await isInHostsFile(hostsFile, hostname))) return await system(hostname)
    return await askNameServers(hostname, options)
  }
}

/** The hosts file and the name servers of the operating system. */
export const systemLookup: Lookup = createSystemLookup()

function isOfThisMachine(hostname: string): boolean {
  return !hostname.includes('.') || hostname.endsWith('.localhost')
}

function systemHostsFile(): string {
  if (process.platform !== 'win32') return '/etc/hosts'
  return join(process.env.SystemRoot ?? 'C:\\Windows', 'System32', 'drivers', 'etc', 'hosts')
}

/** Read each time, as `getaddrinfo` does: it is small, and may change. */
async function isInHostsFile(file: string, hostname: string): Promise<boolean> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text.split('\n').some((line) => {
    const [, ...names] = (line.split('#', 1)[0] ?? '').trim().toLowerCase().split(/\s+/)
    return names.includes(hostname)
  })
}

/** IPv4 first: whether IPv6 leads anywhere is unknown here. A resolver of its own (50 µs) knows the servers of this moment. */
async function askNameServers(hostname: string, options: SystemLookupOptions): Promise<readonly LookupAddress[]> {
  const resolver = new Resolver()
  if (options.servers !== undefined) resolver.setServers(options.servers)
  const cancelIn = (ms: number) => setTimeout(() => resolver.cancel(), ms)
  let late = cancelIn(options.giveUpAfterMs ?? GIVE_UP_AFTER_MS)
  const ask = async (family: 4 | 6): Promise<LookupAddress[]> => {
    const found = await (family === 4 ? resolver.resolve4(hostname) : resolver.resolve6(hostname))
    clearTimeout(late)
    late = cancelIn(OTHER_FAMILY_WITHIN_MS)
    return found.map((address) => ({ address, family }))
  }
  const answers = await Promise.allSettled([ask(4), ask(6)])
  clearTimeout(late)
  const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
  const [first] = answers
  if (addresses.length === 0 && first.status === 'rejected') throw failureOf(first.reason)
  return addresses
}

/** What we cancelled was too late. */
function failureOf(reason: unknown): unknown {
  if ((reason as { code?: unknown }).code !== CANCELLED) return reason
  return Object.assign(new Error('no name server answered in time', { cause: reason }), { code: TIMEOUT })
}

/**
 * Lets look-ups of one name that run at the same time share one answer: a burst to one host would otherwise ask once for each
 * connection. An answer is never kept: the next connect looks up again.
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
