import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import postgres from 'postgres'
import { type Program, setUpProgram } from '../../../affiliate/src/index.ts'
import { createApiKeys, createShopWebhooks } from '../../../affiliate/src/shop/index.ts'
import { createApp } from '../app.ts'
import type { SenderAccount } from './record.ts'

/** The key of the page's curl command. */
export const API_KEY = 'sk_live_your_api_key'

export interface RunningShop {
  url: string
  stop(): Promise<void>
}

export interface DemoShopOptions {
  databaseUrl: string
  onSettled: NonNullable<Program['onSettled']>
  /** Counts what Posthaste says of its deliveries. */
  sender: SenderAccount
  log(error: unknown): void
}

/** The example in this process, on a free port of the loopback interface: as `server.ts`, but for what a demo needs. */
export async function startShop({ databaseUrl, onSettled, sender, log }: DemoShopOptions): Promise<RunningShop> {
  const sql = postgres(databaseUrl, { onnotice: () => {} })
  const webhooks = createShopWebhooks({
    databaseUrl,
    encryptionKey: randomBytes(32).toString('base64'),
    // Both are documented options that a host's own tests use, too.
    allowLoopbackReceivers: true,
    retrySchedule: ['300ms', '600ms', '1s', '1s'],
  })
  webhooks.events.on('delivery.succeeded', () => sender.succeeded++)
  webhooks.events.on('attempt.failed', () => sender.retried++)
  webhooks.events.on('delivery.failed', () => sender.givenUp++)
  const close = async () => {
    await webhooks.stop()
    await sql.end({ timeout: 5 })
  }
  try {
    await setUpProgram(sql)
    await webhooks.migrate()
    await webhooks.start()
    const app = createApp({
      program: { sql, emit: (type, data, options) => webhooks.emit(type, data, options), onSettled },
      webhooks,
      apiKeys: createApiKeys([{ key: API_KEY, name: 'admin@rebusai.com', permissions: ['read', 'write'] }]),
      log,
    })
    const server = app.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      async stop() {
        server.close()
        server.closeAllConnections()
        await close()
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}
