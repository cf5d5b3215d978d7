import { createHash, X509Certificate } from 'node:crypto'
import { createSecureContext, getCACertificates, type SecureContext, type SecureContextOptions } from 'node:tls'
import { PosthasteError } from '../errors.ts'
import { errorCodeOf, TransportFailure } from './transport-failure.ts'

/** PEM, one or several blocks. */
export type Pem = string | Buffer | readonly (string | Buffer)[]

/**
 * Who may vouch for a receiver. `add`: also these, beside Node's own (which include `NODE_EXTRA_CA_CERTS` and, with
 * `--use-system-ca`, the system's). `only`: these and no others.
 */
export type Authorities = { add: Pem } | { only: Pem }

/** What we show to receivers that ask who we are. */
export interface ClientCertificate {
  /** The certificate and, after it, those between it and the authority. */
  cert: Pem
  key: string | Buffer
  /** Of an encrypted key. */
  passphrase?: string
}

/** TLS with one receiver. */
export interface ReceiverTls {
  /** Default: Node's own authorities. */
  ca?: Authorities
  /** Default: none; null for none where there is one for all. */
  clientCertificate?: ClientCertificate | null
  /** Default `TLSv1.2`. */
  minVersion?: 'TLSv1.2' | 'TLSv1.3'
}

/** Whom a request is for, as `http.tls.forEndpoint` is told. */
export interface ReceiverOfRequest {
  /** `ep_…` */
  endpointId: string | null
  account: string | null
  /** Of the URL, in lower case, IPv6 addresses without brackets. */
  hostname: string
  port: number
}

/** TLS with all receivers, and with some. */
export interface TlsOptions extends ReceiverTls {
  /**
   * What is different for one endpoint, member by member: a record by endpoint id or host name (an id wins), or a function
   * that is asked at every send, so that a renewed certificate is used from then on. Answer from memory: the request waits.
   * Connections are never shared between different settings.
   */
  forEndpoint?:
    | Readonly<Record<string, ReceiverTls>>
    | ((receiver: ReceiverOfRequest) => ReceiverTls | null | undefined | Promise<ReceiverTls | null | undefined>)
}

/** As which, and trusting whom, a TLS connection is made. Connections are shared only where `key` is the same. */
export interface TlsIdentity {
  /** Empty for what holds for all endpoints. */
  readonly key: string
  readonly context: SecureContext
}

/** Identities whose contexts are kept; one more forgets the longest unused. A context with Node's authorities takes 1 ms. */
const MAX_IDENTITIES = 1_000

/** @throws PosthasteError CONFIG_INVALID for settings that cannot be used */
export function checkTlsOptions(options: TlsOptions): void {
  void new TlsIdentities(options)
}

export class TlsIdentities {
  readonly #options: TlsOptions
  readonly #kept = new Map<string, TlsIdentity>()
  #common: TlsIdentity | null = null

  /** @throws PosthasteError CONFIG_INVALID for settings that cannot be used */
  constructor(options: TlsOptions = {}) {
    this.#options = options
    const { forEndpoint } = options
    try {
      if (hasSettings(options)) this.common()
      if (typeof forEndpoint === 'object') for (const settings of Object.values(forEndpoint)) this.#identityOf(settings)
    } catch (error) {
      throw new PosthasteError(
        'CONFIG_INVALID',
        `http.tls cannot be used (${errorCodeOf(error)}): give certificates, keys and authorities as PEM, and each certificate its own key.`,
      )
    }
  }

  /** What holds for all endpoints. Made when it is first needed. */
  common(): TlsIdentity {
    this.#common ??= { key: '', context: contextOf(this.#options) }
    return this.#common
  }

