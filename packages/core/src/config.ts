import type { SecuritySchemes } from './api/index.ts'
import { affiliateEvents } from './catalog/affiliate-events.ts'
import type { AnyCatalog } from './catalog/define-events.ts'
import { type Clock, systemClock } from './clock.ts'
import { createRetrySchedule, DEFAULT_RETRY_SCHEDULE } from './delivery/retry-schedule.ts'
import { type Duration, parseDuration } from './duration.ts'
import { PosthasteError } from './errors.ts'
import type { AddressPolicyOptions } from './http-client/address-guard.ts'
import type { Lookup } from './http-client/name-lookup.ts'
import { createEgressProxy, type EgressProxy, type ProxyOptions } from './http-client/proxy.ts'
import { parseSourceAddresses } from './http-client/source-address.ts'
import { checkTlsOptions, type TlsOptions } from './http-client/tls-identity.ts'
import type { Transport } from './http-client/transport.ts'
import { type Logger, silentLogger } from './logger.ts'
import { type Ed25519Keys, type Ed25519Options, importEd25519Keys } from './signing/ed25519-keys.ts'
import { createKeyring, type Keyring, type KeyringOptions, plainKeyring } from './signing/keyring.ts'
import type { DatabaseOption } from './storage/connection.ts'
import { checkSchemaName } from './storage/schema-name.ts'

/** Everything that a host can choose. */
export interface WebhooksOptions<C extends AnyCatalog, T extends Tenancy> {
  /** A connection string, or options of postgres.js. Posthaste opens connections of its own: see `connections`. */
  database: DatabaseOption
  /**
   * The name of this installation: `production`, `staging`. It is stored at the first migration, and a process with another
   * name sends nothing, so that a copy of the production database does not deliver what the original delivers.
   */
  installation: string
  /** The event types, of `defineEvents` or `extendEvents`. Default: `affiliateEvents`. */
  events?: C
  /** `single` (default): one account, named `default`. `multi`: every emit and every request names its account. */
  tenancy?: T
  /**
   * Keys for signing secrets and custom headers at rest (AES-256-GCM). Required unless `secretStorage` is `plain`.
   */
  secretKeys?: KeyringOptions
  /** `plain`: keep secrets readable in the database. Has to be asked for. */
  secretStorage?: 'encrypted' | 'plain'
  /**
   * ed25519 keys of this installation: every delivery then also carries a `v1a` signature, and `jwks.json` shows the public
   * keys. Default none. `generateEd25519Keys()` makes a pair.
   */
  ed25519?: Ed25519Options
  /** Schema of our tables. Default `posthaste`. */
  schema?: string
  /** Schema of the job engine's tables, apart from any graphile-worker that the host runs. Default `posthaste_worker`. */
  queueSchema?: string
  /** Delays after each failed attempt. Default `DEFAULT_RETRY_SCHEDULE`: 10 attempts over 75.6 h. */
  retrySchedule?: readonly Duration[]
  /** Other schedules for some event types. */
  retrySchedules?: Readonly<Record<string, readonly Duration[]>>
  /** `posthaste` (default): `event`, `timestamp`, `data`, `signature`. `standard`: the body of Standard Webhooks. */
  envelope?: 'posthaste' | 'standard'
  /**
   * How callers of the management API authenticate with you, for its OpenAPI document, which clients are generated from.
   * Default: a bearer token.
   */
  securitySchemes?: SecuritySchemes
  /** Largest `data` of an event in bytes of JSON. Default 1,048,576. */
  maxDataBytes?: number
  /** Endpoints of one account. Default 1,000. */
  maxEndpointsPerAccount?: number
  /** What receivers may be, and how they are reached. */
  http?: HttpOptions
  /** The part that delivers, in processes that call `start()`. */
  worker?: WorkerOptions
  /** Connections to Postgres. Default `{ worker: 6, api: 4 }`; the job engine opens two more. */
  connections?: { worker?: number; api?: number }
  /** Which answers of receivers are kept with their attempts, headers and up to 16 KiB. Default `failed`. */
  keepResponses?: 'failed' | 'all' | 'none'
  /** How long the logs are kept. They go by the week, so up to seven days later than said here. */
  retention?: RetentionOptions
  /** Default: silent. `console` fits. */
  logger?: Logger
  /** For tests: the process's clocks. */
  clock?: Clock
  /**
   * What sends instead of our own HTTP client: see `Transport`, and docs/network.md for what it takes over. `http.deadline` and
   * the checks of URLs at creation hold all the same.
   */
  transport?: Transport
}

export type Tenancy = 'single' | 'multi'

