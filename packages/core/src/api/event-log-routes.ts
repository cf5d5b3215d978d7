/** The event log. */
import * as z from 'zod'
import { validateInput } from '../endpoints/validate-input.ts'
import type { EventLog } from '../event-log/event-log-service.ts'
import { eventQuerySchema, loggedEventDetailSchema, loggedEventPageSchema } from '../event-log/event-schemas.ts'
import { pageQuery } from './query-members.ts'
import type { Route } from './routes.ts'

const tag = 'events'

const listQuery = z.object({ ...eventQuerySchema.shape, ...pageQuery })

export function eventLogRoutes(eventLog: EventLog): Route[] {
  return [
    {
      method: 'GET',
      path: '/events',
      permission: 'read',
      operationId: 'listEvents',
      summary: 'List what was emitted, newest first',
      description:
        'Each event with its deliveries. With `event` a page may hold fewer than `limit`, even none, and have a next one all the same.',
      tag,
      query: listQuery,
      responses: { 200: { description: 'A page of events.', schema: loggedEventPageSchema } },
      problems: [422],
      async handle(call) {
        const query = validateInput(listQuery, call.query, 'The query')
        return { status: 200, body: await eventLog.list(call.account, query) }
      },
    },
    {
      method: 'GET',
      path: '/events/{id}',
      permission: 'read',
      operationId: 'getEvent',
      summary: 'Read an event with its data and its deliveries',
      tag,
      responses: { 200: { description: 'The event.', schema: loggedEventDetailSchema } },
      handle: async (call) => ({ status: 200, body: await eventLog.get(call.account, call.params.id ?? '') }),
    },
  ]
}
