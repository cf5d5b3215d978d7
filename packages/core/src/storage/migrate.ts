import { createHash } from 'node:crypto'
import { PosthasteError } from '../errors.ts'
import { type Sql, type TransactionSql, untilConnectionLost } from './connection.ts'
import { logsAndLanes } from './migrations/0001-logs-and-lanes.ts'
import { firstPosition } from './migrations/0002-first-position.ts'
import { attemptHours } from './migrations/0003-attempt-hours.ts'
import { replays } from './migrations/0003-replays.ts'
import { fixedSearchPath } from './migrations/0004-search-path.ts'
import { readers } from './migrations/0005-readers.ts'
import { storageUpkeep } from './migrations/0006-storage.ts'
import { anotherLife } from './migrations/0007-another-life.ts'
import { leftOverOfLifeBefore } from './migrations/0007-left-over.ts'
import { aside } from './migrations/0008-aside.ts'
import { dispatchEvents } from './migrations/0008-dispatch-events.ts'
import { fairDispatch } from './migrations/0008-fair-dispatch.ts'
import { turns } from './migrations/0008-turns.ts'
import { readWindow } from './migrations/0008-window.ts'

export interface Migration {
  number: number
  name: string
  /** The statements, with the schema's name in them. */
  sql: string
}

/** A bigint that names this schema's lock of one purpose, for advisory locks. */
export function advisoryKey(schema: string, purpose: string): string {
  return createHash('sha256').update(`posthaste:${purpose}:${schema}`).digest().readBigInt64BE(0).toString()
}

/** All migrations in order, as SQL, for hosts that review or run them themselves. */
export function listMigrations(schema: string): Migration[] {
  return [
    { number: 1, name: 'logs-and-lanes', sql: logsAndLanes(schema) },
    { number: 2, name: 'first-position', sql: firstPosition(schema) },
    { number: 3, name: 'replays-and-statistics', sql: replays(schema) + attemptHours(schema) },
    { number: 4, name: 'search-path', sql: fixedSearchPath(schema) },
    { number: 5, name: 'readers', sql: readers(schema) },
    { number: 6, name: 'storage-upkeep', sql: storageUpkeep(schema, advisoryKey(schema, 'partitions')) },
    { number: 7, name: 'another-life', sql: anotherLife(schema) + leftOverOfLifeBefore(schema) },
    {
      number: 8,
      name: 'turns',
      sql:
        turns(schema) +
        aside(schema) +
        readWindow(schema) +
        dispatchEvents(schema) +
        fairDispatch(schema, advisoryKey(schema, 'dispatch')),
    },
  ]
}

/**
 * Brings the schema up to date. Any number of processes may call it at once: one works, the others wait for its
 * transaction-level advisory lock and find nothing to do. The installation's name is stored by the first migration.
 *
 * @returns the numbers of the migrations that this call applied
 * @throws PosthasteError SCHEMA_NEWER when a later version of this package has migrated the schema
 */
export async function migrate(sql: Sql, schema: string, installation: string): Promise<number[]> {
  const migrations = listMigrations(schema)
  const applied = await sql.begin((tx) => untilConnectionLost(() => migrateIn(tx)))
  // A host that migrates at each start so has partitions ahead also where no worker runs. Where the lock is not to be had now, a
  // worker makes them.
  await sql
    .begin((tx) =>
      untilConnectionLost(async () => {
        await tx.unsafe(`set local search_path = pg_catalog, pg_temp`)
        await tx.unsafe(`select ${schema}.make_partitions(clock_timestamp(), clock_timestamp() + interval '37 days')`)
      }),
    )
    .catch((error: { code?: unknown }) => {
      if (error.code !== '55P03' && error.code !== '42501') throw error
    })
  return applied

  async function migrateIn(tx: TransactionSql): Promise<number[]> {
    await tx.unsafe(`select pg_advisory_xact_lock(${advisoryKey(schema, 'migrate')})`)
    await tx.unsafe(`set local client_min_messages = warning`)
    // Types, functions and operators in the migrations are Postgres' own, whatever path the role has.
    await tx.unsafe(`set local search_path = pg_catalog, pg_temp`)
    await tx.unsafe(`create schema if not exists ${schema}`)
    await tx.unsafe(`create table if not exists ${schema}.migrations (
      number int primary key, name text not null, applied_at timestamptz not null default clock_timestamp())`)
    const done = new Set(
      (await tx.unsafe(`select number from ${schema}.migrations`)).map((row) => row.number as number),
    )
    refuseNewer(done, migrations)
    const applied: number[] = []
    for (const migration of migrations) {
      if (done.has(migration.number)) continue
      await tx.unsafe(migration.sql)
      await tx.unsafe(`insert into ${schema}.migrations (number, name) values ($1, $2)`, [
        migration.number,
        migration.name,
      ])
      applied.push(migration.number)
    }
    await tx.unsafe(`insert into ${schema}.installation (name) values ($1) on conflict do nothing`, [installation])
    // A database that was moved by logical replication: whoever writes first would meet numbers that are taken.
    await tx.unsafe(`select ${schema}.raise_sequences()`)
    return applied
  }
}

/**
 * Checks that the schema is as new as this package needs, and no newer.
 *
 * @throws PosthasteError NOT_MIGRATED, SCHEMA_NEWER
 */
export async function requireMigrated(sql: Sql, schema: string): Promise<void> {
  const [found] = await sql.unsafe(`select to_regclass($1) is not null as found`, [`${schema}.migrations`])
  const rows = found?.found === true ? await sql.unsafe(`select number from ${schema}.migrations`) : []
  const done = new Set(rows.map((row) => row.number as number))
  const migrations = listMigrations(schema)
  refuseNewer(done, migrations)
  const missing = migrations.filter((migration) => !done.has(migration.number))
  if (missing.length > 0) {
    throw new PosthasteError(
      'NOT_MIGRATED',
      `The schema ${schema} lacks ${missing.length} of ${migrations.length} migrations: call webhooks.migrate() before start().`,
    )
  }
}

function refuseNewer(done: ReadonlySet<number>, migrations: readonly Migration[]): void {
  const newest = migrations.at(-1)?.number ?? 0
  for (const number of done) {
    if (number <= newest) continue
    throw new PosthasteError(
      'SCHEMA_NEWER',
      `The schema was migrated to ${number}, this version of Posthaste knows migrations up to ${newest}: deploy the newer version.`,
    )
  }
}