export interface HttpOptions extends AddressPolicyOptions {
  /** For a whole exchange, from the name look-up to the last byte. Default `15s`; less than the lease. */
  deadline?: Duration
  /** Connections to one origin at once. Default 100. */
  connectionsPerOrigin?: number
  /** Resolves host names. Default: the operating system's resolver. */
  lookup?: Lookup
  /**
   * An egress proxy: its URL, or more. Default: none. `HTTPS_PROXY` and the like are not read: pass
   * `process.env.HTTPS_PROXY` where that is meant.
   */
  proxy?: string | ProxyOptions
  /** Authorities, client certificates and the oldest version, for all receivers and for some. */
  tls?: TlsOptions
  /** The address of this machine at which connections begin, or one IPv4 and one IPv6 address. Default: the system's choice. */
  localAddress?: string | readonly string[]
}

export interface WorkerOptions {
  /** Sends under way at once in this process. Default 200. */
  concurrency?: number
  /** Sends to one endpoint at once, where the endpoint sets no `max_concurrency`. Default 50. */
  endpointConcurrency?: number
  /**
   * How long a worker that is not heard of keeps its lanes; its deliveries go on elsewhere at the latest 5 s after that.
   * Default `25s`. At least the deadline and a quarter of itself.
   */
  lease?: Duration
  /** Pause between looks for new work while there is none. Default `60ms`. */
  idlePoll?: Duration
  /** Run the job engine, which offers waiting lanes to workers. Default true; delivery is correct without. */
  jobEngine?: boolean
}

export interface RetentionOptions {
  /** Events, with their deliveries and attempts. Default `30d`; at least `1d`. What has not ended stays beyond that. */
  events?: Duration
  /**
   * Deliveries that failed for good or expired, with their events and attempts. Default: as `events`. Each week that is kept for
   * some of them costs a partition, and every partition a little of each read: at most `366d`.
   */
  failed?: Duration
  /** What still waits (held by its endpoint, limited, retrying) is ended as `expired` after this. Default `90d`; at least `7d`. */
  waiting?: Duration
}

/** The options with every default filled in and every rule checked. */
export interface Config {
  database: DatabaseOption
  installation: string
  tenancy: Tenancy
  keyring: Keyring
  ed25519: Ed25519Keys
  schema: string
  queueSchema: string
  retrySchedule: readonly Duration[]
  retrySchedules: Readonly<Record<string, readonly Duration[]>>
  envelope: 0 | 1
  securitySchemes: SecuritySchemes | undefined
  maxDataBytes: number
  maxEndpointsPerAccount: number | undefined
  http: HttpOptions
  /** `http.proxy`, checked. */
  proxy: EgressProxy | null
  deadlineMs: number
  connectionsPerOrigin: number
  concurrency: number
  endpointConcurrency: number
  leaseMs: number
  idlePollMs: number
  jobEngine: boolean
  workerConnections: number
  apiConnections: number
  keepResponses: 'failed' | 'all' | 'none'
  retention: { eventsMs: number; failedMs: number; waitingMs: number }
  logger: Logger
  clock: Clock
  transport: Transport | undefined
}

/** @throws PosthasteError CONFIG_INVALID, naming the option and what it may be */
export function checkOptions(options: WebhooksOptions<AnyCatalog, Tenancy>): Config {
  const { http = {}, worker = {}, connections = {} } = options
  const deadlineMs = parseDuration(http.deadline ?? '15s', 'http.deadline')
  const leaseMs = parseDuration(worker.lease ?? '25s', 'worker.lease')
  if (deadlineMs < 1) throw invalid('http.deadline must be at least 1 ms.')
  if (leaseMs < deadlineMs * 1.25 || leaseMs < 1_000) {
    throw invalid(
      'worker.lease must be at least 1s, and a quarter more than http.deadline: no send may outlive its lease.',
    )
  }
  // Only checked here: the transport makes its own when it is first used.
  parseSourceAddresses(http.localAddress)
  if (http.tls !== undefined) checkTlsOptions(http.tls)
  const { retrySchedule = DEFAULT_RETRY_SCHEDULE, retrySchedules = {} } = options
  checkSchedules(retrySchedule, retrySchedules, options.events ?? affiliateEvents)
  return {
    database: checkDatabase(options.database),
    installation: checkText(options.installation, 'installation', "a name such as 'production'"),
    tenancy: oneOf(options.tenancy ?? 'single', ['single', 'multi'], 'tenancy'),
    keyring: checkKeyring(options),
    ed25519: importEd25519Keys(options.ed25519),
    schema: checkSchemaName(options.schema ?? 'posthaste', 'schema'),
    queueSchema: checkSchemaName(options.queueSchema ?? 'posthaste_worker', 'queueSchema'),
    retrySchedule,
    retrySchedules,
    envelope: oneOf(options.envelope ?? 'posthaste', ['posthaste', 'standard'], 'envelope') === 'standard' ? 1 : 0,
    securitySchemes: options.securitySchemes,
    maxDataBytes: count(options.maxDataBytes ?? 1_048_576, 'maxDataBytes', 2, 64 * 1_048_576),
    maxEndpointsPerAccount:
      options.maxEndpointsPerAccount === undefined
        ? undefined
        : count(options.maxEndpointsPerAccount, 'maxEndpointsPerAccount', 1, 1_000_000),
    http,
    proxy: http.proxy === undefined ? null : createEgressProxy(http.proxy),
    deadlineMs,
    connectionsPerOrigin: count(http.connectionsPerOrigin ?? 100, 'http.connectionsPerOrigin', 1, 10_000),
    concurrency: count(worker.concurrency ?? 200, 'worker.concurrency', 1, 10_000),
    endpointConcurrency: count(worker.endpointConcurrency ?? 50, 'worker.endpointConcurrency', 1, 10_000),
    leaseMs,
    idlePollMs: Math.max(5, parseDuration(worker.idlePoll ?? '60ms', 'worker.idlePoll')),
    jobEngine: flag(worker.jobEngine ?? true, 'worker.jobEngine'),
    workerConnections: count(connections.worker ?? 6, 'connections.worker', 2, 100),
    apiConnections: count(connections.api ?? 4, 'connections.api', 1, 100),
    keepResponses: oneOf(options.keepResponses ?? 'failed', ['failed', 'all', 'none'], 'keepResponses'),
    retention: checkRetention(options.retention ?? {}),
    logger: options.logger ?? silentLogger,
    clock: options.clock ?? systemClock,
    transport: options.transport,
  }
}

