/** The receiver on runtimes without Node: Cloudflare Workers, Vercel Edge, Deno, Bun. It needs `fetch`'s types and WebCrypto. */
import { handleEvent } from './handle-event.ts'
import { receive } from './receive.ts'

interface Env {
  WEBHOOK_SECRET?: string
  /** Beside the other one while you change it. */
  WEBHOOK_SECRET_NEXT?: string
}

const MOST_BYTES = 2 * 1_048_576

/** Of this isolate. Yours is a table, or a key-value store: isolates come and go, and there are many at a time. */
const handled = new Set<string>()

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    if (request.method !== 'POST') return new Response(null, { status: 405 })
    if (Number(request.headers.get('content-length') ?? 0) > MOST_BYTES) return new Response(null, { status: 413 })
    const status = await receive(await request.arrayBuffer(), request.headers, {
      secrets: [env.WEBHOOK_SECRET, env.WEBHOOK_SECRET_NEXT].filter((secret) => secret !== undefined),
      handled,
      handle: handleEvent,
      log: (line) => console.log(line),
    })
    return new Response(null, { status })
  },
}
