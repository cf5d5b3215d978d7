/** Mounts the Posthaste management API in an Express app, version 4 or 5. */
import type { Authorize, ManagementHandler } from '@posthaste/core'
import { toRequest, writeResponse } from '@posthaste/core/node'
import type { Request, RequestHandler } from 'express'

export interface PosthasteExpressOptions {
  /**
   * Says whose request it is and what it may do: `{ account, permissions }`, or null for 401. What it throws goes to the
   * app's error handlers.
   */
  authorize: Authorize<Request>
}

/**
 * A handler for `app.use('/any/prefix', posthaste(webhooks, { authorize }))`, on an app or a router, before or after the host's
 * own body parsers.
 */
export function posthaste(webhooks: ManagementHandler, { authorize }: PosthasteExpressOptions): RequestHandler {
  return async (request, response, next) => {
    try {
      // Together they are what the host's rewriting has made of the URL; an absolute one comes in originalUrl alone.
      const { baseUrl, url, originalUrl } = request
      const target = url.startsWith('/') ? baseUrl + url : originalUrl
      const read = { raw: (request as { rawBody?: unknown }).rawBody, parsed: request.body as unknown }
      const context = { mountPath: baseUrl, frameworkRequest: request, authorize }
      await writeResponse(await webhooks.handler(toRequest(request, target, read), context), response)
    } catch (error) {
      next(error)
    }
  }
}
