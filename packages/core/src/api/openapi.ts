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
  securitySchemes: SecuritySchemes
  /** Schemas that get a name in the document, wherever they appear. */
  components: Readonly<Record<string, z.ZodType>>
}

/**
 * Ways to authenticate, of which any one will do, by name: Security Scheme Objects of OpenAPI 3.1 (4.8.27), such as
 * `{ apiKey: { type: 'apiKey', in: 'header', name: 'X-Api-Key' } }`.
 */
export type SecuritySchemes = Readonly<Record<string, SecurityScheme>>

export interface SecurityScheme {
  type: 'apiKey' | 'http' | 'mutualTLS' | 'oauth2' | 'openIdConnect'
  description?: string
  [member: string]: unknown
}

/** As the 401 answers challenge. */
export const BEARER: SecuritySchemes = { bearer: { type: 'http', scheme: 'bearer' } }

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

const TAG_DESCRIPTIONS: Readonly<Record<string, string>> = {
  endpoints: 'Where events are sent.',
  secrets: 'What deliveries are signed with.',
  deliveries: 'The log of what was sent to an endpoint; to try again, and to try out.',
  replays: 'To send again in bulk.',
  statistics: 'Counts, success rate and latency of an endpoint.',
  events: 'The log of what was emitted.',
  'event types': 'What can be subscribed to.',
  'public keys': 'To verify `v1a` signatures.',
  description: 'This document.',
}

/** What the ids in a path look like, by its first segment; all others are those of endpoints. */
const ID_KINDS: Readonly<Record<string, readonly [prefix: string, what: string]>> = {
  deliveries: ['dlv', 'The id of a delivery.'],
  replays: ['rpl', 'The id of a replay.'],
  events: ['evt', 'The id of an event.'],
}

/** Headers of problems, by status. */
const PROBLEM_HEADERS: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  401: { 'WWW-Authenticate': 'How to authenticate (RFC 9110, 11.6.1).' },
  503: { 'Retry-After': 'Seconds after which to try again.' },
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
        'Manage where events are sent. Errors are `application/problem+json` (RFC 9457) with a stable `code`. Every path also works with a slash at its end, HEAD wherever GET does.',
    },
    jsonSchemaDialect: 'https://json-schema.org/draft/2020-12/schema',
    tags: [...new Set(routes.map(({ tag }) => tag))].map((name) => ({ name, description: TAG_DESCRIPTIONS[name] })),
    security: Object.keys(options.securitySchemes).map((name) => ({ [name]: [] })),
    paths,
    webhooks: openApiWebhooks(options.catalog, options.envelope),
    components: { schemas: converter.components, securitySchemes: options.securitySchemes },
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
  const [prefix, description] = ID_KINDS[path.split('/')[1] ?? ''] ?? ['ep', 'The id of an endpoint.']
  const schema = { type: 'string', pattern: `^${prefix}_[0-9a-f]{32}$` }
  return { parameters: names.map((name) => ({ name, in: 'path', required: true, description, schema })) }
}

function operation(route: Route, { convert }: Converter) {
  const { operationId, summary, description, tag, permission, body, responses } = route
  const parameters = [...queryParameters(route), ...(route.idempotent === true ? [IDEMPOTENCY_KEY] : [])]
  const answers = Object.entries(responses).map(([status, answer]) => [
    status,
    {
      description: answer.description,
      ...headersOf({ ...answer.headers, ...(route.idempotent === true ? REPLAYED : {}) }),
      ...(answer.schema === undefined ? {} : { content: { 'application/json': { schema: convert(answer.schema) } } }),
    },
  ])
  const problems = problemsOf(route).map((status) => [
    status,
    {
      description: PROBLEM_DESCRIPTIONS[status] ?? 'An error.',
      ...headersOf(PROBLEM_HEADERS[status] ?? {}),
      content: { 'application/problem+json': { schema: convert(problemSchema) } },
    },
  ])
  return {
    operationId,
    summary,
    ...(description === undefined ? {} : { description }),
    tags: [tag],
    ...(permission === null ? { security: [] } : { 'x-permission': permission }),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: body.required,
            content: {
              'application/json': {
                schema: convert(body.schema),
                ...(body.example === undefined ? {} : { example: body.example }),
              },
            },
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

const REPLAYED = { 'Idempotency-Replayed': '`true` where this is the answer that was kept under the Idempotency-Key.' }

function headersOf(descriptions: Readonly<Record<string, string>>) {
  const entries = Object.entries(descriptions)
  if (entries.length === 0) return {}
  const schema = { type: 'string' }
  return { headers: Object.fromEntries(entries.map(([name, description]) => [name, { description, schema }])) }
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
  return Object.entries(query.shape).map(([name, member]) => {
    const { parameter } = (member as z.ZodType).meta() ?? {}
    const {
      description,
      parameter: _,
      ...schema
    } = withoutIdentity(z.toJSONSchema(member as z.ZodType, { io: 'input' }))
    return {
      name,
      in: 'query',
      required: false,
      ...(description === undefined ? {} : { description }),
      // What the text stands for, where the schema itself is that of text.
      schema: parameter ?? schema,
    }
  })
}
