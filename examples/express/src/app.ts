import { posthaste } from '@posthaste/express'
import express, { type Express } from 'express'
import { type Program, recordClick } from '../../affiliate/src/index.ts'
import type { ApiKeys } from './api-keys.ts'
import { answerErrors, notFound } from './problems.ts'
import { programRoutes } from './program-routes.ts'
import type { ShopWebhooks } from './webhooks.ts'

export interface Shop {
  program: Program
  webhooks: ShopWebhooks
  apiKeys: ApiKeys
  /** Where unexpected errors go. */
  log(error: unknown): void
}

/** The whole application. Whoever calls this listens, starts and stops. */
export function createApp({ program, webhooks, apiKeys, log }: Shop): Express {
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
  app.use('/api/v1/affiliate', programRoutes(program, apiKeys))

  // Public: what customers click. The shop's front end keeps click_id and sends it along with the order.
  app.get('/r/:slug', async (request, response) => {
    const referrer = request.get('referer')
    const { clickId, targetUrl } = await recordClick(program, {
      slug: request.params.slug,
      ...(referrer === undefined ? {} : { referrer: referrer.slice(0, 2048) }),
    })
    const target = new URL(targetUrl)
    target.searchParams.set('click_id', String(clickId))
    response.set('Cache-Control', 'no-store').redirect(302, target.href)
  })

  app.use(notFound)
  app.use(answerErrors(log))
  return app
}
