/**
 * What an installation for tests costs, next to a migration as in production: `node --conditions=posthaste-source
 * test/measure-testing.ts`. Variants in turn; medians, with the quickest and the slowest round.
 */
import { affiliateEvents, createWebhooks } from '@posthaste/core'
import { createTestInstallation } from '@posthaste/core/testing'
import { startPostgres } from './support/embedded-postgres.ts'

const ROUNDS = 20
const { example } = affiliateEvents.get('payout.processed')

const server = await startPostgres()
const times = new Map<string, number[]>()

async function time<T>(name: string, work: () => Promise<T>): Promise<T> {
  const at = performance.now()
  const result = await work()
  times.set(name, [...(times.get(name) ?? []), performance.now() - at])
  return result
}

for (let round = 0; round < ROUNDS; round++) {
  const names = { schema: `measured_${round}`, queueSchema: `measured_${round}_jobs` }
  const webhooks = createWebhooks({ database: server.url, installation: 'x', secretStorage: 'plain', ...names })
  await time('migrate() as in production', () => webhooks.migrate())
  await webhooks.stop()

  const it = await time('createTestInstallation()', () => createTestInstallation({ database: server.url }))
  await it.webhooks.endpoints.create('default', { url: 'https://shop.example/hooks', events: ['*'] })
  await time('the first settle()', () => it.settle())
  const emit = () => it.webhooks.emit('payout.processed', example as never, { tx: 'own' })
  await emit()
  await time('settle() with one delivery', () => it.settle())
  await time("advance('5s')", () => it.advance('5s'))
  await time('settle() with nothing due', () => it.settle())
  await time('stop()', () => it.stop())
}
for (const [name, measured] of times) {
  const sorted = measured.toSorted((a, b) => a - b)
  const [least, median, most] = [sorted[0], sorted[ROUNDS >> 1], sorted.at(-1)].map((ms) => ms?.toFixed(1))
  console.log(`${name.padEnd(28)} ${median} ms (${least}–${most})`)
}
await server.stop('immediate')
