/** The one Postgres of a run, and a fresh database for each measurement. */
import { randomBytes } from 'node:crypto'
import postgres from 'postgres'
import { type RunningPostgres, startPostgres } from 'posthaste-test/embedded-postgres'
import { treeCpuSeconds } from './process-usage.ts'

export interface BenchPostgres {
  readonly server: RunningPostgres
  readonly version: string
  readonly durable: boolean
  createDatabase(): Promise<BenchDatabase>
  cpuSeconds(): number
  /** Writes out what is only in memory. */
  checkpoint(): Promise<void>
  stop(): Promise<void>
}

export interface BenchDatabase {
  readonly url: string
  drop(): Promise<void>
}

/**
 * @param durable whether commits wait for the disk, as in production; without it a commit is cheap and everything else
 *   weighs more
 * @param logStatements log statements of 0.2 ms and more with plan and time, also those inside functions
 */
export async function startBenchPostgres(durable: boolean, logStatements: boolean): Promise<BenchPostgres> {
  const server = await startPostgres({
    settings: {
      fsync: durable,
      full_page_writes: durable,
      max_connections: 200,
      ...(logStatements
        ? {
            shared_preload_libraries: 'auto_explain',
            'auto_explain.log_min_duration': '200us',
            'auto_explain.log_timing': false,
            'auto_explain.log_analyze': true,
            'auto_explain.log_buffers': true,
            'auto_explain.log_nested_statements': true,
          }
        : {}),
    },
  })
  const admin = postgres(server.url, { max: 1, onnotice: () => {} })
  const [row] = await admin`select current_setting('server_version') version`
  return {
    server,
    version: row?.version as string,
    durable,
    async createDatabase() {
      const name = `bench_${randomBytes(4).toString('hex')}`
      await admin`create database ${admin(name)} template template0`
      const url = new URL(server.url)
      url.pathname = `/${name}`
      return {
        url: url.href,
        drop: async () => {
          await admin`drop database ${admin(name)} with (force)`
        },
      }
    },
    cpuSeconds: () => (server.pid === null ? 0 : treeCpuSeconds(server.pid)),
    async checkpoint() {
      await admin`checkpoint`
    },
    async stop() {
      await admin.end({ timeout: 5 })
      await server.stop()
    },
  }
}
