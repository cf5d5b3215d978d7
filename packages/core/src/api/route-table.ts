/** Every operation of the management API: one file per area, one small handler per operation. A further area is a line here. */
import type { AnyCatalog } from '../catalog/define-events.ts'
import { endpointSchema, endpointSecretSchema, endpointWithSecretSchema } from '../endpoints/endpoint-schemas.ts'
import type { EndpointService } from '../endpoints/endpoint-service.ts'
import { endpointPageSchema, endpointRoutes } from './endpoint-routes.ts'
import { eventTypeRoutes, eventTypeSchema } from './event-type-routes.ts'
import { openApiRoutes } from './openapi-routes.ts'
import type { Route } from './routes.ts'
import { secretRoutes } from './secret-routes.ts'

export interface RouteDependencies {
  endpoints: EndpointService
  catalog: AnyCatalog
  /** The envelope in which events are sent, for the document: 0 the contract's, 1 that of Standard Webhooks. Default 0. */
  envelope?: 0 | 1
}

export function apiRoutes({ endpoints, catalog, envelope = 0 }: RouteDependencies): Route[] {
  const routes: Route[] = [
    ...endpointRoutes(endpoints),
    ...secretRoutes(endpoints),
    ...eventTypeRoutes(catalog),
    ...openApiRoutes(() => routes, { catalog, envelope, components: components(endpoints) }),
  ]
  return routes
}

/** What has a name in the OpenAPI document. */
function components({ schemas }: EndpointService) {
  return {
    Endpoint: endpointSchema,
    EndpointWithSecret: endpointWithSecretSchema,
    EndpointSecret: endpointSecretSchema,
    EndpointPage: endpointPageSchema,
    EndpointCreate: schemas.create,
    EndpointReplace: schemas.replace,
    EndpointUpdate: schemas.update,
    SecretRotation: schemas.rotateSecret,
    EventType: eventTypeSchema,
  }
}
