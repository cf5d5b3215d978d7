import { MikroORM } from '@mikro-orm/postgresql'
import type { HostTransaction } from '@posthaste/core'
import { PrismaPg } from '@prisma/adapter-pg'
import { drizzle as drizzleNodePostgres } from 'drizzle-orm/node-postgres'
import { drizzle as drizzlePostgresJs } from 'drizzle-orm/postgres-js'
import createKnex from 'knex'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import postgres from 'postgres'
import { Sequelize } from 'sequelize'
import { DataSource } from 'typeorm'
import { Order } from './layers/mikro-orm.ts'
import { PrismaClient } from './prisma/client/client.ts'

const NOWHERE = 'postgres://nobody@127.0.0.1:1/nothing'

/** Emits with objects that are easily taken for a transaction. `tsc` checks that those that can be told apart do not compile. */
export function wrongObjects(emit: (tx: HostTransaction) => Promise<unknown>): Record<string, () => Promise<unknown>> {
  const pool = new pg.Pool({ connectionString: NOWHERE })
  const sql = postgres(NOWHERE)
  const knex = createKnex({ client: 'pg', connection: NOWHERE })
  const kysely = new Kysely<Record<string, never>>({ dialect: new PostgresDialect({ pool }) })
  const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: NOWHERE }) })
  const sequelize = new Sequelize(NOWHERE, { dialect: 'postgres', logging: false })
  const source = new DataSource({ type: 'postgres', url: NOWHERE })
  const orm = new MikroORM({ clientUrl: NOWHERE, entities: [Order] })
  return {
    // @ts-expect-error a pool
    'pool of node-postgres': () => emit(pool),
    // @ts-expect-error a pool
    'pool of postgres.js': () => emit(sql),
    // @ts-expect-error no transaction
    'Drizzle over node-postgres': () => emit(drizzleNodePostgres(pool)),
    // @ts-expect-error no transaction
    'Drizzle over postgres.js': () => emit(drizzlePostgresJs(sql)),
    // @ts-expect-error no transaction
    Kysely: () => emit(kysely),
    // @ts-expect-error no transaction
    Knex: () => emit(knex),
    // @ts-expect-error no transaction
    'Prisma client': () => emit(prisma),
    // @ts-expect-error no transaction
    Sequelize: () => emit(sequelize),
    // @ts-expect-error no transaction
    'DataSource of TypeORM': () => emit(source),
    // TypeORM and MikroORM have one type for their EntityManagers inside and outside of a transaction.
    "EntityManager of TypeORM's DataSource": () => emit(source.manager),
    'EntityManager of MikroORM': () => emit(orm.em),
    // @ts-expect-error a text
    text: () => emit('begin'),
    // @ts-expect-error null
    null: () => emit(null),
    // @ts-expect-error nothing in it
    'empty object': () => emit({}),
    // @ts-expect-error a promise: an await is missing
    promise: () => emit(Promise.resolve(sql)),
    // @ts-expect-error runs no statements
    'a function': () => emit(() => undefined),
    // @ts-expect-error its answer has no rows
    'a query() without rows': () => emit({ query: async (_text: string, _values: unknown[]) => 1 }),
  }
}
