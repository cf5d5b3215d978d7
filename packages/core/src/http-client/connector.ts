import { isIP, type Socket } from 'node:net'
import { connect as connectTls, type SecureContext } from 'node:tls'
import type { Clock } from '../clock.ts'
import type { AddressPolicy } from './address-guard.ts'
import { type Lookup, type LookupAddress, shareConcurrentLookups } from './name-lookup.ts'
import type { EgressProxy } from './proxy.ts'
import { refusalOfStatus, requestTunnel } from './proxy-connect.ts'
import type { ProxyHealth } from './proxy-health.ts'
import type { SourceAddresses } from './source-address.ts'
import { MAX_ADDRESSES_TRIED, openTcp } from './tcp-connect.ts'
import type { TlsIdentity } from './tls-identity.ts'
import { connectFailure, errorCodeOf, proxyConnectFailure, TransportFailure, tlsFailure } from './transport-failure.ts'
import { refusalOfAnswers } from './url-policy.ts'

/** Where to connect to: parts of a parsed URL, `hostname` without brackets, and as whom; plain http where `tls` is null. */
export interface ConnectTarget {
  hostname: string
  port: number
  tls: TlsIdentity | null
}

/** Durations in ms; null for what was not reached or not needed (no look-up of an IP address, no TLS of plain http). */
export interface ConnectTimings {
  dns: number | null
  /** Until TCP is connected; through a proxy, until the tunnel stands. */
  connect: number | null
  /** With the receiver. */
  tls: number | null
}

/** A connect under way. Its fields change as it goes on; `cancel` ends it without a call back. */
export interface ConnectAttempt {
  /** `proxy_connect`: to the proxy; `proxy`: the proxy was asked for a tunnel. */
  stage: 'dns' | 'connect' | 'proxy_connect' | 'proxy' | 'tls' | 'done'
  readonly timings: ConnectTimings
  cancel(): void
}

export type ConnectCallback = (error: TransportFailure | null, socket: Socket | null) => void

/** Connects to a checked address of the target, calls back once, later, and never throws. */
export type Connect = (target: ConnectTarget, callback: ConnectCallback) => ConnectAttempt

export interface ConnectorOptions {
  policy: AddressPolicy
  /** Of receivers. */
  lookup: Lookup
  /** Of the proxy. */
  proxyLookup: Lookup
  clock: Clock
  /** Null: every connection is direct. */
  proxy: EgressProxy | null
  proxyHealth: ProxyHealth
  /** Null: wherever the system says. */
  sources: SourceAddresses | null
  /** False accepts any certificate and is for tests alone. */
  rejectUnauthorized: boolean
}

/** A proxy in one's own network that has not accepted a connection after so long, in ms, when the request gives up has failed. */
const PROXY_SILENT_MS = 500

/**
 * Makes the function by which every connection is opened. It looks the name up itself, once; asks the policy about
 * every address in the answer and refuses the connect when one of them is refused; and connects to exactly the
 * addresses it asked about, so an answer that changes between check and connect (DNS rebinding) changes nothing. Through a
 * proxy with `resolve: 'here'` it is told these addresses; with `resolve: 'proxy'` the name. TLS names and verifies the host of
 * the URL and offers HTTP/1.1 alone. There is no time limit here: who waits cancels.
 */
export function createConnector(options: ConnectorOptions): Connect {
  const lookup = shareConcurrentLookups(options.lookup)
  const proxyLookup = shareConcurrentLookups(options.proxyLookup)
  return (target, callback) => new RunningConnect(target, callback, { ...options, lookup, proxyLookup })
}

class RunningConnect implements ConnectAttempt {
  stage: ConnectAttempt['stage'] = 'dns'
  readonly timings: ConnectTimings = { dns: null, connect: null, tls: null }
  readonly #target: ConnectTarget
  readonly #options: ConnectorOptions
  readonly #abort = new AbortController()
  #callback: ConnectCallback | null
  #stageStarted: number
  /** What is open so far: a connection to the receiver or to the proxy, under TLS or not. */
  #socket: Socket | null = null

