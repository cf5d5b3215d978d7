import type { DataLayer } from './data-layer.ts'
import { drizzleOverNodePostgres, drizzleOverPostgresJs } from './drizzle.ts'
import { knex } from './knex.ts'
import { kysely, kyselyControlled } from './kysely.ts'
import { mikroOrm } from './mikro-orm.ts'
import { bareQuery, nodePostgres, simpleProtocol } from './node-postgres.ts'
import { postgresJs, postgresJsReserved } from './postgres-js.ts'
import { prisma } from './prisma.ts'
import { sequelize } from './sequelize.ts'
import { typeOrmManager, typeOrmRunner } from './typeorm.ts'

/** Every data layer that emit is tested with. */
export const DATA_LAYERS: readonly DataLayer[] = [
  postgresJs(true),
  postgresJs(false),
  postgresJsReserved,
  nodePostgres,
  bareQuery,
  simpleProtocol,
  drizzleOverPostgresJs,
  drizzleOverNodePostgres,
  kysely,
  kyselyControlled,
  knex,
  prisma,
  typeOrmManager,
  typeOrmRunner,
  mikroOrm,
  sequelize,
]

/** Those whose objects each stand for one transaction, and are of no use after it. */
export const SINGLE_USE_LAYERS: readonly DataLayer[] = [
  postgresJs(true),
  postgresJs(false),
  drizzleOverPostgresJs,
  drizzleOverNodePostgres,
  kysely,
  kyselyControlled,
  knex,
  prisma,
  typeOrmManager,
  typeOrmRunner,
  mikroOrm,
  sequelize,
]

/** Those that prepare no named statements, which a transaction-pooling proxy may not support. */
export const BEHIND_POOLER: readonly DataLayer[] = [
  postgresJs(false),
  nodePostgres,
  bareQuery,
  simpleProtocol,
  drizzleOverNodePostgres,
  kysely,
  kyselyControlled,
  knex,
  prisma,
  typeOrmManager,
  typeOrmRunner,
  mikroOrm,
  sequelize,
]

/** One of each way to talk to the server. */
export const WIRE_FORMS: readonly DataLayer[] = [postgresJs(false), nodePostgres, simpleProtocol, prisma]
