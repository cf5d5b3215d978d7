import postgres from 'postgres'

/** Every database that a test makes: prefix, the run's start in Unix seconds, its pid, a number of its own. */
export const RUN_PREFIX = 'posthaste_test_'

/** No run takes that long, so what is older was left by a killed one. */
export const STALE_AFTER_MS = 6 * 3_600_000

/** One connection to the server's own database, for as long as `work` takes. */
export async function withAdmin<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 30 })
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
}

export async function dropDatabases(url: string, chosen: (name: string, ageMs: number) => boolean): Promise<void> {
  await withAdmin(url, async (sql) => {
    const rows = await sql<{ datname: string }[]>`
      select datname from pg_database where starts_with(datname, ${RUN_PREFIX})`
    for (const { datname } of rows) {
      const startedAt = Number(datname.slice(RUN_PREFIX.length).split('_')[0]) * 1000
      if (chosen(datname, Date.now() - startedAt)) await sql`drop database if exists ${sql(datname)} with (force)`
    }
  })
}
