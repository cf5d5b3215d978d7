import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { verifyWebhook } from '@posthaste/core/receiver'
import { checkReceiver, signWebhook } from '@posthaste/core/testing'

const secret = 'your_webhook_secret'
const handled = new Set<string>()
const paidOut: unknown[] = []

/** The receiver under test. */
const server = createServer(async (request, response) => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  try {
    const event = await verifyWebhook(Buffer.concat(chunks), request.headers, secret, { scheme: 'standard' })
    if (!handled.has(event.id!) && event.event === 'payout.processed') paidOut.push(event.data)
    handled.add(event.id!)
    response.writeHead(204).end()
  } catch {
    response.writeHead(401).end()
  }
})
let url = ''
before(async () => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  url = `http://127.0.0.1:${(server.address() as { port: number }).port}`
})
after(() => server.close())

test('takes a payout', async () => {
  const { body, headers } = signWebhook({ secret, event: 'payout.processed', data: { payout_id: 31 } })
  const { status } = await fetch(url, { method: 'POST', body, headers })
  assert.equal(status, 204)
  assert.deepEqual(paidOut, [{ payout_id: 31 }])
})

test('takes nothing that was tampered with', async () => {
  const { body, headers } = signWebhook({ secret, event: 'payout.processed', fault: 'tampered' })
  assert.equal((await fetch(url, { method: 'POST', body, headers })).status, 401)
})

test('does all that a receiver should', async () => {
  const report = await checkReceiver({ url, secret, handled: () => paidOut.length })
  assert.ok(report.passed, String(report))
})
