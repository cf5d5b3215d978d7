/** Rotate an endpoint's signing secret, and show it to an owner who lost it. */
import { endpointSecretSchema, endpointWithSecretSchema } from '../endpoints/endpoint-schemas.ts'
import type { EndpointService } from '../endpoints/endpoint-service.ts'
import type { Route } from './routes.ts'

const tag = 'secrets'

export function secretRoutes(endpoints: EndpointService): Route[] {
  return [
    {
      method: 'POST',
      path: '/{id}/rotate-secret',
      permission: 'write',
      operationId: 'rotateSecret',
      summary: 'Change the signing secret',
      description:
        'The old secret stays valid beside the new one for `overlap_seconds`. The new one is shown in this answer. There is room for one old secret: rotating again ends the overlap before.',
      tag,
      idempotent: true,
      body: { schema: endpoints.schemas.rotateSecret, required: false, example: { overlap_seconds: 86_400 } },
      responses: { 200: { description: 'The endpoint, with its new secret.', schema: endpointWithSecretSchema } },
      problems: [422],
      handle: (call) =>
        call.once(async () => {
          const write = await endpoints.prepareRotateSecret(call.account, call.params.id ?? '', call.body ?? {})
          return async (scope) => ({ status: 200, body: await write(scope) })
        }),
    },
    {
      method: 'GET',
      path: '/{id}/secret',
      permission: 'secrets',
      operationId: 'revealSecret',
      summary: 'Read the current signing secret',
      tag,
      responses: { 200: { description: 'The secret.', schema: endpointSecretSchema } },
      handle: async (call) => ({
        status: 200,
        body: await endpoints.revealSecret(call.account, call.params.id ?? ''),
      }),
    },
  ]
}
