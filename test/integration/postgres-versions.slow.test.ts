/**
 * Everything about emitting, and delivery end to end, on every Postgres from 14 that this machine can run; 18 is the one of the
 * quick tests. Others by TEST_DATABASE_URL, or TEST_POSTGRES=container with TEST_POSTGRES_IMAGE=postgres:17.
 */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { DATA_LAYERS, SINGLE_USE_LAYERS } from '../data-layers/layers/index.ts'
import { describeConformance } from '../data-layers/suites/conformance.ts'
import { describeDelivery } from '../data-layers/suites/delivery.ts'
import { describeGuard } from '../data-layers/suites/guard.ts'
import { type Host, openHost } from '../data-layers/suites/host.ts'
import { describeIds } from '../data-layers/suites/ids.ts'
import { describeRoles } from '../data-layers/suites/roles.ts'
import { describeSearchPath } from '../data-layers/suites/search-path.ts'
import {
  findPostgres,
  type PostgresVersion,
  startPostgresVersion,
  type VersionedPostgres,
} from '../support/postgres-version.ts'

for (const major of [14, 15, 16, 17]) {
  if (findPostgres(major) === null) console.warn(`SKIPPED: Postgres ${major} is not on this machine.`)
}

describe.each([14, 15, 16, 17].map((major) => ({ major, found: findPostgres(major) })))(
  'Postgres $major',
  ({ major, found }) => {
    describe.skipIf(found === null)('where it is installed', () => {
      let server: VersionedPostgres
      let host: Host
      beforeAll(async () => {
        server = await startPostgresVersion(found as PostgresVersion)
        host = await openHost(server.url, inject('postgresRunPrefix'))
      })
      afterAll(async () => {
        await host?.stop()
        await server?.stop()
      })

      test('is that version', async () => {
        const [row] = await host.sql`select current_setting('server_version_num')::int / 10000 major`
        expect(row?.major).toBe(major)
      })

      describe('ids', () => {
        describeIds(() => host)
      })
      describe('emit', () => {
        describeConformance(DATA_LAYERS, () => host)
      })
      describe('guards', () => {
        describeGuard(SINGLE_USE_LAYERS, () => host)
      })
      describe('search_path', () => {
        describeSearchPath(() => host)
      })
      describe('delivery', () => {
        const url = () => host.url
        describeDelivery(DATA_LAYERS.slice(0, 1), () => host, url, url)
      })
      describe('a role that may only emit', () => {
        describeRoles(() => host)
      })
    })
  },
)
