import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Clock } from '../clock.ts'
import type { AddressPolicy } from './address-guard.ts'
import { type Lookup, type LookupAddress, shareConcurrentLookups } from './name-lookup.ts'
import { errorCodeOf, TransportFailure, tlsFailure } from './transport-failure.ts'
import { refusalOfAnswers } from './url-policy.ts'

/** Where to connect to: parts of a parsed URL, `hostname` without brackets. */
export interface ConnectTarget {
  hostname: string
  port: number
  secure: boolean
}

/** Durations in ms; null for what was not reached or not needed (no look-up of an IP address, no TLS of plain http). */
export interface ConnectTimings {
  dns: number | null
  connect: number | null
  tls: number | null
}

/** A connect under way. Its fields change as it goes on; `cancel` ends it without a call back. */
export interface ConnectAttempt {
  stage: 'dns' | 'connect' | 'tls' | 'done'
  readonly timings: ConnectTimings
  cancel(): void
}

export type ConnectCallback = (error: TransportFailure | null, socket: Socket | null) => void

/** Connects to a checked address of the target, calls back once, later, and never throws. */
export type Connect = (target: ConnectTarget, callback: ConnectCallback) => ConnectAttempt

/** TLS of receivers. The defaults verify certificate and host name against Node's own authorities. */
export interface TransportTlsOptions {
  /** Further or other authorities, PEM, in place of Node's own. */
  ca?: string | Buffer | ReadonlyArray<string | Buffer>
  /** Default true. False accepts any certificate and is for tests alone. */
  rejectUnauthorized?: boolean
}

export interface ConnectorOptions {
  policy: AddressPolicy
  lookup: Lookup
  clock: Clock
  tls?: TransportTlsOptions
}

/** "Connection Attempt Delay" of RFC 8305 section 5: after so long the next address is tried beside the first, in ms. */
const NEXT_ADDRESS_AFTER_MS = 250

/** Addresses of one name that are tried in one connect; the rest are checked, but a name must not buy a port scan. */
const MAX_ADDRESSES_TRIED = 6

/**
 * Makes the function by which every connection is opened. It looks the name up itself, once; asks the policy about
 * every address in the answer and refuses the connect when one of them is refused; and connects to exactly the
 * addresses it asked about, so an answer that changes between check and connect (DNS rebinding) changes nothing. TLS
 * names and verifies the host of the URL and offers HTTP/1.1 alone. There is no time limit here: who waits cancels.
 */
export function createConnector(options: ConnectorOptions): Connect {
  const lookup = shareConcurrentLookups(options.lookup)
  return (target, callback) => new RunningConnect(target, callback, { ...options, lookup })
}

class RunningConnect implements ConnectAttempt {
  stage: ConnectAttempt['stage'] = 'dns'
  readonly timings: ConnectTimings = { dns: null, connect: null, tls: null }
  readonly #target: ConnectTarget
  readonly #options: ConnectorOptions
  #callback: ConnectCallback | null
  #stageStarted: number
  #addresses: readonly LookupAddress[] = []
  #nextAddress = 0
  #opening = new Set<Socket>()
  #nextAddressTimer: NodeJS.Timeout | undefined

