/** Every example of docs/transactions.md, ready to be called. */
import { MikroORM } from '@mikro-orm/postgresql'
import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import { PrismaPg } from '@prisma/adapter-pg'
import { drizzle } from 'drizzle-orm/node-postgres'
import createKnex from 'knex'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import postgres from 'postgres'
import { Sequelize } from 'sequelize'
import { DataSource } from 'typeorm'
import * as deep from './examples/deep-in-the-call-stack.ts'
import * as drizzleExample from './examples/drizzle.ts'
import * as knexExample from './examples/knex.ts'
import * as kyselyExample from './examples/kysely.ts'
import * as mikroOrmExample from './examples/mikro-orm.ts'
import * as nodePostgresExample from './examples/node-postgres.ts'
import * as postgresJsExample from './examples/postgres-js.ts'
import * as prismaExample from './examples/prisma.ts'
import * as queryExample from './examples/query.ts'
import * as sequelizeExample from './examples/sequelize.ts'
import * as typeOrmExample from './examples/typeorm.ts'
import * as typeOrmRunnerExample from './examples/typeorm-query-runner.ts'
import { PrismaClient } from './prisma/client/client.ts'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export interface ExampleProgram {
  approve(webhooks: Webhooks, commission: Approved): Promise<void>
  close(): Promise<void>
}

/** By the name of the file in `examples/`. */
export const EXAMPLE_PROGRAMS: Record<string, (url: string) => Promise<ExampleProgram>> = {
  'postgres-js': async (url) => {
    const sql = postgres(url, { max: 1 })
    return { approve: (...args) => postgresJsExample.approve(sql, ...args), close: () => sql.end() }
  },
  'node-postgres': async (url) => {
    const pool = new pg.Pool({ connectionString: url })
    return { approve: (...args) => nodePostgresExample.approve(pool, ...args), close: () => pool.end() }
  },
  drizzle: async (url) => {
    const pool = new pg.Pool({ connectionString: url })
    const db = drizzle(pool)
    return { approve: (...args) => drizzleExample.approve(db, ...args), close: () => pool.end() }
  },
  kysely: async (url) => {
    const dialect = new PostgresDialect({ pool: new pg.Pool({ connectionString: url }) })
    const db = new Kysely<kyselyExample.Database>({ dialect })
    return { approve: (...args) => kyselyExample.approve(db, ...args), close: () => db.destroy() }
  },
  knex: async (url) => {
    const knex = createKnex({ client: 'pg', connection: url })
    return { approve: (...args) => knexExample.approve(knex, ...args), close: () => knex.destroy() }
  },
  prisma: async (url) => {
    const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: url }) })
    return { approve: (...args) => prismaExample.approve(prisma, ...args), close: () => prisma.$disconnect() }
  },
  typeorm: async (url) => {
    const source = new DataSource({ type: 'postgres', url, entities: [typeOrmExample.Commission] })
    await source.initialize()
    return { approve: (...args) => typeOrmExample.approve(source, ...args), close: () => source.destroy() }
  },
  'typeorm-query-runner': async (url) => {
    const source = new DataSource({ type: 'postgres', url, entities: [typeOrmExample.Commission] })
    await source.initialize()
    return { approve: (...args) => typeOrmRunnerExample.approve(source, ...args), close: () => source.destroy() }
  },
  'mikro-orm': async (url) => {
    const orm = new MikroORM({ clientUrl: url, entities: [mikroOrmExample.Commission] })
    return { approve: (...args) => mikroOrmExample.approve(orm, ...args), close: () => orm.close() }
  },
  sequelize: async (url) => {
    const sequelize = new Sequelize(url, { dialect: 'postgres', logging: false })
    return { approve: (...args) => sequelizeExample.approve(sequelize, ...args), close: () => sequelize.close() }
  },
  query: async (url) => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    return { approve: (...args) => queryExample.approve(client, ...args), close: () => client.end() }
  },
  'deep-in-the-call-stack': async (url) => {
    const sql = postgres(url, { max: 1 })
    return { approve: (...args) => deep.approve(sql, ...args), close: () => sql.end() }
  },
}
