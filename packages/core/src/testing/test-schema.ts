/** A schema of its own for each installation under test, made as quickly as Postgres makes its tables. */
import { PosthasteError } from '../errors.ts'
import type { Sql } from '../storage/connection.ts'
import { listMigrations } from '../storage/migrate.ts'

/** The statement by which a migration makes partitions ahead; without them rows go into the partition that takes all. */
const PARTITIONS_AHEAD = /^select \S+\.make_partitions\([^;]*\);$/gm

/**
 * Migrates in one transaction: all tables and functions, no partitions, and a clock that stands still at `nowMs`.
 *
 * @throws PosthasteError CONFIG_INVALID where the role may not create a schema
 */
export async function createTestSchema(sql: Sql, schema: string, installation: string, nowMs: number): Promise<void> {
  const migrations = listMigrations(schema)
  const statements = [
    'set local client_min_messages = warning',
    'set local search_path = pg_catalog, pg_temp',
    `create schema ${schema}`,
    `create table ${schema}.migrations (
      number int primary key, name text not null, applied_at timestamptz not null default clock_timestamp())`,
    ...migrations.map(({ sql: text }) => text.replaceAll(PARTITIONS_AHEAD, '')),
    `insert into ${schema}.migrations (number, name) values ${migrations.map(({ number, name }) => `(${number}, '${name}')`).join()}`,
    `insert into ${schema}.installation (name) values ('${installation.replaceAll("'", "''")}')`,
    idsByTheClock(schema),
    standStill(schema, nowMs),
  ]
  try {
    await sql.begin((tx) => tx.unsafe(statements.join(';\n')).simple())
  } catch (error) {
    if ((error as { code?: unknown }).code !== '42501') throw error
    throw new PosthasteError(
      'CONFIG_INVALID',
      'The role of `database` may not create a schema in it: grant create on database … to that role, or give another URL.',
      { cause: error },
    )
  }
}

/** Moves the clock that rules in the database go by. */
export async function moveDatabaseClock(sql: Sql, schema: string, nowMs: number): Promise<void> {
  await sql.unsafe(standStill(schema, nowMs)).simple()
}

export async function dropTestSchema(sql: Sql, schema: string): Promise<void> {
  await sql.unsafe(`drop schema if exists ${schema} cascade`)
}

function standStill(schema: string, nowMs: number): string {
  return `create or replace function ${schema}.clock() returns timestamptz language sql volatile
    return pg_catalog.to_timestamp(${nowMs / 1000})`
}

/**
 * Ids tell when something was made, and logs are read by them: where time is moved, they have to move with it. Ascending by the
 * counter where the clock stands still.
 */
function idsByTheClock(schema: string): string {
  return `create or replace function ${schema}.new_id() returns uuid language sql volatile return (
    select (lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex((counter >> 30) & 4095), 3, '0')
      || to_hex((2::bigint << 30) | (counter & 1073741823)) || lpad(to_hex((random() * 4294967295)::bigint), 8, '0'))::uuid
    from (select (extract(epoch from ${schema}.clock()) * 1000)::bigint ms, nextval('${schema}.id_counter') counter offset 0) t)`
}
