import { expect, test } from 'vitest'
import { openPgPool } from './pg-pool.ts'

test.each([
  ['verify-full', true],
  ['require', { rejectUnauthorized: false }],
  ['prefer', { rejectUnauthorized: false }],
  [true, true],
  [false, false],
  [{ ca: 'PEM' }, { ca: 'PEM' }],
] as const)('ssl: %j verifies as postgres.js does with it', async (ssl, expected) => {
  const pool = await openPgPool({ host: 'db.example', ssl }, 1)
  expect(pool.options.ssl).toEqual(expected)
  await pool.end()
})

test('without ssl nothing is said of it', async () => {
  const pool = await openPgPool({ host: 'db.example' }, 1)
  expect(pool.options.ssl).toBeUndefined()
  await pool.end()
})
