/** Posthaste: outgoing webhooks as a module of your own backend. Everything public is exported here. */
export type {
  Authorization,
  Authorize,
  Handler,
  HandlerContext,
  ManagementHandler,
  Permission,
  SecurityScheme,
  SecuritySchemes,
} from './api/index.ts'
export { affiliateEvents } from './catalog/affiliate-events.ts'
export {
  Catalog,
  defineEvents,
  type EventData,
  type EventDefinition,
  type EventType,
  extendEvents,
  type StorePolicy,
} from './catalog/define-events.ts'
export { isoDate } from './catalog/iso-date.ts'
export type { Clock } from './clock.ts'
export type { HttpOptions, RetentionOptions, Tenancy, WebhooksOptions, WorkerOptions } from './config.ts'
export type {
  Delivery,
  DeliveryAttempt,
  DeliveryDetail,
  DeliveryQuery,
  DeliveryStatus,
  TestInput,
  TestResult,
} from './deliveries/delivery-schemas.ts'
export type { Deliveries } from './deliveries/delivery-service.ts'
export type { AttemptTrace, AttemptTraceResult } from './delivery/attempt-channels.ts'
export { DEFAULT_RETRY_SCHEDULE } from './delivery/retry-schedule.ts'
export type { Duration } from './duration.ts'
export type { EmittedEvent } from './emit/emitter.ts'
export type { EmitOptions } from './emit/wire-event.ts'
export type {
  CreateEndpoint,
  Endpoint,
  EndpointSecret,
  EndpointWithSecret,
  ReplaceEndpoint,
  RotateSecret,
  UpdateEndpoint,
} from './endpoints/endpoint-schemas.ts'
export type { EndpointQuery, Endpoints } from './endpoints/endpoint-service.ts'
export type { Page, PageQuery } from './endpoints/page-cursor.ts'
export { ERROR_CODES, type ErrorCode, type FieldError, PosthasteError } from './errors.ts'
export type { EventLog } from './event-log/event-log-service.ts'
export type { EventQuery, LoggedEvent, LoggedEventDetail } from './event-log/event-schemas.ts'
export type { Lookup, LookupAddress } from './http-client/name-lookup.ts'
export type { ProxyCredentials, ProxyOptions } from './http-client/proxy.ts'
export type {
  Authorities,
  ClientCertificate,
  Pem,
  ReceiverOfRequest,
  ReceiverTls,
  TlsOptions,
} from './http-client/tls-identity.ts'
export type {
  OutboundRequest,
  OutboundResult,
  Timings,
  Transport,
  TransportErrorCode,
} from './http-client/transport.ts'
export type { Adoption, AdoptOptions } from './installation/adoption.ts'
export type {
  AttemptInfo,
  DeliveryInfo,
  ExpiryReason,
  LifecycleEventName,
  LifecycleEvents,
  LifecycleListeners,
} from './lifecycle/events.ts'
export type { Logger } from './logger.ts'
export type { DataSubject } from './privacy/data-subject.ts'
export type { Erasure } from './privacy/erase.ts'
export type { ExportedRecord } from './privacy/export.ts'
export type { Replay, ReplayInput } from './replays/replay-schemas.ts'
export type { Replays } from './replays/replay-service.ts'
export type { ResealReport, SecretKeys, SecretKeyUse } from './secret-keys/secret-keys.ts'
export {
  type Ed25519Jwk,
  type Ed25519Options,
  type Ed25519PrivateKey,
  type Ed25519PublicKey,
  generateEd25519Keys,
  type JsonWebKeySet,
} from './signing/ed25519-keys.ts'
export { generateSecret, standardWebhooksSecret } from './signing/signing-secret.ts'
export type { Stats, StatsQuery } from './stats/stats-schemas.ts'
export type { Statistics } from './stats/stats-service.ts'
export type { StorageStatistics, StorageStats, TableSize, VacuumHolder } from './stats/storage-stats.ts'
export type { DatabaseOption } from './storage/connection.ts'
export type {
  DrizzleTransaction,
  HostTransaction,
  KnexTransaction,
  KyselyTransaction,
  MikroOrmEntityManager,
  PostgresJsReserved,
  PostgresJsTransaction,
  PrismaTransaction,
  QueryTransaction,
  SequelizeTransaction,
  TypeOrmEntityManager,
  TypeOrmQueryRunner,
} from './storage/host-transaction.ts'
export type { Migration } from './storage/migrate.ts'
export { VERSION } from './version.ts'
export { type BoundEmitter, type BulkEvent, createWebhooks, type EmitCallOptions, type Webhooks } from './webhooks.ts'
