import { type EmitStatement, insideTransaction, markTransaction, sameTransaction } from '../emit/emit-statements.ts'

/** Rows of one statement of a purge: short transactions, whatever has gathered. */
export const PURGE_ROWS = 10_000

export interface InboxStatements {
  /** Parameters source and id; answers one row, whose `recorded` says whether the id is new. Waits for others that record it. */
  record: EmitStatement
  mark: string
  /** Parameters source and id. */
  forget: string
  /** Parameters source and age in ms. */
  purge: string
  /** What a migration tool is given. */
  ddl: string
  /** The same as one statement, which any number of processes may run at once. */
  migrate: string
}

/**
 * Types, functions and operators say where they belong: the statements run on the host's connection, whose `search_path` may be
 * anything.
 *
 * @param schema, table checked identifiers
 * @param mark letters and digits that nobody else uses
 */
export function inboxStatements(schema: string, table: string, mark: string): InboxStatements {
  const name = `"${schema}"."${table}"`
  const text = (parameter: string) => `${parameter}::pg_catalog.text`
  const key = `source operator(pg_catalog.=) ${text('$1')}`
  const insert = (guard: string) => `with recorded as (
      insert into ${name} (source, webhook_id) select ${text('$1')}, ${text('$2')} ${guard}
      on conflict do nothing returning 1)`
  const recorded = '(select pg_catalog.count(*) from recorded)::pg_catalog.text recorded'
  const guarded = (guard: string) =>
    `${insert(`where ${guard}`)} select ${recorded}, pg_catalog.pg_current_xact_id()::pg_catalog.text xid where ${guard}`
  const tables = [
    `create table if not exists ${name} (
  source text not null,
  webhook_id text not null,
  received_at timestamptz not null default pg_catalog.now(),
  primary key (source, webhook_id)
);`,
    `create index if not exists "${table}_received" on ${name} (source, received_at);`,
  ]
  return {
    record: {
      plain: `${insert('')} select ${recorded}`,
      inside: guarded(insideTransaction(mark)),
      same: guarded(sameTransaction('$3')),
    },
    mark: markTransaction(mark),
    forget: `delete from ${name} where ${key} and webhook_id operator(pg_catalog.=) ${text('$2')}`,
    // By their places, which needs no join: to a planner that thinks the table small, a join is a loop in a loop.
    purge: `with old as (
      select ctid place from ${name} where ${key} and received_at operator(pg_catalog.<)
        (pg_catalog.now() operator(pg_catalog.-) (${text('$2')} operator(pg_catalog.||) ' ms')::pg_catalog.interval)
      order by received_at limit ${PURGE_ROWS} for update skip locked
    ), gone as (
      delete from ${name} where ctid operator(pg_catalog.=) any (array(select place from old)) returning 1
    ) select pg_catalog.count(*)::pg_catalog.text purged from gone`,
    ddl: tables.join('\n'),
    // Two "create … if not exists" at once may both find nothing, and the second fails.
    migrate: `do $inbox$ begin
      perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('posthaste.inbox', 0));
      ${tables.join('\n')}
    end $inbox$`,
  }
}