/** The worker makes its own when it starts. A type that is none would be ignored there. */
function checkSchedules(
  schedule: readonly Duration[],
  byEventType: Readonly<Record<string, readonly Duration[]>>,
  catalog: AnyCatalog,
): void {
  createRetrySchedule({ schedule, byEventType, random: () => 0 })
  const unknown = Object.keys(byEventType).find((type) => !catalog.has(type))
  if (unknown !== undefined) throw invalid(`retrySchedules['${unknown}'] is of no event type in the catalogue.`)
}

const DAY_MS = 86_400_000

function checkRetention({ events = '30d', failed = events, waiting = '90d' }: RetentionOptions): Config['retention'] {
  const eventsMs = parseDuration(events, 'retention.events')
  const failedMs = parseDuration(failed, 'retention.failed')
  const waitingMs = parseDuration(waiting, 'retention.waiting')
  if (eventsMs < DAY_MS) throw invalid("retention.events must be at least '1d'.")
  if (failedMs > 366 * DAY_MS) throw invalid("retention.failed must be at most '366d': each week that is kept costs.")
  if (waitingMs < 7 * DAY_MS)
    throw invalid("retention.waiting must be at least '7d', more than the retry schedule takes.")
  return { eventsMs, failedMs, waitingMs }
}

function checkKeyring({ secretKeys, secretStorage = 'encrypted' }: WebhooksOptions<AnyCatalog, Tenancy>): Keyring {
  oneOf(secretStorage, ['encrypted', 'plain'], 'secretStorage')
  if (secretStorage === 'plain') {
    if (secretKeys !== undefined) throw invalid("Give either secretKeys or secretStorage: 'plain', not both.")
    return plainKeyring()
  }
  if (secretKeys === undefined) {
    throw invalid(
      "secretKeys is missing: { current: 'k1', keys: { k1: <32 random bytes, as base64> } }. To keep secrets readable in the " +
        "database instead, say secretStorage: 'plain'.",
    )
  }
  return createKeyring(secretKeys)
}

function checkDatabase(database: DatabaseOption): DatabaseOption {
  if (typeof database === 'string' && /^postgres(ql)?:\/\//.test(database)) return database
  if (typeof database === 'object' && database !== null) return database
  throw invalid(
    "database must be a connection string, 'postgres://user:password@host/name', or options of postgres.js.",
  )
}

function checkText(value: unknown, option: string, example: string): string {
  if (typeof value === 'string' && value.trim() !== '' && value.length <= 128) return value
  throw invalid(`${option} must be ${example}.`)
}

function oneOf<V extends string>(value: V, allowed: readonly V[], option: string): V {
  if (allowed.includes(value)) return value
  throw invalid(`${option} must be one of ${allowed.join(', ')}.`)
}

function flag(value: boolean, option: string): boolean {
  if (typeof value === 'boolean') return value
  throw invalid(`${option} must be true or false, not ${JSON.stringify(value)}.`)
}

function count(value: number, option: string, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value
  throw invalid(`${option} must be a whole number from ${least} to ${most}.`)
}

function invalid(message: string): PosthasteError {
  return new PosthasteError('CONFIG_INVALID', message)
}
