/** The shop as a server of its own: reads the environment, starts everything, and stops it at a signal. */
import { once } from 'node:events'
import postgres from 'postgres'
import { setUpProgram } from '../schema.ts'
import { createApiKeys } from './api-keys.ts'
import type { Listening, Shop } from './shop.ts'
import { createShopWebhooks } from './webhooks.ts'

/** What it reads from the environment is in the README of examples/express. `listen` is all that depends on the framework. */
export async function runServer(listen: (shop: Shop, port: number) => Promise<Listening>): Promise<void> {
  const environment = readEnvironment()
  const sql = postgres(environment.databaseUrl)
  const webhooks = createShopWebhooks({
    databaseUrl: environment.databaseUrl,
    encryptionKey: environment.encryptionKey,
    allowLoopbackReceivers: environment.allowLoopbackReceivers,
  })
  const shop: Shop = {
    program: { sql, emit: (type, data, options) => webhooks.emit(type, data, options) },
    webhooks,
    apiKeys: createApiKeys([
      {
        key: environment.apiKey,
        name: 'admin@rebusai.com',
        permissions: ['read', 'write', 'secrets', 'test', 'replay'],
      },
    ]),
    log: (error) => console.error(error),
  }

  await setUpProgram(sql)
  await webhooks.migrate()
  await webhooks.start()
  const server = await listen(shop, environment.port)
  console.log(`The shop listens on http://127.0.0.1:${server.port}/api/v1/affiliate, webhooks under …/webhooks.`)

  const signal = await Promise.race(['SIGINT', 'SIGTERM'].map((name) => once(process, name).then(() => name)))
  console.log(`${signal}: finishing what is under way.`)
  await server.close()
  await webhooks.stop()
  await sql.end({ timeout: 5 })
}

function readEnvironment() {
  const missing: string[] = []
  const need = (name: string, what: string, fits = (_value: string) => true) => {
    const value = process.env[name] ?? ''
    if (value === '' || !fits(value)) missing.push(`${name} (${what})`)
    return value
  }
  const read = {
    databaseUrl: need('DATABASE_URL', 'postgres://…'),
    apiKey: need('API_KEY', 'sk_live_…, what callers send as Authorization: Bearer', (key) =>
      key.startsWith('sk_live_'),
    ),
    encryptionKey: need('POSTHASTE_KEY', 'base64 of 32 bytes', (key) => Buffer.from(key, 'base64').length === 32),
    allowLoopbackReceivers: process.env.ALLOW_LOOPBACK_RECEIVERS === '1',
    port: Number(process.env.PORT ?? 3000),
  }
  if (!(Number.isInteger(read.port) && read.port >= 0 && read.port < 65_536)) missing.push('PORT (0 to 65535)')
  if (missing.length === 0) return read
  console.error(`Set these environment variables: ${missing.join(', ')}.`)
  process.exit(1)
}
