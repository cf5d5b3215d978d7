/**
 * The small tables that the management API reads and writes, for drizzle, and the one way to reach them. The migrations make
 * them; `tables.test.ts` compares the two. Logs are written by SQL functions and have no definition here.
 */

import { type Sql, untilConnectionLost } from './connection.ts'
import { advisoryKey } from './migrate.ts'
import {
  boolean,
  DrizzleQueryError,
  drizzle,
  integer,
  PgSchema,
  type PostgresJsDatabase,
  primaryKey,
  type SQL,
  sql,
  text,
  timestamp,
  uuid,
} from './orm.ts'
import { typedDatabaseError } from './unavailable.ts'

const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'string' })

/** The table definitions over a schema's name, already checked. */
export function tables(schemaName: string) {
  const schema = new PgSchema(schemaName)
  return {
    endpoints: schema.table('endpoints', {
      no: integer('no').primaryKey().generatedAlwaysAsIdentity(),
      id: uuid('id').notNull(),
      account: text('account').notNull(),
      url: text('url').notNull(),
      events: text('events').array().notNull(),
      description: text('description'),
      metadata: text('metadata').notNull().default('{}'),
      active: boolean('active').notNull(),
      disabled_reason: text('disabled_reason'),
      disabled_at: moment('disabled_at'),
      secret: text('secret').notNull(),
      secret_number: integer('secret_number').notNull().default(1),
      previous_secret: text('previous_secret'),
      previous_until: moment('previous_until'),
      previous_accepted: boolean('previous_accepted').notNull().default(false),
      headers: text('headers'),
      header_names: text('header_names').array().notNull().default([]),
      ordering: text('ordering', { enum: ['none', 'fifo'] })
        .notNull()
        .default('none'),
      max_concurrency: integer('max_concurrency'),
      rate_limit: integer('rate_limit'),
      rate_limit_per: text('rate_limit_per', { enum: ['second', 'minute'] }),
      version: integer('version').notNull().default(1),
      created_at: moment('created_at').notNull().default(clockOf(schemaName)),
      updated_at: moment('updated_at').notNull().default(clockOf(schemaName)),
      deleted_at: moment('deleted_at'),
    }),
    subscriptions: schema.table(
      'subscriptions',
      {
        account: text('account').notNull(),
        pattern: text('pattern').notNull(),
        endpoint: integer('endpoint').notNull(),
      },
      (table) => [primaryKey({ columns: [table.account, table.pattern, table.endpoint] })],
    ),
    retired_secrets: schema.table(
      'retired_secrets',
      {
        endpoint: integer('endpoint').notNull(),
        number: integer('number').notNull(),
        sealed: text('sealed').notNull(),
        retired_at: moment('retired_at').notNull().default(sql`clock_timestamp()`),
      },
      (table) => [primaryKey({ columns: [table.endpoint, table.number] })],
    ),
    endpoint_health: schema.table('endpoint_health', {
      endpoint: integer('endpoint').primaryKey(),
      epoch: integer('epoch').notNull().default(0),
      failing_since: moment('failing_since'),
      backoff_ms: integer('backoff_ms'),
      backoff_until: moment('backoff_until'),
    }),
    /** A log that is only appended to; `id` and `xid` are the database's. */
    commands: schema.table('commands', {
      kind: text('kind').notNull(),
      endpoint: integer('endpoint').notNull(),
      payload: text('payload'),
    }),
    api_idempotency: schema.table(
      'api_idempotency',
      {
        account: text('account').notNull(),
        key: text('key').notNull(),
        fingerprint: text('fingerprint').notNull(),
        answer: text('answer').notNull(),
        at: moment('at').notNull().default(clockOf(schemaName)),
      },
      (table) => [primaryKey({ columns: [table.account, table.key] })],
    ),
  }
}

export type Tables = ReturnType<typeof tables>

/** The columns of `endpoints` that hold sealed text. */
export type SealedEndpointColumn = 'secret' | 'previous_secret' | 'headers'

/** What binds a sealed column of an endpoint to its place. `id` is the database's uuid, with its dashes. */
export function endpointSealContext(id: string, column: SealedEndpointColumn): string {
  return `endpoint:${id}:${column}`
}

/** A timestamp as RFC 3339 in UTC with milliseconds, whatever time zone and date style the session has. */
export function rfc3339(moment: SQL | { getSQL(): SQL }): SQL<string> {
  return sql<string>`to_char(${moment} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
}

/** What queries are built on: the database itself, or a transaction in it. */
export type Queries = Pick<PostgresJsDatabase, 'select' | 'insert' | 'update' | 'delete' | 'execute'>

/** An open transaction of ours. */
export interface WriteScope {
  readonly queries: Queries
  /** Called once the transaction has committed, in order; a callback that throws is ignored. */
  afterCommit(callback: () => void): void
}

/** A write whose input is checked already, and that only needs a transaction. */
export type PreparedWrite<T> = (scope: WriteScope) => Promise<T>

/**
 * The small tables, and how to read and write them. Rejects with `NOT_MIGRATED` or `UNAVAILABLE` where the database cannot
 * answer; other errors are those of postgres.js, whose messages hold no parameters.
 */
export interface Store {
  readonly schema: string
  readonly tables: Tables
  /** The schema's `clock()`, the one that rules read. */
  readonly clock: SQL<string>
  /** A fresh time-ordered uuid, made by the database. */
  readonly newId: SQL<string>
  read<T>(work: (queries: Queries) => Promise<T>): Promise<T>
  /** Runs `work` in one READ COMMITTED transaction, whatever isolation the database has as its default. */
  write<T>(work: PreparedWrite<T>): Promise<T>
  /** Waits for the transactions that hold the same lock, until the end of the scope's transaction. */
  lock(scope: WriteScope, purpose: string): Promise<void>
}

/**
 * Opens the store on a client of ours.
 *
 * drizzle changes the client's parsers, for everyone who uses it: timestamps and dates come as text from then on, and are to
 * be given as text.
 */
export function openStore(client: Sql, schema: string): Store {
  const database = drizzle(client)
  return {
    schema,
    tables: tables(schema),
    clock: clockOf(schema),
    newId: sql<string>`${sql.raw(schema)}.new_id()`,
    read: (work) => withPlainErrors(() => work(database)),
    async write(work) {
      const callbacks: (() => void)[] = []
      const result = await withPlainErrors(() =>
        database.transaction((tx) =>
          untilConnectionLost(async () => {
            await tx.execute(sql`set transaction isolation level read committed`)
            return await work({ queries: tx, afterCommit: (callback) => void callbacks.push(callback) })
          }),
        ),
      )
      for (const callback of callbacks) callAfterCommit(callback)
      return result
    },
    async lock(scope, purpose) {
      // A statement of its own: what is read after it sees what the other holders committed.
      await scope.queries.execute(sql`select pg_advisory_xact_lock(${advisoryKey(schema, purpose)}::bigint)`)
    },
  }
}

function clockOf(schemaName: string): SQL<string> {
  return sql<string>`${sql.raw(schemaName)}.clock()`
}

/** drizzle's own error holds every parameter in its message: URLs, accounts, sealed secrets. Its cause does not. */
async function withPlainErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw typedDatabaseError(error instanceof DrizzleQueryError && error.cause !== undefined ? error.cause : error)
  }
}

/** The write has happened; nothing that a listener does may make it look as if it had not. */
function callAfterCommit(callback: () => void): void {
  try {
    callback()
  } catch {}
}
