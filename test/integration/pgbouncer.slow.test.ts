/** Emit, and workers, behind a real PgBouncer in transaction mode. */
import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { BEHIND_POOLER, WIRE_FORMS } from '../data-layers/layers/index.ts'
import { describeConformance } from '../data-layers/suites/conformance.ts'
import { describeDelivery } from '../data-layers/suites/delivery.ts'
import { type Host, openHost } from '../data-layers/suites/host.ts'
import { findPgBouncer, type PgBouncer, startPgBouncer, versionOf } from '../support/pgbouncer.ts'

const POOL_SIZE = 6

const program = findPgBouncer()
if (program === null) {
  console.warn('SKIPPED: emit and workers behind PgBouncer. Install it (apt-get install pgbouncer), or set PGBOUNCER.')
}

const name = program === null ? 'PgBouncer' : versionOf(program)

describe.skipIf(program === null)(`behind ${name}`, () => {
  let host: Host
  let pooler: PgBouncer
  beforeAll(async () => {
    host = await openHost(inject('postgresAdminUrl'), inject('postgresRunPrefix'))
    pooler = await startPgBouncer(program as string, host.url, POOL_SIZE)
  })
  afterAll(async () => {
    await pooler?.stop()
    await host?.stop()
  })

  const pooled = () => pooler.url(host.url)

  test('shares its connections: a session is none', async () => {
    const sql = postgres(pooled(), { max: 20, prepare: false, onnotice: () => {} })
    try {
      const rows = await Promise.all(
        Array.from({ length: 60 }, () => sql.begin((tx) => tx`select pg_backend_pid() pid, pg_sleep(0.002)`)),
      )
      expect(new Set(rows.map(([row]) => row?.pid)).size).toBeLessThanOrEqual(POOL_SIZE)
    } finally {
      await sql.end({ timeout: 5 })
    }
  })

  describe('workers, by options', () => {
    const options = () => {
      const { hostname, port, pathname, username, password } = new URL(pooled())
      return { host: hostname, port: Number(port), database: pathname.slice(1), username, password, prepare: false }
    }
    describeDelivery(BEHIND_POOLER, () => host, options, pooled)
  })

  describe('workers, by a connection string', () => {
    describeDelivery(
      BEHIND_POOLER.slice(0, 1),
      () => host,
      () => `${pooled()}?prepare=false`,
      pooled,
    )
  })

  describe('emit', () => {
    describeConformance(WIRE_FORMS, () => ({ ...host, url: pooled() }))
  })
})
