/** Emit refuses what is no transaction, needs few privileges, and means the same whatever the session's search_path. */
import { afterAll, beforeAll, describe, inject } from 'vitest'
import { DATA_LAYERS, SINGLE_USE_LAYERS } from '../data-layers/layers/index.ts'
import { describeDelivery } from '../data-layers/suites/delivery.ts'
import { describeGuard } from '../data-layers/suites/guard.ts'
import { type Host, openHost } from '../data-layers/suites/host.ts'
import { describeIds } from '../data-layers/suites/ids.ts'
import { describeRoles } from '../data-layers/suites/roles.ts'
import { describeSearchPath } from '../data-layers/suites/search-path.ts'

let host: Host
beforeAll(async () => {
  host = await openHost(inject('postgresAdminUrl'), inject('postgresRunPrefix'))
})
afterAll(() => host.stop())

describe('guards', () => {
  describeGuard(SINGLE_USE_LAYERS, () => host)
})
describe('ids', () => {
  describeIds(() => host)
})
describe('search_path', () => {
  describeSearchPath(() => host)
})
describe('a role that may only emit', () => {
  describeRoles(() => host)
})
describe('workers in a database whose search_path begins with a schema of others', () => {
  const name = () => new URL(host.url).pathname.slice(1)
  beforeAll(() => host.sql.unsafe(`alter database ${name()} set search_path = hostile`))
  afterAll(() => host.sql.unsafe(`alter database ${name()} reset search_path`))
  describeDelivery(
    DATA_LAYERS.slice(0, 1),
    () => host,
    () => host.url,
    () => host.url,
  )
})
