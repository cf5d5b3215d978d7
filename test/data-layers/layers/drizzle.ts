import type { ExtractTablesWithRelations } from 'drizzle-orm'
import { drizzle as drizzleNodePostgres } from 'drizzle-orm/node-postgres'
import type { PgDatabase, PgQueryResultHKT, PgTransaction } from 'drizzle-orm/pg-core'
import { drizzle as drizzlePostgresJs } from 'drizzle-orm/postgres-js'
import pg from 'pg'
import postgres from 'postgres'
import type { DataLayer, OpenDataLayer, Scope } from './data-layer.ts'

type None = Record<string, never>
type Transaction<D extends PgQueryResultHKT> = PgTransaction<D, None, ExtractTablesWithRelations<None>>

export const drizzleOverPostgresJs: DataLayer = {
  name: 'Drizzle over postgres.js',
  async open(url, max = 4) {
    const sql = postgres(url, { max, onnotice: () => {} })
    return openDrizzle(drizzlePostgresJs(sql), () => sql.end({ timeout: 5 }))
  },
}

export const drizzleOverNodePostgres: DataLayer = {
  name: 'Drizzle over node-postgres',
  async open(url, max = 4) {
    const pool = new pg.Pool({ connectionString: url, max })
    return openDrizzle(drizzleNodePostgres(pool), () => pool.end())
  },
}

function openDrizzle<D extends PgQueryResultHKT>(db: PgDatabase<D, None>, close: () => Promise<void>): OpenDataLayer {
  const scopeOf = (tx: Transaction<D>): Scope => ({
    tx,
    execute: async (text) => await tx.execute(text),
    savepoint: (work) => tx.transaction((nested) => work(scopeOf(nested))),
  })
  return {
    transaction: (work, isolation) =>
      db.transaction((tx) => work(scopeOf(tx)), { isolationLevel: isolation ?? 'read committed' }),
    outside: { database: () => db },
    close,
  }
}
