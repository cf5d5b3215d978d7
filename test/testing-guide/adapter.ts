import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkTransactionAdapter, type TransactionAdapter, type TransactionScope } from '@posthaste/core/testing'
import postgres, { type TransactionSql } from 'postgres'

const database = process.env.TEST_DATABASE_URL!

test('emit keeps its promises in our transactions', async () => {
  const sql = postgres(database, { onnotice: () => {} })
  const scopeOf = (tx: TransactionSql): TransactionScope => ({
    tx,
    execute: (text) => tx.unsafe(text),
    savepoint: async (work) => void (await tx.savepoint((nested) => work(scopeOf(nested)))),
  })
  const adapter: TransactionAdapter = {
    transaction: async (work, isolation) =>
      (await sql.begin(`isolation level ${isolation ?? 'read committed'}`, (tx) => work(scopeOf(tx)))) as never,
    outside: { pool: () => sql },
  }
  const report = await checkTransactionAdapter({ database, adapter })
  await sql.end()
  assert.ok(report.passed, String(report))
})
