import { hostname } from 'node:os'
import { createHandler, createIdempotency, type Handler } from './api/index.ts'
import { affiliateEvents } from './catalog/affiliate-events.ts'
import type { AnyCatalog, EventData, EventType } from './catalog/define-events.ts'
import { checkOptions, type Tenancy, type WebhooksOptions } from './config.ts'
import { createDeliveryService, type Deliveries } from './deliveries/delivery-service.ts'
import { createEndpointConfigs } from './delivery/endpoint-config.ts'
import { createEmitter, type EmitInput, type EmitTarget, type EmittedEvent } from './emit/emitter.ts'
import type { EmitOptions } from './emit/wire-event.ts'
import { createEndpointService, type Endpoints } from './endpoints/endpoint-service.ts'
import { PosthasteError } from './errors.ts'
import { createEventLog, type EventLog } from './event-log/event-log-service.ts'
import { createAddressPolicy } from './http-client/address-guard.ts'
import { guardTransport } from './http-client/guarded-transport.ts'
import { createHttpTransport } from './http-client/http-transport.ts'
import { createLazyTransport } from './http-client/lazy-transport.ts'
import { systemLookup } from './http-client/name-lookup.ts'
import { reportProxy } from './http-client/proxy-reports.ts'
import { checkEndpointUrl, checkEndpointUrlResolved, type UrlVerdict } from './http-client/url-policy.ts'
import { type Adoption, type AdoptOptions, adopt } from './installation/adoption.ts'
import { readRefusal, requireWelcome } from './installation/refusal.ts'
import { Lifecycle, type LifecycleListeners } from './lifecycle/events.ts'
import type { DataSubject } from './privacy/data-subject.ts'
import { type Erasure, erase } from './privacy/erase.ts'
import { type ExportedRecord, exportData } from './privacy/export.ts'
import { createReplayService, type Replays } from './replays/replay-service.ts'
import { createSecretKeys, type SecretKeys } from './secret-keys/secret-keys.ts'
import type { JsonWebKeySet } from './signing/ed25519-keys.ts'
import { createStatistics, type Statistics } from './stats/stats-service.ts'
import { createStorageStatistics, type StorageStatistics } from './stats/storage-stats.ts'
import { connect } from './storage/connection.ts'
import type { HostTransaction } from './storage/host-transaction.ts'
import { listMigrations, type Migration, migrate, requireMigrated } from './storage/migrate.ts'
import { openStore } from './storage/tables.ts'
import { withTypedErrors } from './storage/unavailable.ts'
import { VERSION } from './version.ts'
import { createWorker, type Worker, type WorkerParts } from './worker.ts'

/** The options of one emit: `account` must be given with `tenancy: 'multi'`, and only then. */
export type EmitCallOptions<T extends Tenancy> = Omit<EmitOptions, 'account'> & {
  /** The transaction that the event belongs to, or `'own'`: commit it by itself. */
  tx?: HostTransaction | 'own'
} & (T extends 'multi' ? { account: string } : { account?: 'default' })

type EmitArguments<
  C extends AnyCatalog,
  N extends EventType<C>,
  T extends Tenancy,
  Bound extends 'bound' | 'free' = 'free',
  // `tx` is barred, not left out: an object with it would pass where it is no literal.
  Options = Bound extends 'bound' ? Omit<EmitCallOptions<T>, 'tx'> & { tx?: never } : EmitCallOptions<T>,
> = T extends 'multi'
  ? [type: N, data: EventData<C, N>, options: Options]
  : [type: N, data: EventData<C, N>, options?: Options]

/** One event of `emitMany`. */
export type BulkEvent<C extends AnyCatalog, T extends Tenancy> = {
  [N in EventType<C>]: { type: N; data: EventData<C, N> } & Omit<EmitCallOptions<T>, 'tx'>
}[EventType<C>]

/** Emits in a transaction that was given before, and in no other. */
export interface BoundEmitter<C extends AnyCatalog, T extends Tenancy> {
  emit<N extends EventType<C>>(...args: EmitArguments<C, N, T, 'bound'>): Promise<EmittedEvent>
  emitMany(events: readonly BulkEvent<C, T>[]): Promise<EmittedEvent[]>
}