  constructor(target: ConnectTarget, callback: ConnectCallback, options: ConnectorOptions) {
    this.#target = target
    this.#callback = callback
    this.#options = options
    this.#stageStarted = options.clock.monotonic()
    const family = isIP(target.hostname)
    // In a microtask, so that nobody is called back before the attempt is in their hands.
    if (family !== 0) queueMicrotask(() => this.#useAddresses([{ address: target.hostname, family }]))
    else this.#lookUp()
  }

  cancel(): void {
    this.#callback = null
    this.#release()
  }

  #lookUp(): void {
    this.#options.lookup(this.#target.hostname).then(
      (answers) => {
        this.timings.dns = this.#lap()
        this.#useAddresses(answers)
      },
      (error: unknown) => {
        this.timings.dns = this.#lap()
        this.#fail(new TransportFailure('DNS_FAILED', `The name could not be looked up (${errorCodeOf(error)}).`))
      },
    )
  }

  #useAddresses(answers: readonly LookupAddress[]): void {
    if (this.#callback === null) return
    const refusal = refusalOfAnswers(answers, this.#options.policy)
    if (answers.length === 0 || refusal !== null) {
      this.#fail(
        refusal === null
          ? new TransportFailure('DNS_FAILED', 'The name has no address.')
          : new TransportFailure('ADDRESS_REFUSED', `The host ${this.#target.hostname} ${refusal}.`),
      )
      return
    }
    this.stage = 'connect'
    this.#addresses = alternateFamilies(answers).slice(0, MAX_ADDRESSES_TRIED)
    this.#tryNextAddress()
  }

  #tryNextAddress(): void {
    clearTimeout(this.#nextAddressTimer)
    const address = this.#addresses[this.#nextAddress++]
    if (address === undefined || this.#callback === null) return
    // The host is an IP address: net.connect resolves nothing.
    const socket = connectTcp({ host: address.address, port: this.#target.port, autoSelectFamily: false })
    socket.setNoDelay(true)
    this.#opening.add(socket)
    socket.once('connect', () => this.#connected(socket))
    socket.on('error', (error) => this.#addressFailed(socket, error))
    if (this.#nextAddress < this.#addresses.length)
      this.#nextAddressTimer = setTimeout(() => this.#tryNextAddress(), NEXT_ADDRESS_AFTER_MS)
  }

  #addressFailed(socket: Socket, error: Error): void {
    // Also called for a connection that is in use by now; whoever uses it hears the error too.
    if (!this.#opening.delete(socket) || this.stage !== 'connect') return
    if (this.#nextAddress < this.#addresses.length) {
      this.#tryNextAddress()
      return
    }
    if (this.#opening.size > 0) return
    this.timings.connect = this.#lap()
    const code = errorCodeOf(error)
    this.#fail(
      code === 'ETIMEDOUT'
        ? new TransportFailure('CONNECT_TIMEOUT', `No connection could be opened in time (${code}).`)
        : new TransportFailure('CONNECT_FAILED', `No connection could be opened (${code}).`),
    )
  }

  #connected(socket: Socket): void {
    if (this.stage !== 'connect') return
    this.timings.connect = this.#lap()
    this.#opening.delete(socket)
    this.#release()
    if (this.#target.secure) this.#startTls(socket)
    else this.#succeed(socket)
  }

  #startTls(socket: Socket): void {
    this.stage = 'tls'
    const { hostname } = this.#target
    const { ca, rejectUnauthorized = true } = this.#options.tls ?? {}
    const secure = connectTls({
      socket,
      // What the certificate is verified against where there is no servername: SNI cannot hold an address (RFC 6066).
      host: hostname,
      servername: isIP(hostname) === 0 ? hostname : '',
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized,
      ...(ca === undefined ? {} : { ca: typeof ca === 'string' || Buffer.isBuffer(ca) ? ca : [...ca] }),
    })
    this.#opening.add(secure)
    secure.once('secureConnect', () => {
      this.#opening.delete(secure)
      this.timings.tls = this.#lap()
      this.#succeed(secure)
    })
    secure.on('error', (error) => {
      if (!this.#opening.delete(secure)) return
      this.timings.tls = this.#lap()
      secure.destroy()
      this.#fail(tlsFailure(error))
    })
  }

  /** The ms since the last stage began, which end it. */
  #lap(): number {
    const now = this.#options.clock.monotonic()
    const duration = now - this.#stageStarted
    this.#stageStarted = now
    return duration
  }

  #succeed(socket: Socket): void {
    this.stage = 'done'
    const callback = this.#callback
    this.#callback = null
    if (callback === null) socket.destroy()
    else callback(null, socket)
  }

  #fail(failure: TransportFailure): void {
    const callback = this.#callback
    this.cancel()
    callback?.(failure, null)
  }

  /** Ends every socket that is still being opened. Their error listeners stay: a destroyed socket may yet fail. */
  #release(): void {
    clearTimeout(this.#nextAddressTimer)
    for (const socket of this.#opening) socket.destroy()
    this.#opening.clear()
  }
}

/** The first address first, then one of each family in turn (RFC 8305 section 4), so that one broken family costs little. */
function alternateFamilies(answers: readonly LookupAddress[]): LookupAddress[] {
  const family = answers[0]?.family
  const first = answers.filter((answer) => answer.family === family)
  const second = answers.filter((answer) => answer.family !== family)
  const ordered: LookupAddress[] = []
  for (let index = 0; index < Math.max(first.length, second.length); index++) {
    for (const answer of [first[index], second[index]]) if (answer !== undefined) ordered.push(answer)
  }
  return ordered
}