  /**
   * Of this receiver; at once, unless the host's function answers a promise. Throws or rejects with `TLS_SETTINGS_FAILED`.
   */
  of(receiver: ReceiverOfRequest): TlsIdentity | Promise<TlsIdentity> {
    const { forEndpoint } = this.#options
    if (forEndpoint === undefined) return this.common()
    if (typeof forEndpoint === 'object') {
      const { endpointId, hostname } = receiver
      const settings =
        (endpointId === null ? undefined : ownMember(forEndpoint, endpointId)) ?? ownMember(forEndpoint, hostname)
      return this.#usable(settings)
    }
    let settings: ReturnType<typeof forEndpoint>
    try {
      settings = forEndpoint(receiver)
    } catch (error) {
      throw settingsFailure(error)
    }
    if (!isThenable(settings)) return this.#usable(settings)
    return Promise.resolve(settings).then(
      (settled) => this.#usable(settled),
      (error: unknown) => {
        throw settingsFailure(error)
      },
    )
  }

  #usable(settings: ReceiverTls | null | undefined): TlsIdentity {
    if (settings === null || settings === undefined) return this.common()
    try {
      return this.#identityOf(settings)
    } catch (error) {
      throw settingsFailure(error)
    }
  }

  #identityOf(settings: ReceiverTls): TlsIdentity {
    const merged = { ...this.#options, ...settings }
    const key = keyOf(merged)
    const identity = this.#kept.get(key) ?? { key, context: contextOf(merged) }
    this.#kept.delete(key)
    this.#kept.set(key, identity)
    if (this.#kept.size > MAX_IDENTITIES) for (const oldest of this.#kept.keys()) if (this.#kept.delete(oldest)) break
    return identity
  }
}

/** Never the error's own message: it may be of the host's code, and hold anything. */
function settingsFailure(error: unknown): TransportFailure {
  return new TransportFailure(
    'TLS_SETTINGS_FAILED',
    `What http.tls.forEndpoint says of this endpoint cannot be used (${errorCodeOf(error)}).`,
  )
}

function hasSettings({ ca, clientCertificate, minVersion }: ReceiverTls): boolean {
  return ca !== undefined || clientCertificate != null || minVersion !== undefined
}

export function contextOf({ ca, clientCertificate, minVersion = 'TLSv1.2' }: ReceiverTls): SecureContext {
  const options: SecureContextOptions = { minVersion }
  if (ca !== undefined)
    options.ca = 'only' in ca ? authorities(ca.only) : [...getCACertificates('default'), ...authorities(ca.add)]
  if (clientCertificate != null) {
    const { cert, key, passphrase } = clientCertificate
    options.cert = joined(cert)
    options.key = key
    if (passphrase !== undefined) options.passphrase = passphrase
  }
  return createSecureContext(options)
}

/** Node passes over what is no certificate, and then trusts nobody, or not whom it should. */
function authorities(pem: Pem): (string | Buffer)[] {
  for (const block of blocks(pem)) {
    const certificates = block.toString().match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g)
    if (certificates === null) throw Object.assign(new Error('not PEM'), { code: 'NO_CERTIFICATE' })
    // Throws for what is none.
    certificates.map((certificate) => new X509Certificate(certificate))
  }
  return blocks(pem)
}

/** Of everything that decides, the passphrase aside: it changes nothing about who we are. */
function keyOf({ ca, clientCertificate, minVersion = 'TLSv1.2' }: ReceiverTls): string {
  const hash = createHash('sha256').update(minVersion)
  const add = (name: string, pem: Pem) => {
    for (const block of blocks(pem)) hash.update(`\0${name}\0${block.length}\0`).update(block)
  }
  if (ca !== undefined) add('only' in ca ? 'only' : 'add', 'only' in ca ? ca.only : ca.add)
  if (clientCertificate != null) {
    add('cert', clientCertificate.cert)
    add('key', clientCertificate.key)
  }
  return hash.digest('hex')
}

function blocks(pem: Pem): (string | Buffer)[] {
  return typeof pem === 'string' || Buffer.isBuffer(pem) ? [pem] : [...pem]
}

/** Node takes a list of certificates as one for each key; a chain is one text. */
function joined(pem: Pem): string {
  return blocks(pem)
    .map((block) => block.toString().trim())
    .join('\n')
}

function isThenable<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function'
}

function ownMember<V>(record: Readonly<Record<string, V>>, name: string): V | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined
}
