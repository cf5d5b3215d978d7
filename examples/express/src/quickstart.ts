import { createWebhooks } from '@posthaste/core'
import { posthaste } from '@posthaste/express'
import express from 'express'
import postgres from 'postgres'

const sql = postgres(process.env.DATABASE_URL!)

const webhooks = createWebhooks({
  database: process.env.DATABASE_URL!, // the host's own database; our tables are in a schema of their own
  installation: 'production', // a copy of the database under another name sends nothing
  secretKeys: { current: 'k1', keys: { k1: process.env.POSTHASTE_KEY! } }, // base64 of 32 random bytes
  logger: console,
})
await webhooks.migrate() // any number of instances may call it at once
await webhooks.start() // dispatches and delivers in this process; other processes may do the same, or only emit

const app = express()
app.use(
  '/api/v1/affiliate/webhooks',
  posthaste(webhooks, {
    // Authentication is yours: say whose request it is and what it may do.
    authorize: (request) =>
      request.get('authorization') === `Bearer ${process.env.API_KEY}`
        ? { account: 'default', permissions: ['read', 'write', 'test', 'replay'] }
        : null,
  }),
)

app.post('/payouts/:id/process', async (request, response) => {
  const payout = await sql.begin(async (tx) => {
    const [row] = await tx`update payouts set status = 'processed' where id = ${request.params.id} returning *`
    // Part of this transaction: its commit sends the event, its rollback sends nothing.
    await webhooks.emit(
      'payout.processed',
      {
        payout_id: row!.id,
        batch_id: row!.batch_id,
        affiliate_id: row!.affiliate_id,
        affiliate_name: row!.affiliate_name,
        amount: row!.amount_cents / 100,
        currency: 'USD',
        commission_ids: row!.commission_ids,
        method: 'bank_transfer',
        reference: `PAYOUT-${row!.id}`,
        processed_date: new Date(),
      },
      { tx },
    )
    return row
  })
  response.json(payout)
})

const server = app.listen(process.env.PORT ?? 3000)

process.once('SIGTERM', async () => {
  server.close()
  await webhooks.stop() // sends under way finish, lanes are given back, connections close
  await sql.end()
})
