/** The receiver on plain node:http. `node --conditions=posthaste-source examples/receiver/src/server.ts` */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { handleEvent } from './handle-event.ts'
import { receive } from './receive.ts'

/** A delivery is at most 1 MiB of data, and an envelope around it. */
const MOST_BYTES = 2 * 1_048_576

const secrets = [process.env.WEBHOOK_SECRET, process.env.WEBHOOK_SECRET_NEXT].filter((secret) => secret !== undefined)
if (secrets.length === 0) {
  console.error(
    'Set WEBHOOK_SECRET to the secret of your endpoint, and WEBHOOK_SECRET_NEXT beside it while you change it.',
  )
  process.exit(1)
}
const handled = new Set<string>()

const server = createServer((request, response) => {
  const answer = (status: number) => void response.writeHead(status).end()
  if (request.method !== 'POST') return answer(405)
  readRawBody(request)
    .then((body) =>
      body === null
        ? 413
        : receive(body, request.headers, { secrets, handled, handle: handleEvent, log: (line) => console.log(line) }),
    )
    .then(answer, (error: unknown) => {
      console.error(error)
      answer(500)
    })
})

/** The bytes as they came: what is parsed and written again has another signature. Null where there are too many. */
async function readRawBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > MOST_BYTES) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

await once(server.listen(Number(process.env.PORT ?? 4000), '127.0.0.1'), 'listening')
console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`)
