/** The management API as one function from Request to Response. Adapters only translate to it and from it. */
import { PosthasteError } from '../errors.ts'
import { errorFields, type Logger } from '../logger.ts'
import { type Authorization, type Authorize, permittedAccount } from './authorization.ts'
import { type Idempotency, idempotencyKey, type KeyedRequest } from './idempotency.ts'
import { type JsonBody, readJsonBody } from './json-body.ts'
import { jsonResponse, withoutBody } from './json-response.ts'
import { isCallersError, problemResponse } from './problem.ts'
import { apiRoutes, type RouteDependencies } from './route-table.ts'
import { type ApiResult, createRouter, type Method, type Route } from './routes.ts'

/** 256 KiB: 100 events, 20 headers and 50 members of metadata at their longest fit several times. */
export const DEFAULT_BODY_LIMIT_BYTES = 256 * 1024

export interface HandlerDependencies extends RouteDependencies {
  idempotency: Idempotency
  tenancy: 'single' | 'multi'
  logger: Logger
  /** Of a request's body. Default 262,144. */
  bodyLimitBytes?: number
}

export interface HandlerContext<FrameworkRequest> {
  /** The path under which the host mounted the API, as the request has it: `/api/v1/affiliate/webhooks`; empty at the root. */
  mountPath: string
  /** What `authorize` is given. */
  frameworkRequest: FrameworkRequest
  authorize: Authorize<FrameworkRequest>
}

/**
 * Answers one request of the management API. Everything is answered, also what goes wrong; it rejects only with what
 * `authorize` threw, which is the framework's to handle, and with `CONFIG_INVALID` where the context is not one.
 */
export type Handler = <FrameworkRequest>(
  request: Request,
  context: HandlerContext<FrameworkRequest>,
) => Promise<Response>

/** What an adapter needs of `webhooks`. */
export interface ManagementHandler {
  readonly handler: Handler
}

interface Located {
  route: Route
  params: Record<string, string>
  mountPath: string
  url: URL
}

export function createHandler(deps: HandlerDependencies): Handler {
  const router = createRouter(apiRoutes(deps))
  const bodyLimitBytes = deps.bodyLimitBytes ?? DEFAULT_BODY_LIMIT_BYTES

  /** The operation that the request asks for, or the answer where there is none. */
  function locate(request: Request, mount: string): Located | Response {
    const url = new URL(request.url)
    const mountPath = normaliseMountPath(mount)
    const path = pathBelow(url.pathname, mountPath)
    const found = path === null ? null : router(path)
    if (found === null) throw new PosthasteError('NOT_FOUND', 'There is nothing at this path.')
    if (request.method === 'OPTIONS') return jsonResponse(204, undefined, { allow: found.allow })
    const method = request.method === 'HEAD' ? 'GET' : request.method
    const route = found.routes.get(method as Method)
    if (route !== undefined) return { route, params: found.params, mountPath, url }
    throw new PosthasteError('METHOD_NOT_ALLOWED', `This path knows ${found.allow}.`, {
      headers: { allow: found.allow },
    })
  }

  async function run(
    request: Request,
    { route, params, mountPath, url }: Located,
    authorization: Authorization | null | undefined,
  ): Promise<ApiResult> {
    const account = route.permission === null ? '' : permittedAccount(authorization, route.permission, deps.tenancy)
    const body: JsonBody =
      route.body === undefined
        ? { bytes: new Uint8Array(), value: undefined }
        : await readJsonBody(request, bodyLimitBytes)
    if (route.body?.required === true && body.value === undefined) {
      throw new PosthasteError('MALFORMED_JSON', 'This needs a body, and there is none.')
    }
    return await route.handle({
      account,
      params,
      query: Object.fromEntries(url.searchParams),
      body: body.value,
      mountPath,
      async once(prepare) {
        const key = idempotencyKey(request.headers)
        const keyed: KeyedRequest | null =
          key === null ? null : { account, key, operation: operationOf(route, params), body: body.bytes }
        return await deps.idempotency.run(keyed, prepare)
      },
    })
  }

  function answerError(error: unknown, request: Request, route: Route | null): Response {
    if (!isCallersError(error)) {
      // The route's pattern, not the path or the body: those are the caller's.
      const where = route === null ? {} : { operation: route.operationId }
      deps.logger.error('A request of the management API failed.', {
        method: request.method,
        ...where,
        ...errorFields(error),
      })
    }
    return problemResponse(error)
  }

  return async (request, context) => {
    requireContext(context)
    const located = attempt(
      () => locate(request, context.mountPath),
      (error) => answerError(error, request, null),
    )
    if (located instanceof Response) return await finish(request, located)
    const { route } = located
    const authorization = route.permission === null ? null : await context.authorize(context.frameworkRequest)
    try {
      const { status, body, headers } = await run(request, located, authorization)
      return await finish(request, jsonResponse(status, body, headers))
    } catch (error) {
      return await finish(request, answerError(error, request, route))
    }
  }
}

/** A mistake of the host's, not of the caller's: his framework shows it, as it shows what `authorize` throws. */
function requireContext({ mountPath, authorize }: { mountPath?: unknown; authorize?: unknown } = {}): void {
  const missing = typeof mountPath !== 'string' ? 'mountPath' : typeof authorize !== 'function' ? 'authorize' : null
  if (missing === null) return
  throw new PosthasteError(
    'CONFIG_INVALID',
    `webhooks.handler needs \`${missing}\`: handler(request, { mountPath, authorize, frameworkRequest }), with the path that ` +
      `the API is mounted under ('' at the root) and a function that says whose request it is.`,
  )
}

function attempt<T>(work: () => T, onError: (error: unknown) => T): T {
  try {
    return work()
  } catch (error) {
    return onError(error)
  }
}

async function finish(request: Request, response: Response): Promise<Response> {
  return request.method === 'HEAD' ? await withoutBody(response) : response
}

function operationOf(route: Route, params: Readonly<Record<string, string>>): string {
  return `${route.method} ${route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => params[name] ?? '')}`
}

/** In the form that `URL` gives paths, and without a slash at its end. */
function normaliseMountPath(mountPath: string): string {
  const path = mountPath.replace(/\/+$/, '')
  return path === '' ? '' : new URL(`http://localhost${path.startsWith('/') ? '' : '/'}${path}`).pathname
}

function pathBelow(path: string, mountPath: string): string | null {
  if (!path.startsWith(mountPath)) return null
  const rest = path.slice(mountPath.length)
  return rest === '' || rest.startsWith('/') ? rest : null
}
