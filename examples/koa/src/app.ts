import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { bodyParser } from '@koa/bodyparser'
import { Router } from '@koa/router'
import { posthaste } from '@posthaste/koa'
import Koa, { type Context } from 'koa'
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

export async function listen(shop: Shop, port: number): Promise<Listening> {
  const server = createApp(shop).listen(port)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: () => new Promise((done) => server.close(() => done())),
  }
}

/** The whole application. */
function createApp(shop: Shop): Koa {
  const { program, webhooks, apiKeys, log } = shop
  const app = new Koa()

  app.use(async (ctx, next) => {
    try {
      await next()
      if (ctx.status === 404 && ctx.body == null) answer(ctx, notFound(ctx.method, ctx.path))
    } catch (error) {
      answer(ctx, toProblem(error, log))
    }
  })

  // Before the shop's own routes and their JSON parser: Posthaste reads the body itself.
  app.use(
    posthaste(webhooks, {
      prefix: '/api/v1/affiliate/webhooks',
      authorize(ctx) {
        const caller = apiKeys.recognise(ctx.get('authorization'))
        // A shop with many merchants would answer the merchant's id here.
        return caller && { account: 'default', permissions: caller.permissions }
      },
    }),
  )
  app.use(programRoutes(shop).routes())

  const links = new Router()
  links.get('/r/:slug', async (ctx) => {
    const target = await followLink(program, ctx.params.slug ?? '', ctx.get('referer') || undefined)
    ctx.set('Cache-Control', 'no-store')
    ctx.redirect(target)
  })
  app.use(links.routes())
  return app
}

/** The shop's own API. */
function programRoutes({ program, apiKeys }: Shop): Router<{ caller: Caller }> {
  const prefix = '/api/v1/affiliate'
  const router = new Router<{ caller: Caller }>({ prefix })
  router.use(async (ctx, next) => {
    ctx.state.caller = apiKeys.require(ctx.get('authorization'))
    await next()
  })
  router.use(
    bodyParser({
      enableTypes: ['json'],
      jsonLimit: '100kb',
      // What it throws by itself does not say that it is meant for the caller.
      onError: (error, ctx) => ctx.throw((error as { status?: number }).status ?? 400, error.message),
    }),
  )
  for (const { method, path, handle } of shopOperations) {
    router[method === 'GET' ? 'get' : 'post'](path, async (ctx) => {
      const result = await handle(program, {
        caller: ctx.state.caller,
        path: ctx.path,
        params: ctx.params,
        query: ctx.query,
        body: ctx.request.body,
      })
      if (result.location !== undefined) ctx.set('Location', `${prefix}${result.location}`)
      ctx.status = result.status
      ctx.body = result.body
    })
  }
  return router
}

function answer(ctx: Context, problem: Problem): void {
  if (problem.status === 401) ctx.set('WWW-Authenticate', 'Bearer')
  ctx.status = problem.status
  ctx.type = PROBLEM_TYPE
  ctx.body = problemText(problem)
}
