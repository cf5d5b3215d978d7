/** Mounts the Posthaste management API in a Koa app, version 2 or 3. */
import type { Authorize, ManagementHandler } from '@posthaste/core'
import { mountPathOf, pathOf, toRequest } from '@posthaste/core/node'
import type { Context, Middleware } from 'koa'

export interface PosthasteKoaOptions {
  /**
   * Says whose request it is and what it may do: `{ account, permissions }`, or null for 401. What it throws goes to the
   * app's error handling.
   */
  authorize: Authorize<Context>
  /**
   * The path of the API, as the middleware sees paths; a segment such as `:shop` stands for any. Requests outside of it go on
   * to the next middleware. Leave it out under koa-mount, which takes its own prefix away, and at the root.
   */
  prefix?: string
}

/**
 * A middleware for `app.use(posthaste(webhooks, { authorize, prefix: '/any/prefix' }))`, for
 * `app.use(mount('/any/prefix', posthaste(webhooks, { authorize })))` of koa-mount, and for a route of @koa/router (with the
 * `prefix` of the whole path).
 */
export function posthaste(webhooks: ManagementHandler, { authorize, prefix = '' }: PosthasteKoaOptions): Middleware {
  return async (ctx, next) => {
    const below = mountPathOf(ctx.path, prefix)
    if (below === null) return await next()
    const mountPath = takenAway(ctx) + below
    const target = takenAway(ctx) + ctx.path + ctx.search
    const read = ctx.request as { rawBody?: unknown; body?: unknown }
    const request = toRequest(ctx.req, target, { raw: read.rawBody, parsed: read.body })
    await write(await webhooks.handler(request, { mountPath, frameworkRequest: ctx, authorize }), ctx)
  }
}

/** What koa-mount, however often, has taken from the front of the path. */
function takenAway({ originalUrl, path }: Context): string {
  const original = pathOf(originalUrl)
  if (original.endsWith(path)) return original.slice(0, original.length - path.length)
  // It makes `/` of what was nothing.
  return path === '/' ? original : ''
}

async function write(response: Response, ctx: Context): Promise<void> {
  ctx.status = response.status
  for (const [name, value] of response.headers) ctx.set(name, value)
  if (response.body !== null) ctx.body = Buffer.from(await response.arrayBuffer())
}
