/** The statements of dispatching and delivering are served by indexes: their cost grows with the work, not with what there is. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { explainHotQueries, type HotQuery } from '../support/hot-queries.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let database: TestDatabase
let queries: HotQuery[]

beforeAll(async () => {
  database = await createTestDatabase()
  queries = await explainHotQueries(database.url)
}, 180_000)
afterAll(() => database.drop())

/** One row, or one per worker or lane: there is nothing to skip. */
const SMALL = ['workers', 'lanes', 'installation']

test('no hot query reads a whole table that grows', () => {
  expect(queries.length).toBeGreaterThan(10)
  for (const { name, plans } of queries) {
    expect([name, plans.length > 0]).toEqual([name, true])
    for (const plan of plans) {
      const scanned = [...plan.matchAll(/Seq Scan on (\w+).*?(never executed|rows=\d+)/g)]
      const whole = scanned.filter(
        ([, table = '', rows = '']) => !SMALL.includes(table) && !table.startsWith('pg_') && rows !== 'never executed',
      )
      expect([name, whole.map(([line]) => line)]).toEqual([name, []])
    }
  }
})

test('docs/query-plans.md shows these queries', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/query-plans.md'), 'utf8')
  expect([...page.matchAll(/^## (.*)$/gm)].map(([, name]) => name)).toEqual(queries.map(({ name }) => name))
})
