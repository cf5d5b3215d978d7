/** Statistics of an endpoint. */
import { validateInput } from '../endpoints/validate-input.ts'
import { statsQuerySchema, statsSchema } from '../stats/stats-schemas.ts'
import type { Statistics } from '../stats/stats-service.ts'
import type { Route } from './routes.ts'

export function statsRoutes(stats: Statistics): Route[] {
  return [
    {
      method: 'GET',
      path: '/{id}/stats',
      permission: 'read',
      operationId: 'getStats',
      summary: 'Read statistics of an endpoint',
      description: 'Counts by status, success rate and latency over a window, and the same by hour for a plot.',
      tag: 'statistics',
      query: statsQuerySchema,
      responses: { 200: { description: 'The statistics.', schema: statsSchema } },
      problems: [422],
      async handle(call) {
        const query = validateInput(statsQuerySchema.strip(), call.query, 'The query')
        return { status: 200, body: await stats.get(call.account, call.params.id ?? '', query) }
      },
    },
  ]
}
