import { createInbox } from '@posthaste/core/inbox'
import { verifyWebhook, WebhookVerificationError } from '@posthaste/core/receiver'
import express, { type Express } from 'express'
import type { Sql } from 'postgres'

/** A receiver that books each approved commission once, however often the webhook comes, and on however many machines. */
export async function createReceiver(sql: Sql, secret: string): Promise<Express> {
  const inbox = createInbox({
    source: 'affiliate-program', // another sender would get a name of its own, and the same table
    run: (text, values) => sql.unsafe(text, values),
  })
  await inbox.migrate() // or put inbox.ddl among your migrations
  // Longer than the sender retries and replays: 30 days by default.
  setInterval(() => void inbox.purge().catch(console.error), 3_600_000).unref()

  const app = express()
  app.post('/webhooks', express.raw({ type: 'application/json' }), async (request, response) => {
    // `standard` alone signs the id: what the inbox compares must not be what anybody could change.
    const webhook = await verifyWebhook(request.body as Buffer, request.headers, secret, { scheme: 'standard' })
    const { processed } = await sql.begin((tx) =>
      inbox.processOnce(tx, webhook, async (webhook) => {
        if (webhook.event !== 'commission.approved') return
        const { commission_id, affiliate_id, amount } = webhook.data
        await tx`insert into bookings (commission_id, affiliate_id, cents)
          values (${commission_id}, ${affiliate_id}, ${Math.round(amount * 100)})`
      }),
    )
    // After the commit, and the same answer to a repetition: the sender must not try again.
    response.status(200).json({ processed })
  })
  app.use((error: unknown, _request: express.Request, response: express.Response, _next: express.NextFunction) => {
    if (error instanceof WebhookVerificationError) response.status(401).json({ error: error.step })
    else response.status(500).json({ error: 'try again' }) // rolled back: the redelivery runs the handler
  })
  return app
}
