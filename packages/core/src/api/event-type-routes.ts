/** The catalogue: which events there are, and what their data looks like. */
import * as z from 'zod'
import type { AnyCatalog } from '../catalog/define-events.ts'
import type { Route } from './routes.ts'

export const eventTypeSchema = z.object({
  name: z.string(),
  description: z.string(),
  trigger: z.string().describe('What makes it happen.'),
  schema: z.record(z.string(), z.unknown()).describe('JSON Schema (draft 2020-12) of `data`.'),
  example: z.record(z.string(), z.unknown()).describe('A realistic `data`.'),
})

const eventTypesSchema = z.object({ data: z.array(eventTypeSchema) })

export function eventTypeRoutes(catalog: AnyCatalog): Route[] {
  return [
    {
      method: 'GET',
      path: '/event-types',
      permission: 'read',
      operationId: 'listEventTypes',
      summary: 'List the event types',
      tag: 'event types',
      responses: { 200: { description: 'All of them, in the order of the catalogue.', schema: eventTypesSchema } },
      handle: async () => ({ status: 200, body: { data: catalog.types.map((type) => describeType(catalog, type)) } }),
    },
  ]
}

function describeType(catalog: AnyCatalog, name: string) {
  const { description, trigger, example } = catalog.get(name)
  return { name, description, trigger, schema: catalog.jsonSchema(name), example }
}