/** Outgoing webhooks on the host's own Postgres. Made by `createWebhooks`. */
export interface Webhooks<C extends AnyCatalog = typeof affiliateEvents, T extends Tenancy = 'single'> {
  /** The event types. */
  readonly catalog: C
  /** What happens, as typed events: `events.on('delivery.failed', …)`. */
  readonly events: LifecycleListeners
  /** Endpoints, for hosts that build an interface of their own. The API's routes call the same. */
  readonly endpoints: Endpoints
  /** The delivery log; trying a delivery again, and trying an endpoint out. */
  readonly deliveries: Deliveries
  /** The event log. */
  readonly eventLog: EventLog
  /** Bulk replays. */
  readonly replays: Replays
  /** Statistics of endpoints, and, for the operator, of our storage. */
  readonly stats: Statistics & StorageStatistics
  /** The keys under which secrets lie in the database. */
  readonly secretKeys: SecretKeys
  /** The public keys of `v1a` signatures, as `jwks.json` shows them; none where no key is set up. */
  readonly jwks: JsonWebKeySet
  /** The management API as one function from Request to Response, for the adapters. */
  readonly handler: Handler
  /**
   * Writes an event as part of a transaction: `{ tx }`, or the one of `transaction()` around it, or `{ tx: 'own' }`. The
   * commit sends it, a rollback sends nothing.
   *
   * @throws PosthasteError NO_TRANSACTION, INVALID_TRANSACTION, ACCOUNT_REQUIRED, ACCOUNT_INVALID, UNKNOWN_EVENT_TYPE,
   *   NOT_JSON, INVALID_DATA, PAYLOAD_TOO_LARGE, IDEMPOTENCY_KEY_INVALID: all before the database is touched. NOT_MIGRATED where
   *   the transaction's database has no schema of ours; UNAVAILABLE with `'own'` alone
   */
  emit<N extends EventType<C>>(...args: EmitArguments<C, N, T>): Promise<EmittedEvent>
  /**
   * Many events, a thousand per statement, in order; all are checked before the first is written. With `{ tx: 'own' }` each
   * thousand commits by itself. Throws as `emit`.
   */
  emitMany(events: readonly BulkEvent<C, T>[], options?: { tx?: HostTransaction | 'own' }): Promise<EmittedEvent[]>
  /** An emitter for this transaction. @throws PosthasteError INVALID_TRANSACTION */
  withTransaction(tx: HostTransaction): BoundEmitter<C, T>
  /** Runs `work`; every plain `emit` in it, however deep, belongs to `tx`. @throws PosthasteError INVALID_TRANSACTION */
  transaction<R>(tx: HostTransaction, work: () => Promise<R>): Promise<R>
  /** Brings both schemas up to date; safe to call from every instance at every start. Answers the migrations applied. */
  migrate(): Promise<number[]>
  /** All migrations of our schema as SQL, for hosts that review or run them themselves. */
  migrations(): Migration[]
  /**
   * Makes a database that belongs to another `installation` this one's: a copy of production on a staging machine, or a renamed
   * installation. `continue`: what waits is sent, from here. `discard`: what waits is cancelled, in batches, and dispatching
   * begins from now. Workers of the name before send nothing any more. One that was interrupted is finished by calling it again.
   *
   * @throws PosthasteError VALIDATION_FAILED, NOT_MIGRATED, SCHEMA_NEWER
   */
  adopt(options: AdoptOptions): Promise<Adoption>
  /**
   * Erases all of one account, or all events about somebody (`{ member: 'affiliate_id', value: 456 }`), with their deliveries,
   * attempts, retries and keys, in short transactions. What waits is not sent; a send that was under way, or began within a second
   * of the call, may still end, and its record is erased, too: that is why this may take as long as `http.deadline`. One that was
   * interrupted is finished by calling it again. See docs/privacy.md for what remains.
   *
   * @throws PosthasteError VALIDATION_FAILED
   */
  erase(subject: DataSubject): Promise<Erasure>
  /**
   * Everything that is kept of one account, or in events about somebody, record by record, without secrets:
   * `for await (const record of webhooks.exportData({ account })) file.write(JSON.stringify(record) + '\n')`.
   *
   * @throws PosthasteError VALIDATION_FAILED, at the first record
   */
  exportData(subject: DataSubject): AsyncGenerator<ExportedRecord, void>
  /**
   * Begins to dispatch and deliver in this process. Where the database belongs to another `installation` it resolves, too, so that
   * a host's backend runs on a copy: it says so (a warning, the lifecycle event `delivery.paused`), sends nothing, and begins by
   * itself after `adopt()`. @throws PosthasteError NOT_MIGRATED, SCHEMA_NEWER, ALREADY_STARTED, QUEUE_UNAVAILABLE
   */
  start(): Promise<void>
  /**
   * Ends: nothing new begins, sends under way finish (at most the deadline), lanes are given back, connections close. The
   * object is of no use afterwards.
   */
  stop(): Promise<void>
}