  constructor(target: ConnectTarget, callback: ConnectCallback, options: ConnectorOptions) {
    this.#target = target
    this.#callback = callback
    this.#options = options
    this.#stageStarted = options.clock.monotonic()
    this.#run().then(
      (socket) => this.#end(null, socket),
      (error: unknown) => this.#end(asFailure(error), null),
    )
  }

  cancel(): void {
    const { proxyHealth, clock } = this.#options
    if (
      this.#callback !== null &&
      this.stage === 'proxy_connect' &&
      clock.monotonic() - this.#stageStarted > PROXY_SILENT_MS
    )
      proxyHealth.failed('PROXY_FAILED', 'The proxy did not accept a connection in time.')
    this.#callback = null
    this.#release()
  }

  async #run(): Promise<Socket> {
    const { hostname, port, tls } = this.#target
    const { proxy } = this.#options
    if (proxy?.carries(hostname)) await this.#openTunnel(proxy)
    else {
      const addresses = await this.#checkedAddresses()
      this.stage = 'connect'
      await this.#open(addresses, port).catch((error: unknown) => {
        this.timings.connect = this.#lap()
        throw connectFailure(error, this.#options.sources !== null)
      })
      this.timings.connect = this.#lap()
    }
    if (tls === null) return this.#socket as Socket
    this.stage = 'tls'
    const socket = await this.#startTls(hostname, tls.context, ['http/1.1']).catch((error: unknown) => {
      this.timings.tls = this.#lap()
      throw tlsFailure(error)
    })
    this.timings.tls = this.#lap()
    return socket
  }

  /** The receiver's addresses, all of them allowed. */
  async #checkedAddresses(): Promise<readonly LookupAddress[]> {
    const { hostname } = this.#target
    const family = isIP(hostname)
    const answers = family === 0 ? await this.#lookUp(hostname) : [{ address: hostname, family }]
    const refusal = refusalOfAnswers(answers, this.#options.policy)
    if (refusal !== null) throw new TransportFailure('ADDRESS_REFUSED', `The host ${hostname} ${refusal}.`)
    if (answers.length === 0) throw new TransportFailure('DNS_FAILED', 'The name has no address.')
    return answers
  }

  async #lookUp(hostname: string): Promise<readonly LookupAddress[]> {
    try {
      return await this.#options.lookup(hostname)
    } catch (error) {
      throw new TransportFailure('DNS_FAILED', `The name could not be looked up (${errorCodeOf(error)}).`)
    } finally {
      this.timings.dns = (this.timings.dns ?? 0) + this.#lap()
    }
  }

  /** One after another where the proxy cannot reach an address: which of them it can, only it knows. */
  async #openTunnel(proxy: EgressProxy): Promise<void> {
    const { hostname, port } = this.#target
    const { proxyHealth } = this.#options
    const isNamed = proxy.resolve === 'proxy' && isIP(hostname) === 0
    const destinations = isNamed ? [hostname] : ipv4First(await this.#checkedAddresses()).slice(0, MAX_ADDRESSES_TRIED)
    const startedAt = this.#stageStarted
    let failure: TransportFailure | null = null
    try {
      for (const destination of destinations) {
        failure = await this.#askProxy(proxy, destination, port)
        if (failure === null) return
        this.#socket?.destroy()
        if (failure.code !== 'PROXY_GATEWAY_FAILED') break
      }
    } catch (error) {
      failure = proxyConnectFailure(error, this.#options.sources !== null)
    } finally {
      this.timings.connect = this.#options.clock.monotonic() - startedAt
      this.#lap()
    }
    const isItsOwn = failure?.code === 'PROXY_FAILED' || failure?.code === 'PROXY_AUTH_FAILED'
    if (failure !== null && isItsOwn && this.#callback !== null) proxyHealth.failed(failure.code, failure.message)
    throw failure
  }

  /** Null: the tunnel stands. */
  async #askProxy(proxy: EgressProxy, destination: string, port: number): Promise<TransportFailure | null> {
    const { proxyLookup, proxyHealth } = this.#options
    this.stage = 'proxy_connect'
    this.#lap()
    const family = isIP(proxy.hostname)
    const addresses = family === 0 ? await proxyLookup(proxy.hostname) : [{ address: proxy.hostname, family }]
    await this.#open(addresses, proxy.port)
    if (proxy.tls !== null) await this.#startTls(proxy.hostname, proxy.tls, ['http/1.1'])
    this.stage = 'proxy'
    const status = await requestTunnel(this.#socket as Socket, destination, port, authorizationOf(proxy))
    const refusal = refusalOfStatus(status)
    if (refusal?.code !== 'PROXY_AUTH_FAILED') proxyHealth.answered()
    return refusal
  }

  async #open(addresses: readonly LookupAddress[], port: number): Promise<void> {
    this.#keep(await openTcp(addresses, port, this.#options.sources, this.#abort.signal))
  }

  /** Over what is open so far. */
  #startTls(hostname: string, secureContext: SecureContext, ALPNProtocols: string[]): Promise<Socket> {
    const secure = connectTls({
      socket: this.#socket as Socket,
      // What the certificate is verified against where there is no servername: SNI cannot hold an address (RFC 6066).
      host: hostname,
      servername: isIP(hostname) === 0 ? hostname : '',
      ALPNProtocols,
      rejectUnauthorized: this.#options.rejectUnauthorized,
      secureContext,
    })
    this.#keep(secure)
    return new Promise((resolve, reject) => {
      secure.once('secureConnect', () => resolve(secure))
      // It stays: a destroyed socket may yet fail. Whoever uses the connection by then hears the error too.
      secure.on('error', reject)
    })
  }

  #keep(socket: Socket): void {
    this.#socket = socket
    if (this.#abort.signal.aborted) socket.destroy()
  }

  /** The ms since the last stage began, which end it. */
  #lap(): number {
    const now = this.#options.clock.monotonic()
    const duration = now - this.#stageStarted
    this.#stageStarted = now
    return duration
  }

  #end(failure: TransportFailure | null, socket: Socket | null): void {
    const callback = this.#callback
    this.#callback = null
    if (failure === null) this.stage = 'done'
    if (failure !== null || callback === null) this.#release()
    callback?.(failure, socket)
  }

  #release(): void {
    this.#abort.abort()
    this.#socket?.destroy()
  }
}

/** Asks the host's own function; what it throws is a failure of the host's. */
function authorizationOf(proxy: EgressProxy): string | null {
  try {
    return proxy.authorization()
  } catch {
    throw new TransportFailure('PROXY_AUTH_FAILED', 'The credentials of http.proxy could not be had: see its function.')
  }
}

/** Whether a proxy reaches IPv6 is unknown here, and the resolver's order is that of this machine. */
function ipv4First(answers: readonly LookupAddress[]): string[] {
  return [...answers].sort((a, b) => a.family - b.family).map(({ address }) => address)
}

function asFailure(error: unknown): TransportFailure {
  return error instanceof TransportFailure ? error : new TransportFailure('SEND_FAILED', 'The connect failed.')
}
