import { createTestInstallation, type TestInstallation } from '@posthaste/core/testing'
import postgres, { type TransactionSql } from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { payOut } from './payouts.ts'

const database = process.env.TEST_DATABASE_URL!
const sql = postgres(database, { onnotice: () => {} })
let posthaste: TestInstallation

beforeAll(async () => {
  posthaste = await createTestInstallation({ database })
})
afterAll(async () => {
  await posthaste.stop()
  await sql.end()
})

/** Runs the body in a transaction that is rolled back, whatever becomes of it. */
function rolledBack(body: (tx: TransactionSql) => Promise<void>) {
  const undo = new Error('undo')
  return () =>
    sql
      .begin(async (tx) => {
        await tx`create table payouts (id int, batch_id int, affiliate_id int, affiliate_name text, cents int, status text)`
        await tx`insert into payouts values (31, 7, 456, 'John Smith', 8550, 'created')`
        await body(tx)
        throw undo
      })
      .catch((error) => {
        if (error !== undo) throw error
      })
}

test(
  'a payout emits one event',
  rolledBack(async (tx) => {
    await payOut(tx, posthaste.webhooks, 31)
    expect(await posthaste.emittedIn(tx)).toMatchObject([
      { type: 'payout.processed', data: { payout_id: 31, amount: 85.5 } },
    ])
  }),
)

test(
  'one that does not exist emits none',
  rolledBack(async (tx) => {
    await expect(payOut(tx, posthaste.webhooks, 32)).rejects.toThrow('no payout 32')
    expect(await posthaste.emittedIn(tx)).toEqual([])
  }),
)
