/** Create, list, read, change, replace and delete endpoints. */
import * as z from 'zod'
import { endpointSchema, endpointWithSecretSchema } from '../endpoints/endpoint-schemas.ts'
import type { EndpointService } from '../endpoints/endpoint-service.ts'
import { pageSchema } from '../endpoints/page-cursor.ts'
import { validateInput } from '../endpoints/validate-input.ts'
import { flag, pageQuery } from './query-members.ts'
import type { ApiCall, Route } from './routes.ts'

const tag = 'endpoints'

export const endpointPageSchema = pageSchema(endpointSchema)

const listQuery = z.object({ ...pageQuery, active: flag('Only those whose owner wants them active, or not.') })

const idOf = (call: ApiCall) => call.params.id ?? ''

export function endpointRoutes(endpoints: EndpointService): Route[] {
  const { schemas } = endpoints
  return [
    {
      method: 'POST',
      path: '/',
      permission: 'write',
      operationId: 'createEndpoint',
      summary: 'Create an endpoint',
      description: 'The signing secret is shown in this answer. An Idempotency-Key makes a repetition answer the same.',
      tag,
      idempotent: true,
      body: {
        schema: schemas.create,
        required: true,
        example: { url: 'https://your-app.com/webhooks', events: ['*'], secret: 'your_webhook_secret', active: true },
      },
      responses: {
        201: {
          description: 'The new endpoint, with its secret.',
          schema: endpointWithSecretSchema,
          headers: { Location: 'The path of the endpoint.' },
        },
      },
      problems: [409, 422],
      handle: (call) =>
        call.once(async () => {
          const write = await endpoints.prepareCreate(call.account, call.body)
          return async (scope) => {
            const created = await write(scope)
            return { status: 201, body: created, headers: { location: `${call.mountPath}/${created.id}` } }
          }
        }),
    },
    {
      method: 'GET',
      path: '/',
      permission: 'read',
      operationId: 'listEndpoints',
      summary: 'List endpoints, newest first',
      tag,
      query: listQuery,
      responses: { 200: { description: 'A page of endpoints.', schema: endpointPageSchema } },
      problems: [422],
      async handle(call) {
        const query = validateInput(listQuery, call.query, 'The query')
        return { status: 200, body: await endpoints.list(call.account, query) }
      },
    },
    {
      method: 'GET',
      path: '/{id}',
      permission: 'read',
      operationId: 'getEndpoint',
      summary: 'Read an endpoint',
      tag,
      responses: { 200: { description: 'The endpoint.', schema: endpointSchema } },
      handle: async (call) => ({ status: 200, body: await endpoints.get(call.account, idOf(call)) }),
    },
    {
      method: 'PATCH',
      path: '/{id}',
      permission: 'write',
      operationId: 'updateEndpoint',
      summary: 'Change some members of an endpoint',
      description:
        '`headers` and `metadata` are replaced as a whole. Another `secret` is a rotation with the default overlap; `active: true` also enables a disabled endpoint.',
      tag,
      body: { schema: schemas.update, required: true, example: { active: true } },
      responses: { 200: { description: 'The endpoint.', schema: endpointSchema } },
      problems: [422],
      async handle(call) {
        const changes = validateInput(schemas.update, call.body, 'The change')
        return { status: 200, body: await endpoints.update(call.account, idOf(call), changes) }
      },
    },
    {
      method: 'PUT',
      path: '/{id}',
      permission: 'write',
      operationId: 'replaceEndpoint',
      summary: 'Replace an endpoint',
      description:
        'Members left out become what a new endpoint has, but an omitted `secret` is kept, and so is a redacted header value sent back.',
      tag,
      body: {
        schema: schemas.replace,
        required: true,
        example: { url: 'https://your-app.com/webhooks', events: ['*'], headers: { 'X-Api-Key': '***' } },
      },
      responses: { 200: { description: 'The endpoint.', schema: endpointSchema } },
      problems: [422],
      async handle(call) {
        const endpoint = validateInput(schemas.replace, call.body, 'The endpoint')
        return { status: 200, body: await endpoints.replace(call.account, idOf(call), endpoint) }
      },
    },
    {
      method: 'DELETE',
      path: '/{id}',
      permission: 'write',
      operationId: 'deleteEndpoint',
      summary: 'Delete an endpoint',
      description: 'Nothing more is sent to it; what waited is cancelled.',
      tag,
      responses: { 204: { description: 'It is gone.' } },
      async handle(call) {
        await endpoints.remove(call.account, idOf(call))
        return { status: 204 }
      },
    },
  ]
}
