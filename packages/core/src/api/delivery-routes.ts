/** The delivery log, trying a delivery again, and trying an endpoint out. */
import * as z from 'zod'
import {
  deliveryDetailSchema,
  deliveryPageSchema,
  deliveryQuerySchema,
  deliverySchema,
  testResultSchema,
} from '../deliveries/delivery-schemas.ts'
import type { DeliveryService } from '../deliveries/delivery-service.ts'
import { validateInput } from '../endpoints/validate-input.ts'
import { pageQuery } from './query-members.ts'
import type { ApiCall, Route } from './routes.ts'

const tag = 'deliveries'

const listQuery = z.object({ ...deliveryQuerySchema.shape, ...pageQuery })

const idOf = (call: ApiCall) => call.params.id ?? ''

export function deliveryRoutes(deliveries: DeliveryService): Route[] {
  return [
    {
      method: 'GET',
      path: '/{id}/deliveries',
      permission: 'read',
      operationId: 'listDeliveries',
      summary: "List an endpoint's deliveries, newest first",
      description:
        'In the order in which they were made. With `status` or `event` a page may hold fewer than `limit`, even none, and have a next one all the same. The log of a deleted endpoint stays.',
      tag,
      query: listQuery,
      responses: { 200: { description: 'A page of deliveries.', schema: deliveryPageSchema } },
      problems: [422],
      async handle(call) {
        const query = validateInput(listQuery, call.query, 'The query')
        return { status: 200, body: await deliveries.list(call.account, idOf(call), query) }
      },
    },
    {
      method: 'GET',
      path: '/deliveries/{id}',
      permission: 'read',
      operationId: 'getDelivery',
      summary: 'Read a delivery with its attempts',
      tag,
      responses: { 200: { description: 'The delivery.', schema: deliveryDetailSchema } },
      handle: async (call) => ({ status: 200, body: await deliveries.get(call.account, idOf(call)) }),
    },
    {
      method: 'POST',
      path: '/deliveries/{id}/retry',
      permission: 'replay',
      operationId: 'retryDelivery',
      summary: 'Try a delivery again now',
      description:
        'Whatever its status, past back-off, rate limit and order. A failure cancels none of the attempts that the schedule has left; where an attempt is under way already, that is the one. The answer shows the delivery as it was.',
      tag,
      idempotent: true,
      responses: { 202: { description: 'It will be attempted within a second.', schema: deliverySchema } },
      problems: [409, 422],
      handle: (call) =>
        call.once(async () => {
          const write = deliveries.prepareRetry(call.account, idOf(call))
          return async (scope) => ({ status: 202, body: await write(scope) })
        }),
    },
    {
      method: 'POST',
      path: '/{id}/test',
      permission: 'test',
      operationId: 'testEndpoint',
      summary: 'Send an example to an endpoint now',
      description:
        'Once, signed like a delivery, outside of its subscriptions, to an inactive endpoint too. It is in no log, and a failure counts for nothing.',
      tag,
      body: { schema: deliveries.schemas.test, required: false },
      responses: { 200: { description: 'What became of it, also where it failed.', schema: testResultSchema } },
      problems: [409, 422],
      async handle(call) {
        const input = validateInput(deliveries.schemas.test, call.body ?? {}, 'The test')
        return { status: 200, body: await deliveries.sendTest(call.account, idOf(call), input) }
      },
    },
  ]
}
