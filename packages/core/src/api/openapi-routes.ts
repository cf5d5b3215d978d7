/** The API's own description. */
import * as z from 'zod'
import { createOpenApi, type OpenApiOptions } from './openapi.ts'
import type { Route } from './routes.ts'

/** @param routes all of the API, the one made here among them; asked for at the first request */
export function openApiRoutes(routes: () => readonly Route[], options: OpenApiOptions): Route[] {
  let document: ReturnType<typeof createOpenApi> | undefined
  return [
    {
      method: 'GET',
      path: '/openapi.json',
      permission: 'read',
      operationId: 'getOpenApi',
      summary: 'This description, as OpenAPI 3.1',
      tag: 'description',
      responses: { 200: { description: 'The document.', schema: z.looseObject({ openapi: z.string() }) } },
      async handle({ mountPath }) {
        document ??= createOpenApi(routes(), options)
        return { status: 200, body: { ...document, servers: [{ url: mountPath === '' ? '/' : mountPath }] } }
      },
    },
  ]
}
