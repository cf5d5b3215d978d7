/**
 * The floor of the drain: signs and sends the same requests as a worker, body, headers and three signatures made for each,
 * from memory and with nothing recorded.
 */
import { randomBytes } from 'node:crypto'
import { generateSecret } from '@posthaste/core'
import { Pool } from 'undici'
import { serveParent, wallClock } from '../support/child-process.ts'
import { pathOf } from '../support/installation.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'
import { textbookBody, textbookHeader, textbookSigner, textbookStandard } from '../support/textbook-signing.ts'

export interface LoopRun {
  port: number
  endpoints: number
  total: number
  /** Requests under way at once, each on a connection of its own. */
  concurrency: number
}

const methods = {
  async run({ port, endpoints, total, concurrency }: LoopRun) {
    const pool = new Pool(`http://127.0.0.1:${port}`, { connections: concurrency, pipelining: 1 })
    const signers = Array.from({ length: endpoints }, () => textbookSigner(generateSecret()))
    const idPrefix = randomBytes(8).toString('hex')
    const occurredAtMs = Date.now()
    let next = 0
    let failed = 0
    const worker = async () => {
      while (next < total) {
        const number = next++
        const endpoint = number % endpoints
        const signer = signers[endpoint]!
        const timestamp = Math.floor(Date.now() / 1000)
        const body = textbookBody(EVENT_TYPE, occurredAtMs, JSON.stringify(sampleData(number)), signer)
        const id = idPrefix + number.toString(16).padStart(16, '0')
        const eventId = `evt_${id}`
        const { statusCode, body: answer } = await pool.request({
          method: 'POST',
          path: pathOf(endpoint + 1),
          headers: {
            'content-type': 'application/json',
            'user-agent': 'Posthaste/0.1.0',
            'x-webhook-event': EVENT_TYPE,
            'x-webhook-id': eventId,
            'x-webhook-delivery': `dlv_${id}`,
            'x-webhook-attempt': '1',
            'x-webhook-signature': textbookHeader(body, signer),
            'webhook-id': eventId,
            'webhook-timestamp': String(timestamp),
            'webhook-signature': textbookStandard(eventId, timestamp, body, signer),
          },
          body,
        })
        await answer.dump()
        if (statusCode !== 200) failed++
      }
    }
    const startedAt = wallClock()
    await Promise.all(Array.from({ length: concurrency }, worker))
    await pool.close()
    return { startedAt, failed }
  },
}

export type UndiciLoop = typeof methods

serveParent(methods as never)
