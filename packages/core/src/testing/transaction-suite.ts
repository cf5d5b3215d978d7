/** Runs the transaction cases over an adapter, in an installation and with tables of their own. */
import type { DatabaseOption, Sql } from '../storage/connection.ts'
import { connect } from '../storage/connection.ts'
import { type ConformanceReport, runCases } from './conformance.ts'
import { createTestInstallation } from './test-installation.ts'
import { type StoredEvent, suiteEvents, type TransactionAdapter, type TransactionSuite } from './transaction-adapter.ts'
import { transactionCases } from './transaction-cases.ts'

export interface TransactionSuiteOptions {
  /** Where the suite makes an installation and two tables, in a schema of their own; by a role that may create one. */
  database: DatabaseOption
  /** Over the same database. Its connections may belong to another role, which then needs the grants of docs/transactions.md. */
  adapter: TransactionAdapter
}

export interface OpenTransactionSuite extends TransactionSuite {
  close(): Promise<void>
}

/** What `transactionCases` run with, for a test of each: `await suite.clear(); await one.run(suite)`. */
export async function openTransactionSuite({
  database,
  adapter,
}: TransactionSuiteOptions): Promise<OpenTransactionSuite> {
  const installation = await createTestInstallation({ database, events: suiteEvents })
  const schema = installation.options.schema as string
  const sql = connect(database, 1)
  const [orders, counters] = [`${schema}.suite_orders`, `${schema}.suite_counters`]
  await sql.unsafe(`create table ${orders} (n int primary key); create table ${counters} (id int primary key, value int);
    insert into ${counters} values (1, 0)`)
  return {
    ...suiteOver(sql, schema, { orders, counters }),
    adapter,
    webhooks: installation.webhooks,
    async close() {
      await sql.end({ timeout: 5 })
      await installation.stop()
    },
  }
}

/** Runs every case and reports, whatever fails. */
export async function checkTransactionAdapter(options: TransactionSuiteOptions): Promise<ConformanceReport> {
  const suite = await openTransactionSuite(options)
  try {
    const cases = transactionCases.map(({ name, run }) => ({
      name,
      async run() {
        await suite.clear()
        await run(suite)
      },
    }))
    return await runCases(cases, suite)
  } finally {
    await suite.close()
  }
}

function suiteOver(
  sql: Sql,
  schema: string,
  { orders, counters }: Pick<TransactionSuite, 'orders' | 'counters'>,
): Omit<TransactionSuite, 'adapter' | 'webhooks'> {
  return {
    orders,
    counters,
    async orderNumbers() {
      const rows = await sql.unsafe(`select n from ${orders} order by n`)
      return rows.map((row) => row.n as number)
    },
    async counter() {
      const [row] = await sql.unsafe(`select value from ${counters} where id = 1`)
      return row?.value as number
    },
    async stored() {
      const rows = await sql.unsafe(
        `select id::text, account, type, data, idempotency_key "idempotencyKey" from ${schema}.events order by id`,
      )
      return rows as unknown as StoredEvent[]
    },
    async subscribe() {
      await sql.unsafe(
        `insert into ${schema}.subscriptions (account, pattern, endpoint) values ('default', 'test.*', 1)`,
      )
    },
    async clear() {
      await sql.unsafe(`delete from ${orders}; update ${counters} set value = 0; delete from ${schema}.events;
        delete from ${schema}.subscriptions`)
    },
  }
}
