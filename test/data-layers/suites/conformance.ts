/** What `emit` promises inside the host's transaction, for every data layer: the cases of `@posthaste/core/testing`, one test each. */
import { type TransactionSuite, transactionCases } from '@posthaste/core/testing'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { DataLayer, OpenDataLayer } from '../layers/data-layer.ts'
import type { Host } from './host.ts'

export function describeConformance(layers: readonly DataLayer[], host: () => Host): void {
  describe.each(layers)('$name', ({ open }) => {
    let layer: OpenDataLayer
    beforeAll(async () => {
      layer = await open(host().url)
    })
    afterAll(() => layer.close())
    afterEach(() => host().clear())

    test.each(transactionCases)('$name', async ({ run }) => {
      await expect(run(suiteOf(host(), layer))).resolves.toBeUndefined()
    })
  })
}

/** On the host's own tables, instead of the installation that `openTransactionSuite` would make. */
function suiteOf({ webhooks, sql, state, clear }: Host, adapter: OpenDataLayer): TransactionSuite {
  return {
    adapter,
    webhooks: webhooks as unknown as TransactionSuite['webhooks'],
    orders: 'orders',
    counters: 'counters',
    orderNumbers: async () => (await state()).orders,
    async counter() {
      const [row] = await sql`select value from counters`
      return row?.value
    },
    async stored() {
      return await sql`select id::text, account, type, data, idempotency_key "idempotencyKey"
        from posthaste.events order by id`
    },
    async subscribe() {
      await sql`insert into posthaste.subscriptions values ('default', 'test.*', 1)`
    },
    clear,
  }
}
