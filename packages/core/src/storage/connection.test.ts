import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../../../test/support/postgres.ts'
import { connect, type Sql } from './connection.ts'

let database: TestDatabase
let sql: Sql

beforeAll(async () => {
  database = await createTestDatabase()
  sql = connect(database.url, 2)
})

afterAll(async () => {
  await sql.end()
  await database.drop()
})

test.each([
  ['smallint[]', [1, -2]],
  ['int[]', []],
  ['int[]', [1, 2, 3]],
  ['bigint[]', [1, Number.MAX_SAFE_INTEGER]],
  ['double precision[]', [0.5, -1.25]],
  ['text[]', []],
  ['text[]', ['a', '', 'b c', 'comma, "quote" and \\backslash\\', '{brace}', 'NULL', 'ünï😀', "it's"]],
  ['uuid[]', ['01900000-0000-7000-8000-000000000000']],
])('%s %j goes there and comes back', async (type, value) => {
  const [row] = await sql.unsafe(`select $1::${type} v`, [value] as never[], { prepare: true })
  expect(row!.v).toEqual(value)
})

test('a null in an array of numbers', async () => {
  const rows = await sql`select x from unnest(${[1, null, 3] as number[]}::int[]) x`
  expect(rows.map((row) => row.x)).toEqual([1, null, 3])
})
