/** The management API on a database of its own, for the suites that call it through adapters and without. */
import { randomBytes } from 'node:crypto'
import { createHandler } from '../../packages/core/src/api/handler.ts'
import { createIdempotency } from '../../packages/core/src/api/idempotency.ts'
import type {
  Authorization,
  ManagementHandler,
  Permission,
  SecuritySchemes,
} from '../../packages/core/src/api/index.ts'
import { affiliateEvents } from '../../packages/core/src/catalog/affiliate-events.ts'
import { systemClock } from '../../packages/core/src/clock.ts'
import { createDeliveryService, type DeliveryService } from '../../packages/core/src/deliveries/delivery-service.ts'
import { createEndpointConfigs } from '../../packages/core/src/delivery/endpoint-config.ts'
import { createEndpointService, type EndpointService } from '../../packages/core/src/endpoints/endpoint-service.ts'
import { createEventLog, type EventLog } from '../../packages/core/src/event-log/event-log-service.ts'
import { createAddressPolicy } from '../../packages/core/src/http-client/address-guard.ts'
import type { Lookup } from '../../packages/core/src/http-client/name-lookup.ts'
import type { OutboundRequest, Transport } from '../../packages/core/src/http-client/transport.ts'
import { checkEndpointUrlResolved } from '../../packages/core/src/http-client/url-policy.ts'
import type { Logger } from '../../packages/core/src/logger.ts'
import { createReplayService, type ReplayService } from '../../packages/core/src/replays/replay-service.ts'
import { generateEd25519Keys, importEd25519Keys } from '../../packages/core/src/signing/ed25519-keys.ts'
import { createKeyring, type Keyring } from '../../packages/core/src/signing/keyring.ts'
import { createStatistics, type Statistics } from '../../packages/core/src/stats/stats-service.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { migrate } from '../../packages/core/src/storage/migrate.ts'
import { openStore, type Store } from '../../packages/core/src/storage/tables.ts'
import { createTestDatabase } from '../support/postgres.ts'

export const SCHEMA = 'posthaste'

export interface TestApi extends ManagementHandler {
  endpoints: EndpointService
  deliveries: DeliveryService
  eventLog: EventLog
  replays: ReplayService
  stats: Statistics
  /** What tests of endpoints sent: answered 200, or 503 where the URL says so. */
  sent: OutboundRequest[]
  store: Store
  sql: Sql
  keyring: Keyring
  /** The `whpk_` of the key that signs. */
  publicKey: string
  /** What was logged, as text. */
  log: string[]
  /** How often `onChange` was called. */
  changes(): number
  stop(): Promise<void>
}

export interface TestApiOptions {
  maxEndpointsPerAccount?: number
  tenancy?: 'single' | 'multi'
  bodyLimitBytes?: number
  securitySchemes?: SecuritySchemes
}

/** `private.example` has a private address; every other name a public one. */
const lookup: Lookup = async (hostname) => [
  { address: hostname === 'private.example' ? '10.0.0.7' : '93.184.215.14', family: 4 },
]

export async function startTestApi(options: TestApiOptions = {}): Promise<TestApi> {
  const database = await createTestDatabase()
  const sql = connect(database.url, 8)
  await migrate(sql, SCHEMA, 'test')
  const store = openStore(sql, SCHEMA)
  const keyring = createKeyring({ current: 'k1', keys: { k1: randomBytes(32) } })
  const pair = generateEd25519Keys()
  const ed25519 = importEd25519Keys({ privateKeys: [pair.privateKey] })
  const policy = createAddressPolicy()
  const log: string[] = []
  let changes = 0
  const endpoints = createEndpointService({
    store,
    catalog: affiliateEvents,
    keyring,
    checkUrl: (url) => checkEndpointUrlResolved(url, policy, lookup),
    onChange: () => void changes++,
    ...(options.maxEndpointsPerAccount === undefined ? {} : { maxEndpointsPerAccount: options.maxEndpointsPerAccount }),
  })
  const sent: OutboundRequest[] = []
  const onChange = () => void changes++
  const deliveries = createDeliveryService({
    store,
    catalog: affiliateEvents,
    keyring,
    test: {
      catalog: affiliateEvents,
      configs: createEndpointConfigs(sql, SCHEMA, keyring, systemClock),
      transport: scriptedTransport(sent),
      clock: systemClock,
      userAgent: 'Posthaste/test',
      deadlineMs: 1_000,
      ed25519Keys: ed25519.sign,
      envelope: 0,
    },
    requireInstallation: async () => {},
    onChange,
  })
  const eventLog = createEventLog(store)
  const replays = createReplayService({ store, catalog: affiliateEvents, onChange })
  const stats = createStatistics(store, systemClock)
  const handler = createHandler({
    endpoints,
    deliveries,
    eventLog,
    replays,
    stats,
    catalog: affiliateEvents,
    jwks: ed25519.jwks,
    idempotency: createIdempotency(store, keyring),
    tenancy: options.tenancy ?? 'multi',
    logger: collectingLogger(log),
    ...(options.bodyLimitBytes === undefined ? {} : { bodyLimitBytes: options.bodyLimitBytes }),
    ...(options.securitySchemes === undefined ? {} : { securitySchemes: options.securitySchemes }),
  })
  return {
    handler,
    endpoints,
    deliveries,
    eventLog,
    replays,
    stats,
    sent,
    store,
    sql,
    keyring,
    publicKey: pair.publicKey,
    log,
    changes: () => changes,
    async stop() {
      await sql.end({ timeout: 5 })
      await database.drop()
    },
  }
}

function scriptedTransport(sent: OutboundRequest[]): Transport {
  return {
    async send(request) {
      sent.push(request)
      const statusCode = request.url.includes('/down') ? 503 : 200
      const timings = { dns: 1.5, connect: 2, tls: 3.25, firstByte: 4, total: 11 }
      return { kind: 'response', statusCode, headers: { server: 'test' }, retryAfter: null, excerpt: 'thanks', timings }
    },
    close: async () => {},
  }
}

function collectingLogger(log: string[]): Logger {
  const write = (message: string, fields?: Record<string, unknown>) =>
    void log.push(`${message} ${JSON.stringify(fields)}`)
  return { debug: write, info: write, warn: write, error: write }
}

const EVERY: readonly Permission[] = ['read', 'write', 'secrets', 'test', 'replay']

/** A bearer token that `authorizeToken` understands: an account and what it may do. */
export function token(account: string, permissions: readonly Permission[] = EVERY): string {
  return `Bearer ${account}:${permissions.join(',')}`
}

/** What a host's `authorize` makes of an `Authorization` header. `Bearer boom:` throws, `Bearer later:` rejects. */
export function authorizeToken(
  header: string | null | undefined,
): Authorization | null | Promise<Authorization | null> {
  const [, account, permissions] = /^Bearer ([^:]+):(.*)$/.exec(header ?? '') ?? []
  if (account === undefined || permissions === undefined) return null
  if (account === 'boom') throw new Error('the session store is down')
  const authorization = { account, permissions: permissions.split(',') as Permission[] }
  if (account === 'later') return Promise.reject(new Error('the session store is down'))
  return account.endsWith('-async') ? Promise.resolve(authorization) : authorization
}

let accounts = 0
/** An account that no other test has. */
export function freshAccount(): string {
  accounts++
  return `account-${process.pid}-${accounts}`
}
