/**
 * The OpenAPI 3.1 document, made from the routes and the schemas that validate. Event types are its `webhooks`: what a
 * receiver is sent.
 */
import * as z from 'zod'
import type { AnyCatalog } from '../catalog/define-events.ts'
import { MAX_KEY_LENGTH } from './idempotency.ts'
import { openApiWebhooks } from './openapi-webhooks.ts'
import { problemSchema } from './problem.ts'
import type { Route } from './routes.ts'

export interface OpenApiOptions {
  catalog: AnyCatalog
  /** The envelope in which events are sent. */
  envelope: 0 | 1
  /** Schemas that get a name in the document, wherever they appear. */
  components: Readonly<Record<string, z.ZodType>>
}

type JsonSchema = Record<string, unknown>

/** Statuses that every operation but the public ones may answer. */
const COMMON_PROBLEMS = [401, 403, 500, 503]

const PROBLEM_DESCRIPTIONS: Readonly<Record<number, string>> = {
  400: 'The body is missing or is no JSON.',
  401: 'The request is not authenticated.',
  403: 'A permission is missing.',
  404: 'There is none of this id.',
  409: 'The state of things does not allow it.',
  413: 'The body is too large.',
  415: 'The body is not JSON, or it is compressed.',
  422: 'The input is not valid; `errors` says where.',
  500: 'Something went wrong that the caller cannot mend.',
  503: 'The database cannot be reached at the moment, or is not migrated yet. `Retry-After` says when to try again.',
}

export function createOpenApi(routes: readonly Route[], options: OpenApiOptions) {
  const converter = createConverter({ Problem: problemSchema, ...options.components })
  const paths: Record<string, Record<string, unknown>> = {}
  for (const route of routes) {
    const item = paths[route.path] ?? pathItem(route.path)
    paths[route.path] = { ...item, [route.method.toLowerCase()]: operation(route, converter) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Webhooks',
      version: '1',
      description:
        'Manage where events are sent. Authentication is that of the application which serves this API. Errors are `application/problem+json` (RFC 9457) with a stable `code`. Every path also works with a slash at its end, HEAD wherever GET does.',
    },
    jsonSchemaDialect: 'https://json-schema.org/draft/2020-12/schema',
    tags: [...new Set(routes.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    webhooks: openApiWebhooks(options.catalog, options.envelope),
    components: { schemas: converter.components },
  }
}

interface Converter {
  components: Record<string, JsonSchema>
  /** A reference where the schema has a name, else the schema itself. */
  convert(schema: z.ZodType): JsonSchema
}

function createConverter(named: Readonly<Record<string, z.ZodType>>): Converter {
  const registry = z.registry<{ id: string }>()
  const names = new Map<z.ZodType, string>()
  for (const [id, schema] of Object.entries(named)) {
    registry.add(schema, { id })
    names.set(schema, id)
  }
  const uri = (id: string) => `#/components/schemas/${id}`
  // Input mode, for answers too: output mode would forbid the members that a later version adds.
  const { schemas } = z.toJSONSchema(registry, { io: 'input', unrepresentable: 'any', uri })
  const components = Object.fromEntries(Object.entries(schemas).map(([id, schema]) => [id, withoutIdentity(schema)]))
  return {
    components,
    convert(schema) {
      const name = names.get(schema)
      if (name !== undefined) return { $ref: uri(name) }
      return withoutIdentity(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }))
    },
  }
}

/** The document says which dialect it is in, and where each schema lies. */
function withoutIdentity(schema: JsonSchema): JsonSchema {
  return Object.fromEntries(Object.entries(schema).filter(([name]) => name !== '$schema' && name !== '$id'))
}

function pathItem(path: string): Record<string, unknown> {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
  if (names.length === 0) return {}
  return { parameters: names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })) }
}

function operation(route: Route, { convert }: Converter) {
  const { operationId, summary, description, tag, permission, body, responses } = route
  const parameters = [...queryParameters(route), ...(route.idempotent === true ? [IDEMPOTENCY_KEY] : [])]
  const answers = Object.entries(responses).map(([status, answer]) => [
    status,
    {
      description: answer.description,
      ...(answer.schema === undefined ? {} : { content: { 'application/json': { schema: convert(answer.schema) } } }),
    },
  ])
  const problems = problemsOf(route).map((status) => [
    status,
    {
      description: PROBLEM_DESCRIPTIONS[status] ?? 'An error.',
      content: { 'application/problem+json': { schema: convert(problemSchema) } },
    },
  ])
  return {
    operationId,
    summary,
    ...(description === undefined ? {} : { description }),
    tags: [tag],
    ...(permission === null ? {} : { 'x-permission': permission }),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: body.required,
            content: { 'application/json': { schema: convert(body.schema) } },
          },
        }),
    responses: Object.fromEntries([...answers, ...problems]),
  }
}

function problemsOf(route: Route): number[] {
  return [
    ...(route.permission === null ? [500, 503] : COMMON_PROBLEMS),
    ...(route.path.includes('{') ? [404] : []),
    ...(route.body === undefined ? [] : [400, 413, 415]),
    ...(route.problems ?? []),
  ].toSorted((a, b) => a - b)
}

const IDEMPOTENCY_KEY = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description: 'A repetition with the same key and body within 24 hours answers as the first one did.',
  schema: { type: 'string', minLength: 1, maxLength: MAX_KEY_LENGTH },
}

function queryParameters({ query }: Route) {
  if (query === undefined) return []
  return Object.entries(query.shape).map(([name, schema]) => {
    const { description, parameter } = (schema as z.ZodType).meta() ?? {}
    return {
      name,
      in: 'query',
      required: false,
      ...(description === undefined ? {} : { description }),
      // What the text stands for, where the schema itself is that of text.
      schema: parameter ?? withoutIdentity(z.toJSONSchema(schema as z.ZodType, { io: 'input' })),
    }
  })
}
