/** Starts (or finds) the one Postgres server of a test run, and stops it at the end. See `postgres.ts` for the choice. */
import type { TestProject } from 'vitest/node'
import { dropDatabases, RUN_PREFIX, STALE_AFTER_MS } from './test-databases.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** Of a role that may create databases. */
    postgresAdminUrl: string
    /** What every database of this run begins with. */
    postgresRunPrefix: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await findServer()
  const runPrefix = `${RUN_PREFIX}${Math.floor(Date.now() / 1000)}_${process.pid}_`
  project.provide('postgresAdminUrl', server.url)
  project.provide('postgresRunPrefix', runPrefix)
  return server.stop
    ? server.stop
    : async () => {
        await dropDatabases(server.url, (name) => name.startsWith(runPrefix))
      }
}

async function findServer(): Promise<{ url: string; stop: (() => Promise<void>) | null }> {
  const given = process.env.TEST_DATABASE_URL
  if (given) {
    // A run that was killed leaves its databases on a server that goes on.
    await dropDatabases(given, (_name, ageMs) => ageMs > STALE_AFTER_MS)
    return { url: given, stop: null }
  }
  const kind = process.env.TEST_POSTGRES || 'embedded'
  if (kind === 'container') {
    const { startContainer } = await import('./postgres-container.ts')
    return startContainer()
  }
  if (kind !== 'embedded') throw new Error(`TEST_POSTGRES is "${kind}"; it knows "embedded" and "container".`)
  const { startPostgres } = await import('./embedded-postgres.ts')
  const server = await startPostgres()
  return { url: server.url, stop: () => server.stop('immediate') }
}
