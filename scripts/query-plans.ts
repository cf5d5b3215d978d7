/** Writes docs/query-plans.md: `node --conditions=posthaste-source scripts/query-plans.ts`. A test holds it to the code. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startPostgres } from '../test/support/embedded-postgres.ts'
import { explainHotQueries } from '../test/support/hot-queries.ts'
import { describeHotQueries } from '../test/support/hot-query-page.ts'

const server = await startPostgres()
try {
  const page = describeHotQueries(await explainHotQueries(server.url))
  writeFileSync(join(import.meta.dirname, '..', 'docs', 'query-plans.md'), page)
} finally {
  await server.stop()
}
