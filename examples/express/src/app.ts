import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { posthaste } from '@posthaste/express'
import express, { type ErrorRequestHandler, type Express, type Response, Router } from 'express'
import {
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

export async function listen(shop: Shop, port: number): Promise<Listening> {
  const server = createApp(shop).listen(port)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: () => new Promise((done) => server.close(() => done())),
  }
}

/** The whole application. */
export function createApp(shop: Shop): Express {
  const { program, webhooks, apiKeys, log } = shop
  const app = express()
  app.disable('x-powered-by')

  // Before the shop's own routes and their JSON parser: Posthaste reads the body itself.
  app.use(
    '/api/v1/affiliate/webhooks',
    posthaste(webhooks, {
      authorize(request) {
        const caller = apiKeys.recognise(request.headers.authorization)
        // A shop with many merchants would answer the merchant's id here.
        return caller && { account: 'default', permissions: caller.permissions }
      },
    }),
  )
  app.use('/api/v1/affiliate', programRoutes(shop))

  app.get('/r/:slug', async (request, response) => {
    const target = await followLink(program, request.params.slug, request.get('referer'))
    response.set('Cache-Control', 'no-store').redirect(302, target)
  })

  app.use((request, response) => answer(response, notFound(request.method, request.path)))
  const answerErrors: ErrorRequestHandler = (error, _request, response, next) => {
    if (response.headersSent) return next(error)
    answer(response, toProblem(error, log))
  }
  app.use(answerErrors)
  return app
}

/** The shop's own API. */
function programRoutes({ program, apiKeys }: Shop): Router {
  const router = Router()
  router.use((request, response, next) => {
    response.locals.caller = apiKeys.require(request.headers.authorization)
    next()
  })
  router.use(express.json({ limit: '100kb' }))
  for (const { method, path, handle } of shopOperations) {
    router[method === 'GET' ? 'get' : 'post'](path, async (request, response) => {
      const { caller } = response.locals
      const { params, query, body } = request
      const result = await handle(program, { caller, path: request.path, params, query, body })
      if (result.location !== undefined) response.location(`${request.baseUrl}${result.location}`)
      response.status(result.status).json(result.body)
    })
  }
  return router
}

function answer(response: Response, problem: Problem): void {
  if (problem.status === 401) response.set('WWW-Authenticate', 'Bearer')
  response.status(problem.status).type(PROBLEM_TYPE).send(problemText(problem))
}
