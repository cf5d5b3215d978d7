/**
 * drizzle-orm, loaded by `require`. As ES modules its hundred files make Node read the package's 180 kB package.json for each:
 * measured on Node 24, one second and 140 MB at each start, of which nothing stays (RSS 225 MB; by `require` 72 MB).
 */
import { createRequire } from 'node:module'
import type { SQL } from 'drizzle-orm'
import type { PgUpdateSetSource } from 'drizzle-orm/pg-core'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'

const require = createRequire(import.meta.url)
const orm = require('drizzle-orm') as typeof import('drizzle-orm')
const pgCore = require('drizzle-orm/pg-core') as typeof import('drizzle-orm/pg-core')
const driver = require('drizzle-orm/postgres-js') as typeof import('drizzle-orm/postgres-js')

export type { PgUpdateSetSource, PostgresJsDatabase, SQL }

export const { and, count, desc, DrizzleQueryError, eq, inArray, isNull, lt, notInArray, sql } = orm
export const { boolean, integer, PgSchema, primaryKey, text, timestamp, uuid } = pgCore
export const { drizzle } = driver
