/** What a route is, and how a path finds it. */
import type * as z from 'zod'
import type { PreparedWrite } from '../storage/tables.ts'
import type { Permission } from './authorization.ts'

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** What an operation is called with. */
export interface ApiCall {
  account: string
  /** The path's placeholders, decoded. */
  params: Readonly<Record<string, string>>
  /** The query's members as text; of a repeated one the last. */
  query: Readonly<Record<string, string>>
  /** The parsed body; undefined where there is none. */
  body: unknown
  /** Where the host mounted the API, without a slash at its end. */
  mountPath: string
  /**
   * Runs a write of a POST at most once per `Idempotency-Key`: `prepare` checks what can be checked without the database, and
   * what it returns runs in one transaction with the record of the answer.
   */
  once(prepare: () => Promise<PreparedWrite<ApiResult>>): Promise<ApiResult>
}

export interface ApiResult {
  status: number
  /** Undefined for an answer without a body. */
  body?: unknown
  headers?: Readonly<Record<string, string>>
}

/** A possible answer, for the document. */
export interface ApiResponse {
  description: string
  schema?: z.ZodType
  /** What its headers say, by name. */
  headers?: Readonly<Record<string, string>>
}

/** One operation: everything that the router and the OpenAPI document need to know of it. */
export interface Route {
  method: Method
  /** Segments beginning with `/`, placeholders in braces: `/{id}/secret`. The list itself is `/`. */
  path: string
  /** Null for what anyone may see. */
  permission: Permission | null
  operationId: string
  summary: string
  description?: string
  tag: string
  /** It runs its write by `once`, so that `Idempotency-Key` applies. */
  idempotent?: boolean
  /** Members of the query, from text. Where one has `parameter` in its metadata, that is its schema in the document. */
  query?: z.ZodObject
  /** The body's schema. The operation checks it, through the service that it calls. */
  body?: { schema: z.ZodType; required: boolean; example?: unknown }
  /** Answers by status. */
  responses: Readonly<Record<number, ApiResponse>>
  /** Statuses of the problems that it may answer, besides those of every operation. */
  problems?: readonly number[]
  handle(call: ApiCall): Promise<ApiResult>
}

/** All operations of one path. */
export interface RoutedPath {
  routes: ReadonlyMap<Method, Route>
  /** The value of `Allow`. */
  allow: string
  params: Record<string, string>
}

export type Router = (path: string) => RoutedPath | null

interface PathNode {
  segments: string[]
  routes: Map<Method, Route>
}

/** Finds the operations of a path. A literal segment wins over a placeholder, from left to right. */
export function createRouter(routes: readonly Route[]): Router {
  const paths = new Map<string, PathNode>()
  for (const route of routes) {
    const node = paths.get(route.path) ?? { segments: segmentsOf(route.path), routes: new Map() }
    if (node.routes.has(route.method)) throw new Error(`${route.method} ${route.path} is routed twice`)
    node.routes.set(route.method, route)
    paths.set(route.path, node)
  }
  const nodes = [...paths.values()].toSorted(byPrecedence)

  return (path) => {
    const segments = decodedSegments(path)
    if (segments === null) return null
    for (const node of nodes) {
      const params = matchSegments(node.segments, segments)
      if (params !== null) return { routes: node.routes, allow: allowOf(node.routes), params }
    }
    return null
  }
}

const isPlaceholder = (segment: string) => segment.startsWith('{')

function byPrecedence(a: PathNode, b: PathNode): number {
  if (a.segments.length !== b.segments.length) return a.segments.length - b.segments.length
  for (const [index, segment] of a.segments.entries()) {
    const order = Number(isPlaceholder(segment)) - Number(isPlaceholder(b.segments[index] ?? ''))
    if (order !== 0) return order
  }
  return 0
}

function segmentsOf(path: string): string[] {
  return path === '/' ? [] : path.slice(1).split('/')
}

/** With one slash at the end or none; null where a segment is empty or not what URLs are made of. */
function decodedSegments(path: string): string[] | null {
  const segments = segmentsOf(path === '' ? '/' : path)
  if (segments.at(-1) === '') segments.pop()
  try {
    const decoded = segments.map(decodeURIComponent)
    return decoded.includes('') ? null : decoded
  } catch {
    return null
  }
}

function matchSegments(pattern: readonly string[], segments: readonly string[]): Record<string, string> | null {
  if (pattern.length !== segments.length) return null
  const params: Record<string, string> = {}
  for (const [index, expected] of pattern.entries()) {
    const segment = segments[index] ?? ''
    if (isPlaceholder(expected)) params[expected.slice(1, -1)] = segment
    else if (expected !== segment) return null
  }
  return params
}

function allowOf(routes: ReadonlyMap<Method, Route>): string {
  const methods: string[] = [...routes.keys()]
  if (routes.has('GET')) methods.push('HEAD')
  return [...methods, 'OPTIONS'].toSorted().join(', ')
}
