/** Emits through every data layer, each the real library, on a real Postgres. */
import { afterAll, beforeAll, inject } from 'vitest'
import { DATA_LAYERS } from '../data-layers/layers/index.ts'
import { describeConformance } from '../data-layers/suites/conformance.ts'
import { type Host, openHost } from '../data-layers/suites/host.ts'

let host: Host
beforeAll(async () => {
  host = await openHost(inject('postgresAdminUrl'), inject('postgresRunPrefix'))
})
afterAll(() => host.stop())

describeConformance(DATA_LAYERS, () => host)
