import { isIP } from 'node:net'
import type { SecureContext } from 'node:tls'
import { PosthasteError } from '../errors.ts'
import { hostMatcher } from './address-guard.ts'
import { cidrContains, parseCidr, parseIpAddress } from './ip-address.ts'
import { type Authorities, type ClientCertificate, contextOf } from './tls-identity.ts'
import { errorCodeOf } from './transport-failure.ts'

export interface ProxyCredentials {
  username: string
  password: string
}

/** An egress proxy: connections to receivers are tunnels through it, made by `CONNECT` for https and http alike. */
export interface ProxyOptions {
  /** `http://proxy.corp.example:3128`, or `https://…` for TLS with the proxy itself. Its address may be private. */
  url: string
  /**
   * For `Proxy-Authorization: Basic`; they may also be in the URL. A function is asked at every connect, so that they can
   * change without a restart.
   */
  credentials?: ProxyCredentials | (() => ProxyCredentials)
  /**
   * Hosts that are reached directly: `hooks.example.com`, `*.internal.example`, an address or a block of them (`10.0.0.0/8`,
   * compared with addresses in URLs, not with what names resolve to). Default `[]`.
   */
  noProxy?: readonly string[]
  /**
   * Who resolves a receiver's name and decides whether its address may be reached. `here` (default): this process; the proxy is
   * told the checked address and never the name. `proxy`: the proxy is told the name; `http.allowedHosts` and its like still
   * hold here, and so does the refusal of addresses that are in the URL itself.
   */
  resolve?: 'here' | 'proxy'
  /** TLS with an `https://` proxy. */
  tls?: { ca?: Authorities; clientCertificate?: ClientCertificate }
}

/** The options, checked and compiled. Nothing in it prints a password. */
export interface EgressProxy {
  readonly hostname: string
  readonly port: number
  /** Of an https proxy. */
  readonly tls: SecureContext | null
  readonly resolve: 'here' | 'proxy'
  /** The value of `Proxy-Authorization`; null without credentials. Asked at every connect. */
  authorization(): string | null
  /** Whether connections to this host go through the proxy. `hostname` without brackets. */
  carries(hostname: string): boolean
}

/** @throws PosthasteError CONFIG_INVALID, which never shows the URL: it may hold a password */
export function createEgressProxy(option: string | ProxyOptions): EgressProxy {
  const {
    url,
    credentials,
    noProxy = [],
    resolve = 'here',
    tls,
  } = typeof option === 'string' ? { url: option } : option
  const parsed = typeof url === 'string' ? URL.parse(url) : null
  const secure = parsed?.protocol === 'https:'
  if (parsed === null || !(secure || parsed.protocol === 'http:') || parsed.pathname !== '/' || parsed.search !== '')
    throw invalid("http.proxy must be a URL such as 'http://proxy.corp.example:3128', without a path.")
  if (resolve !== 'here' && resolve !== 'proxy') throw invalid("http.proxy.resolve must be 'here' or 'proxy'.")
  const given = credentials ?? credentialsOf(parsed)
  if (typeof given !== 'function') basic(given)
  const bypasses = noProxy.map(bypassMatcher)
  const hostname = parsed.hostname.startsWith('[') ? parsed.hostname.slice(1, -1) : parsed.hostname
  return {
    hostname,
    port: parsed.port === '' ? (secure ? 443 : 80) : Number(parsed.port),
    tls: secure ? proxyContext(tls) : null,
    resolve,
    authorization: () => basic(typeof given === 'function' ? given() : given),
    carries: (host) => !bypasses.some((matches) => matches(host)),
  }
}

function credentialsOf(url: URL): ProxyCredentials | null {
  if (url.username === '' && url.password === '') return null
  try {
    return { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) }
  } catch {
    throw invalid('The credentials in http.proxy must be percent-encoded; or give them as `credentials`.')
  }
}

/** RFC 7617: UTF-8, and no colon in the name. */
function basic(credentials: ProxyCredentials | null): string | null {
  if (credentials === null) return null
  const { username, password } = credentials
  const isText = typeof username === 'string' && typeof password === 'string'
  if (!isText || username.includes(':') || /\p{Cc}/u.test(username + password))
    throw invalid('http.proxy.credentials are { username, password }: text, and no colon in the username.')
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

function proxyContext(tls: ProxyOptions['tls'] = {}): SecureContext {
  try {
    return contextOf(tls)
  } catch (error) {
    throw invalid(`http.proxy.tls cannot be used (${errorCodeOf(error)}): give certificates and keys as PEM.`)
  }
}

function bypassMatcher(pattern: string): (hostname: string) => boolean {
  const cidr = parseCidr(pattern)
  if (cidr === null) return hostMatcher(pattern)
  return (hostname) => {
    const address = isIP(hostname) === 0 ? null : parseIpAddress(hostname)
    return address !== null && cidrContains(cidr, address)
  }
}

function invalid(message: string): PosthasteError {
  return new PosthasteError('CONFIG_INVALID', message)
}
