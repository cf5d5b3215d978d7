import { type Clock, systemClock } from '../clock.ts'
import { PosthasteError } from '../errors.ts'
import type { AddressPolicy } from './address-guard.ts'
import { ConnectionPool, type Origin } from './connection-pool.ts'
import { createConnector } from './connector.ts'
import { Deadlines } from './deadlines.ts'
import { Exchange } from './exchange.ts'
import { fullSystemLookup, type Lookup, systemLookup } from './name-lookup.ts'
import { createEgressProxy, type ProxyOptions } from './proxy.ts'
import { type ProxyChange, ProxyHealth } from './proxy-health.ts'
import { requestBytes, requestStart } from './request-bytes.ts'
import { parseSourceAddresses } from './source-address.ts'
import { TlsIdentities, type TlsIdentity, type TlsOptions } from './tls-identity.ts'
import type { OutboundRequest, OutboundResult, Transport } from './transport.ts'
import { TransportFailure } from './transport-failure.ts'
import { MAX_URL_LENGTH, parseEndpointUrl, portOf } from './url-policy.ts'

export interface HttpTransportOptions {
  /** What may be reached. Asked for every URL and for every address at every connect. */
  policy: AddressPolicy
  /** Measures the timings. Deadlines are kept in real time whatever clock this is. Default: the system's. */
  clock?: Clock
  /** Resolves host names. Default: the operating system's resolver. */
  lookup?: Lookup
  /** Connections to one origin at once; further requests wait within their deadlines. Default 50. */
  connectionsPerOrigin?: number
  /** Idle connections of all origins together; beyond it the longest idle are closed. Default 1,000. */
  maxIdleConnections?: number
  /**
   * For how long an idle connection stays open, in ms; a receiver that asks for less by `Keep-Alive: timeout=…` gets
   * that. Default 4,000: common servers close after 5 s (Node's `keepAliveTimeout`), and we should be the first.
   */
  keepAliveMs?: number
  /** Default: Node's own authorities, no client certificate, TLS 1.2 or newer. */
  tls?: TlsOptions & {
    /** Default true. False accepts any certificate and is for tests alone. */
    rejectUnauthorized?: boolean
  }
  /** An egress proxy, as a URL or with more to say. Default: none; environment variables are not read. */
  proxy?: string | ProxyOptions
  /** Told when the proxy goes down, after each failed probe, and when it works again. */
  onProxyChange?: (change: ProxyChange) => void
  /** Where connections begin: an address of this machine, or one of each family. Default: wherever the system says. */
  localAddress?: string | readonly string[]
}

/** Where a URL leads; kept, since the same endpoint is sent to again and again. */
type Target = { origin: Origin; path: string } | { refusal: string }

/** URLs whose parts are remembered. A burst to more of them than this parses each again, which costs microseconds. */
const MAX_TARGETS = 10_000

/**
 * The production transport: HTTP/1.1 on sockets of our own, one connection per request at a time.
 *
 * - One deadline covers look-up, connect, TLS, request and response; what is not over by then ends as the error of the
 *   stage that it was in (`DNS_FAILED`, `CONNECT_TIMEOUT`, `TLS_FAILED`, `TIMEOUT`), also where it waited for a free
 *   connection (`TIMEOUT`).
 * - A complete head decides: `send` resolves at the head of a 2xx (with `keepResponse` after its body), and for others
 *   with as much of the body as came, up to 16 KiB, until it ended, failed or the deadline passed.
 * - Redirects are never followed, bodies never decompressed (`content-encoding` is among the headers then).
 * - `timings.firstByte` counts from the moment the request was written; `dns`, `connect` and `tls` are the durations of
 *   this request's own connect.
 * - Framing is the transport's: `Content-Length`, `Transfer-Encoding`, `Connection`, `Host` and other headers of the hop
 *   are left out of what the caller gives and made from URL and body.
 *
 * - Connections to one origin under different TLS settings are never shared.
 *
 * Throws `CONFIG_INVALID` for limits that are not positive whole numbers, and for a proxy, TLS settings or a source address
 * that cannot be used.
 */
