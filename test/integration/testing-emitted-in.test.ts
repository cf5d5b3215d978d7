/** `emittedIn(tx)` for every data layer that emit takes. */
import { createTestInstallation, type TestInstallation } from '@posthaste/core/testing'
import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { OpenDataLayer } from '../data-layers/layers/data-layer.ts'
import { DATA_LAYERS } from '../data-layers/layers/index.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { testEvents } from '../support/webhooks-under-test.ts'

let database: TestDatabase
let it: TestInstallation<typeof testEvents>
beforeAll(async () => {
  database = await createTestDatabase()
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  // MikroORM and others are set up for these.
  await sql.unsafe('create table orders (n int primary key, status text); create table counters (id int, value int)')
  await sql.end()
  it = await createTestInstallation({ database: database.url, events: testEvents })
  // Of another transaction, and committed: nobody's business here.
  await it.webhooks.emit('test.happened', { n: 0 }, { tx: 'own' })
})
afterAll(async () => {
  await it.stop()
  await database.drop()
})

describe.each(DATA_LAYERS)('$name', ({ open }) => {
  let layer: OpenDataLayer
  beforeAll(async () => {
    layer = await open(database.url)
  })
  afterAll(() => layer.close())

  test('shows what this transaction has emitted, in order, without what was rolled back to a savepoint', async () => {
    const { webhooks } = it
    const undone = layer.transaction(async (scope) => {
      expect(await it.emittedIn(scope.tx)).toEqual([])
      const { id } = await webhooks.emit('test.happened', { n: 1 }, { tx: scope.tx, idempotencyKey: 'k' })
      await scope
        .savepoint(async (nested) => {
          await webhooks.emit('test.happened', { n: 2 }, { tx: nested.tx })
          expect((await it.emittedIn(nested.tx)).map(({ data }) => data)).toEqual([{ n: 1 }, { n: 2 }])
          throw new Error('only this part')
        })
        .catch(() => {})
      await webhooks.emitMany([{ type: 'test.happened', data: { n: 3 } }], { tx: scope.tx })
      const emitted = await it.emittedIn(scope.tx)
      expect(emitted).toEqual([
        { id, type: 'test.happened', data: { n: 1 }, account: 'default', occurredAt: it.now(), idempotencyKey: 'k' },
        expect.objectContaining({ data: { n: 3 }, idempotencyKey: null }),
      ])
      throw new Error('as every test of such a suite')
    })
    await expect(undone).rejects.toThrow('as every test of such a suite')
    expect(await layer.transaction((scope) => it.emittedIn(scope.tx))).toEqual([])
  })
})

test('what is no transaction is refused', async () => {
  await expect(it.emittedIn({} as never)).rejects.toMatchObject({ code: 'INVALID_TRANSACTION' })
})
