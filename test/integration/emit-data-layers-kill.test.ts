/** A process that is killed between emit and commit leaves neither row nor event, whatever its data layer. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { DATA_LAYERS } from '../data-layers/layers/index.ts'
import { type Host, openHost } from '../data-layers/suites/host.ts'
import { until } from '../support/until.ts'

let host: Host
beforeAll(async () => {
  host = await openHost(inject('postgresAdminUrl'), inject('postgresRunPrefix'))
})
afterAll(() => host.stop())

const openTransactions = async (): Promise<number> => {
  const [row] = await host.sql`select count(*)::int n from pg_stat_activity
    where datname = current_database() and state = 'idle in transaction'`
  return row?.n
}

// The child loads every data layer: three seconds on an idle machine, twenty beside other work.
test('killed with a transaction open in each of them', { timeout: 90_000 }, async () => {
  const program = join(import.meta.dirname, '..', 'data-layers', 'emit-and-wait.ts')
  const child = spawn(process.execPath, ['--conditions=posthaste-source', program, host.url], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const [line] = await Promise.race([
      once(createInterface({ input: child.stdout }), 'line'),
      once(child, 'exit').then(([code]) => [`ended with ${code}`]),
    ])
    expect(line).toBe(`emitted in ${DATA_LAYERS.length}`)
    expect(await openTransactions()).toBe(DATA_LAYERS.length)
  } finally {
    child.kill('SIGKILL')
  }
  await until('the server to notice', async () => (await openTransactions()) === 0)
  expect(await host.state()).toEqual({ orders: [], events: [] })
})