export function createHttpTransport(options: HttpTransportOptions): Transport {
  const clock = options.clock ?? systemClock
  const deadlines = new Deadlines<Exchange>()
  const targets = new Map<string, Target>()
  const identities = new TlsIdentities(options.tls)
  const proxy = options.proxy === undefined ? null : createEgressProxy(options.proxy)
  const proxyHealth = new ProxyHealth(clock, options.onProxyChange ?? (() => {}))
  const pool = new ConnectionPool({
    connect: createConnector({
      policy: options.policy,
      lookup: options.lookup ?? systemLookup,
      proxyLookup: options.lookup ?? fullSystemLookup,
      clock,
      proxy,
      proxyHealth,
      sources: parseSourceAddresses(options.localAddress),
      rejectUnauthorized: options.tls?.rejectUnauthorized ?? true,
    }),
    clock,
    connectionsPerOrigin: requirePositive('connectionsPerOrigin', options.connectionsPerOrigin ?? 50),
    maxIdleConnections: requirePositive('maxIdleConnections', options.maxIdleConnections ?? 1_000),
    keepAliveMs: requirePositive('keepAliveMs', options.keepAliveMs ?? 4_000),
  })
  let closed = false

  /** Origins that were found acceptable, by the text that a URL begins with. */
  const origins = new Map<string, Origin>()

  function targetOf(url: string): Target {
    const target = knownOrigin(url) ?? targets.get(url)
    return target ?? parseAndRemember(url)
  }

  function parseAndRemember(url: string): Target {
    const target = parseTarget(url, options.policy, identities)
    if ('origin' in target) rememberOrigin(url, target.origin)
    if (targets.size >= MAX_TARGETS) targets.clear()
    targets.set(url, target)
    return target
  }

  /** Spares the parsing, 15 µs, where the origin is known and the path is what parsing would make of it. */
  function knownOrigin(url: string): Target | null {
    const slash = url.indexOf('/', 8)
    if (slash < 0) return null
    const origin = origins.get(url.slice(0, slash))
    if (origin === undefined) return null
    const path = url.slice(slash)
    return url.length <= MAX_URL_LENGTH && PLAIN_PATH.test(path) && !path.includes('/.') ? { origin, path } : null
  }

  function rememberOrigin(url: string, origin: Origin): void {
    const slash = url.indexOf('/', 8)
    // That slash may belong to a query: `https://example.com?to=a/b` has no path.
    if (slash < 0 || url.slice(0, slash).includes('?')) return
    if (origins.size >= MAX_TARGETS) origins.clear()
    origins.set(url.slice(0, slash), origin)
  }

  function send(request: OutboundRequest): Promise<OutboundResult> {
    if (closed) return refusedResult(CLOSED)
    if (!(request.deadlineMs > 0 && request.deadlineMs < Number.POSITIVE_INFINITY)) return refusedResult(BAD_DEADLINE)
    const target = targetOf(request.url)
    if ('refusal' in target) return refusedResult(new TransportFailure('ADDRESS_REFUSED', target.refusal))
    let bytes: Buffer
    try {
      bytes = requestBytes(requestStart(target.path, target.origin.host), request.headers, request.body)
    } catch (error) {
      if (error instanceof TransportFailure) return refusedResult(error)
      throw error
    }
    const exchange = new Exchange(request, bytes, clock, deadlines)
    const { origin } = target
    if (proxy?.carries(origin.hostname)) proxyHealth.began()
    if (origin.tls === null || options.tls?.forEndpoint === undefined) pool.carry(origin, exchange)
    else carryAsItself(origin, request, exchange)
    return exchange.result
  }

  /** As whom, and trusting whom, the host says of this receiver. */
  function carryAsItself(origin: Origin, request: OutboundRequest, exchange: Exchange): void {
    const { hostname, port } = origin
    const { endpointId = null, account = null } = request
    try {
      carryAs(identities.of({ endpointId, account, hostname, port }), origin, exchange)
    } catch (error) {
      exchange.fail(error as TransportFailure)
    }
  }

  function carryAs(identity: Promise<TlsIdentity> | TlsIdentity, origin: Origin, exchange: Exchange): void {
    if (!(identity instanceof Promise)) {
      pool.carry(
        identity.key === '' ? origin : { ...origin, tls: identity, key: `${origin.key} ${identity.key}` },
        exchange,
      )
      return
    }
    exchange.awaitsTlsSettings = true
    identity.then(
      (settled) => {
        exchange.awaitsTlsSettings = false
        // Its deadline may have passed, or the transport may have been closed.
        if (exchange.isWaiting) carryAs(settled, origin, exchange)
      },
      (error: unknown) => exchange.fail(error as TransportFailure),
    )
  }

  async function close(): Promise<void> {
    closed = true
    for (const exchange of deadlines.members()) exchange.fail(CLOSED)
    await pool.close()
  }

  function heldMs(url: string): number {
    const heldMs = proxyHealth.heldMs()
    if (heldMs === 0) return 0
    const target = targetOf(url)
    return 'origin' in target && proxy?.carries(target.origin.hostname) ? heldMs : 0
  }

  return { send, close, heldMs }
}

/** Characters that the URL standard leaves alone in paths and queries; dot segments are looked for apart. */
const PLAIN_PATH = /^[A-Za-z0-9_\-./?=&~:@,;+$!*()]*$/

const CLOSED = new TransportFailure('SEND_FAILED', 'The transport was closed.')
const BAD_DEADLINE = new TransportFailure('SEND_FAILED', 'deadlineMs must be a positive number.')

function refusedResult(failure: TransportFailure): Promise<OutboundResult> {
  return Promise.resolve({
    kind: 'error',
    code: failure.code,
    message: failure.message,
    staleConnection: false,
    timings: { dns: null, connect: null, tls: null, firstByte: null, total: 0 },
  })
}

function parseTarget(url: string, policy: AddressPolicy, identities: TlsIdentities): Target {
  const parsed = parseEndpointUrl(url, policy)
  if (typeof parsed === 'string') return { refusal: parsed }
  const { host, hostname, origin, pathname, search, protocol } = parsed
  return {
    origin: {
      key: origin,
      host,
      hostname: hostname.startsWith('[') ? hostname.slice(1, -1) : hostname,
      port: portOf(parsed),
      tls: protocol === 'https:' ? identities.common() : null,
    },
    path: pathname + search,
  }
}

function requirePositive(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 1)
    throw new PosthasteError('CONFIG_INVALID', `${name} must be a whole number of at least 1, not ${value}.`)
  return value
}