/**
 * Puts Posthaste together. Opens no connection until it is used.
 *
 * @throws PosthasteError CONFIG_INVALID, naming the option
 */
export function createWebhooks<C extends AnyCatalog = typeof affiliateEvents, T extends Tenancy = 'single'>(
  options: WebhooksOptions<C, T>,
): Webhooks<C, T> {
  return assembleWebhooks(options).webhooks
}

/** As `createWebhooks`, with what tests drive it by. */
export function assembleWebhooks<C extends AnyCatalog = typeof affiliateEvents, T extends Tenancy = 'single'>(
  options: WebhooksOptions<C, T>,
  parts: WorkerParts = {},
): { webhooks: Webhooks<C, T>; worker: Pick<Worker, 'start' | 'atRest'> } {
  const config = checkOptions(options)
  const { schema, keyring, logger, clock } = config
  const catalog = (options.events ?? affiliateEvents) as C
  const policy = createAddressPolicy(config.http)
  const lookup = config.http.lookup ?? systemLookup
  // Two pools: a burst of API requests or of emits must not keep delivery waiting for a connection.
  const apiSql = connect(config.database, config.apiConnections)
  const lifecycle = new Lifecycle(logger)
  const store = openStore(apiSql, schema)
  const { proxy, tls, localAddress } = config.http
  const networkOptions = {
    ...(proxy === undefined ? {} : { proxy }),
    ...(tls === undefined ? {} : { tls }),
    ...(localAddress === undefined ? {} : { localAddress }),
    onProxyChange: reportProxy(lifecycle, logger),
  }
  /** A name that the proxy resolves means nothing here. */
  const checkUrl = async (url: string): Promise<UrlVerdict> => {
    const verdict = checkEndpointUrl(url, policy)
    const isProxys =
      verdict.ok && config.proxy?.resolve === 'proxy' && config.proxy.carries(new URL(verdict.url).hostname)
    return !verdict.ok || isProxys ? verdict : await checkEndpointUrlResolved(url, policy, lookup)
  }
  const ownTransport = createLazyTransport(() =>
    createHttpTransport({
      ...networkOptions,
      policy,
      ...(config.http.lookup === undefined ? {} : { lookup: config.http.lookup }),
      clock,
      connectionsPerOrigin: config.connectionsPerOrigin,
    }),
  )
  const transport = config.transport === undefined ? ownTransport : guardTransport(config.transport, clock)
  const worker = createWorker({
    config,
    transport,
    lifecycle,
    refusal: () => readRefusal(apiSql, schema, config.installation),
    name: `${hostname()}:${process.pid}`,
    parts,
  })
  const emitter = createEmitter({
    schema,
    rules: { catalog, tenancy: config.tenancy, maxDataBytes: config.maxDataBytes },
    envelope: config.envelope,
    runOwn: (text, values) =>
      withTypedErrors(async () => await apiSql.unsafe(text, [...values] as never[], { prepare: true })),
    nudge: () => worker.nudge(),
  })
  const endpoints = createEndpointService({
    store,
    catalog,
    keyring,
    checkUrl,
    ...(config.maxEndpointsPerAccount === undefined ? {} : { maxEndpointsPerAccount: config.maxEndpointsPerAccount }),
    onChange: () => worker.nudge(),
  })
  const deliveries = createDeliveryService({
    store,
    catalog,
    keyring,
    test: {
      catalog,
      configs: createEndpointConfigs(apiSql, schema, keyring, clock),
      transport,
      clock,
      userAgent: `Posthaste/${VERSION}`,
      deadlineMs: config.deadlineMs,
      ed25519Keys: config.ed25519.sign,
      envelope: config.envelope,
    },
    requireInstallation: async () => {
      await requireMigrated(apiSql, schema)
      await requireWelcome(apiSql, schema, config.installation)
    },
    onChange: () => worker.nudge(),
  })
  const eventLog = createEventLog(store)
  const replays = createReplayService({
    store,
    catalog,
    onChange: () => {
      worker.nudge()
      worker.wakeReplays()
    },
  })
  const stats = { ...createStatistics(store, clock), ...createStorageStatistics(store) }
  let stopped = false

  function emit(
    type: string,
    data: unknown,
    given: EmitCallOptions<Tenancy> = {},
    bound?: EmitTarget,
  ): Promise<EmittedEvent> {
    const { tx, ...rest } = given
    return emitter.emit(type, data, rest, bound ?? tx)
  }

  const webhooks: Webhooks<C, T> = {
    catalog,
    events: lifecycle,
    endpoints,
    deliveries,
    eventLog,
    replays,
    stats,
    secretKeys: createSecretKeys({ store, keyring, logger }),
    jwks: structuredClone(config.ed25519.jwks),
    handler: createHandler({
      endpoints,
      deliveries,
      eventLog,
      replays,
      stats,
      catalog,
      idempotency: createIdempotency(store, keyring),
      jwks: config.ed25519.jwks,
      tenancy: config.tenancy,
      logger,
      envelope: config.envelope,
      ...(config.securitySchemes === undefined ? {} : { securitySchemes: config.securitySchemes }),
    }),
    emit: (...args) => emit(args[0], args[1], args[2] as EmitCallOptions<Tenancy>),
    emitMany: (events, given = {}) => emitter.emitMany(events as readonly EmitInput[], given.tx),
    withTransaction(tx) {
      emitter.require(tx)
      return {
        emit: (...args) => emit(args[0], args[1], args[2] as EmitCallOptions<Tenancy>, tx),
        emitMany: (events) => emitter.emitMany(events as readonly EmitInput[], tx),
      }
    },
    transaction: (tx, work) => emitter.within(tx, work),
    async migrate() {
      // A migration, or the wait for another instance's, may take long: no silence is too long for it.
      const sql = connect(config.database, 1, Number.POSITIVE_INFINITY)
      try {
        const applied = await migrate(sql, schema, config.installation)
        await worker.migrateEngine()
        return applied
      } finally {
        await sql.end({ timeout: 5 })
      }
    },
    migrations: () => listMigrations(schema),
    async adopt({ what }) {
      await requireMigrated(apiSql, schema)
      const adoption = await adopt(apiSql, schema, config.installation, what)
      worker.lookAgain()
      return adoption
    },
    erase: (subject) =>
      erase({ sql: apiSql, schema, deadlineMs: config.deadlineMs, onChange: () => worker.nudge() }, subject),
    exportData: (subject) => exportData(apiSql, schema, subject),
    async start() {
      if (stopped) throw new PosthasteError('STOPPED', 'This object was stopped: make another with createWebhooks().')
      await requireMigrated(apiSql, schema)
      await worker.start()
    },
    async stop() {
      if (stopped) return
      stopped = true
      await worker.stop()
      await ownTransport.close()
      await apiSql.end({ timeout: 5 })
    },
  }
  return { webhooks, worker }
}
