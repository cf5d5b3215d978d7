/** Every operation of the management API: one file per area, one small handler per operation. A further area is a line here. */
import type { AnyCatalog } from '../catalog/define-events.ts'
import {
  attemptSchema,
  deliveryDetailSchema,
  deliveryPageSchema,
  deliverySchema,
  testResultSchema,
} from '../deliveries/delivery-schemas.ts'
import type { DeliveryService } from '../deliveries/delivery-service.ts'
import { endpointSchema, endpointSecretSchema, endpointWithSecretSchema } from '../endpoints/endpoint-schemas.ts'
import type { EndpointService } from '../endpoints/endpoint-service.ts'
import type { EventLog } from '../event-log/event-log-service.ts'
import { loggedEventDetailSchema, loggedEventPageSchema, loggedEventSchema } from '../event-log/event-schemas.ts'
import { replayInputSchema, replaySchema } from '../replays/replay-schemas.ts'
import type { ReplayService } from '../replays/replay-service.ts'
import { type JsonWebKeySet, NO_ED25519_KEYS } from '../signing/ed25519-keys.ts'
import { statsSchema } from '../stats/stats-schemas.ts'
import type { Statistics } from '../stats/stats-service.ts'
import { deliveryRoutes } from './delivery-routes.ts'
import { endpointPageSchema, endpointRoutes } from './endpoint-routes.ts'
import { eventLogRoutes } from './event-log-routes.ts'
import { eventTypeRoutes, eventTypeSchema } from './event-type-routes.ts'
import { jwkSetSchema, jwksRoutes } from './jwks-routes.ts'
import { BEARER, type SecuritySchemes } from './openapi.ts'
import { openApiRoutes } from './openapi-routes.ts'
import { replayRoutes } from './replay-routes.ts'
import type { Route } from './routes.ts'
import { secretRoutes } from './secret-routes.ts'
import { statsRoutes } from './stats-routes.ts'

export interface RouteDependencies {
  endpoints: EndpointService
  deliveries: DeliveryService
  eventLog: EventLog
  replays: ReplayService
  stats: Statistics
  catalog: AnyCatalog
  /** The public keys of `v1a` signatures. Default none. */
  jwks?: JsonWebKeySet
  /** The envelope in which events are sent, for the document: 0 the contract's, 1 that of Standard Webhooks. Default 0. */
  envelope?: 0 | 1
  /** How callers authenticate, for the document. Default: `BEARER`. */
  securitySchemes?: SecuritySchemes
}

export function apiRoutes(services: RouteDependencies): Route[] {
  const {
    endpoints,
    deliveries,
    eventLog,
    replays,
    stats,
    catalog,
    envelope = 0,
    jwks = NO_ED25519_KEYS.jwks,
    securitySchemes = BEARER,
  } = services
  const routes: Route[] = [
    ...endpointRoutes(endpoints),
    ...secretRoutes(endpoints),
    ...deliveryRoutes(deliveries),
    ...replayRoutes(replays),
    ...statsRoutes(stats),
    ...eventLogRoutes(eventLog),
    ...eventTypeRoutes(catalog),
    ...jwksRoutes(jwks),
    ...openApiRoutes(() => routes, { catalog, envelope, securitySchemes, components: components(services) }),
  ]
  return routes
}

/** What has a name in the OpenAPI document. */
function components({ endpoints: { schemas }, deliveries }: RouteDependencies) {
  return {
    Endpoint: endpointSchema,
    EndpointWithSecret: endpointWithSecretSchema,
    EndpointSecret: endpointSecretSchema,
    EndpointPage: endpointPageSchema,
    EndpointCreate: schemas.create,
    EndpointReplace: schemas.replace,
    EndpointUpdate: schemas.update,
    SecretRotation: schemas.rotateSecret,
    Delivery: deliverySchema,
    DeliveryPage: deliveryPageSchema,
    DeliveryDetail: deliveryDetailSchema,
    Attempt: attemptSchema,
    TestInput: deliveries.schemas.test,
    TestResult: testResultSchema,
    ReplayInput: replayInputSchema,
    Replay: replaySchema,
    Stats: statsSchema,
    Event: loggedEventSchema,
    EventPage: loggedEventPageSchema,
    EventDetail: loggedEventDetailSchema,
    EventType: eventTypeSchema,
    JsonWebKeySet: jwkSetSchema,
  }
}
