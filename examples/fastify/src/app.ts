import type { AddressInfo } from 'node:net'
import { posthaste } from '@posthaste/fastify'
import fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyReply } from 'fastify'
import {
  type Caller,
  followLink,
  type Listening,
  notFound,
  PROBLEM_TYPE,
  type Problem,
  problemText,
  type Shop,
  shopOperations,
  toProblem,
} from '../../affiliate/src/shop/index.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the shop's own API. */
    caller: Caller
  }
}

export async function listen(shop: Shop, port: number): Promise<Listening> {
  const app = await createApp(shop)
  // Fastify listens on the loopback interface unless it is told otherwise.
  await app.listen({ port, host: '0.0.0.0' })
  return { port: (app.server.address() as AddressInfo).port, close: () => app.close() }
}

/** The whole application. */
async function createApp(shop: Shop): Promise<FastifyInstance> {
  const { program, webhooks, apiKeys, log } = shop
  const app = fastify({ routerOptions: { ignoreTrailingSlash: true } })
  // Before the plugins, which take over what is set here.
  app.setErrorHandler((error, _request, reply) => answer(reply, toProblem(error, log)))
  app.setNotFoundHandler((request, reply) => answer(reply, notFound(request.method, request.url)))

  await app.register(
    posthaste(webhooks, {
      authorize(request) {
        const caller = apiKeys.recognise(request.headers.authorization)
        // A shop with many merchants would answer the merchant's id here.
        return caller && { account: 'default', permissions: caller.permissions }
      },
    }),
    { prefix: '/api/v1/affiliate/webhooks' },
  )
  await app.register(programRoutes(shop), { prefix: '/api/v1/affiliate' })

  app.get<{ Params: { slug: string } }>('/r/:slug', async (request, reply) => {
    const target = await followLink(program, request.params.slug, request.headers.referer)
    return reply.header('Cache-Control', 'no-store').redirect(target, 302)
  })
  return app
}

/** The shop's own API. */
function programRoutes({ program, apiKeys }: Shop): FastifyPluginAsync {
  return async (api) => {
    // Before the body is read.
    api.addHook('onRequest', async (request) => {
      request.caller = apiKeys.require(request.headers.authorization)
    })
    for (const { method, path, handle } of shopOperations) {
      api.route({
        method,
        url: path,
        bodyLimit: 100 * 1024,
        handler: async (request, reply) => {
          const result = await handle(program, {
            caller: request.caller,
            path: request.url,
            params: request.params as Record<string, unknown>,
            query: request.query as Record<string, unknown>,
            body: request.body,
          })
          if (result.location !== undefined) reply.header('Location', `${api.prefix}${result.location}`)
          return reply.code(result.status).send(result.body)
        },
      })
    }
  }
}

function answer(reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.status === 401) reply.header('WWW-Authenticate', 'Bearer')
  return reply.code(problem.status).type(PROBLEM_TYPE).send(problemText(problem))
}
