/** Mounts the Posthaste management API in a Fastify app, version 4 or 5. */
import type { Readable } from 'node:stream'
import type { Authorize, ManagementHandler } from '@posthaste/core'
import { mountPathOf, toRequest } from '@posthaste/core/node'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'

export interface PosthasteFastifyOptions {
  /**
   * Says whose request it is and what it may do: `{ account, permissions }`, or null for 401. What it throws goes to the
   * app's error handler.
   */
  authorize: Authorize<FastifyRequest>
}

/**
 * A plugin for `app.register(posthaste(webhooks, { authorize }), { prefix: '/any/prefix' })`. Encapsulated: its body parsing is
 * its own, the app's hooks run for its routes, too.
 */
export function posthaste(webhooks: ManagementHandler, { authorize }: PosthasteFastifyOptions): FastifyPluginAsync {
  return async (app) => {
    // The handler reads the body itself, with its own limit and its own answer to what is no JSON.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))

    // Fastify has matched the prefix, in its own way (parameters, case): what counts here is how long it is.
    const shape = app.prefix.replaceAll(/[^/]+/g, ':any')

    const answer = async (request: FastifyRequest, reply: FastifyReply) => {
      const body = request.body as Readable | undefined
      const response = await webhooks.handler(toRequest(request.raw, request.url, { stream: body }), {
        mountPath: mountPathOf(request.url, shape) ?? '',
        frameworkRequest: request,
        authorize,
      })
      return await send(response, reply)
    }

    // A media type that Fastify cannot parse never reaches a parser; ours is the better answer to it.
    app.setErrorHandler(async (error, request, reply) => {
      if ((error as { code?: unknown }).code !== 'FST_ERR_CTP_INVALID_MEDIA_TYPE') throw error
      return await answer(request, reply)
    })
    app.all('/', answer)
    app.all('/*', answer)
  }
}

async function send(response: Response, reply: FastifyReply): Promise<FastifyReply> {
  reply.code(response.status)
  for (const [name, value] of response.headers) reply.header(name, value)
  return response.body === null ? reply.send() : reply.send(Buffer.from(await response.arrayBuffer()))
}
