import postgres from 'postgres'
import { afterAll, describe, expect, test } from 'vitest'
import { createTestDatabase } from './postgres.ts'

describe('createTestDatabase', () => {
  const made: { drop(): Promise<void> }[] = []
  afterAll(async () => {
    for (const database of made) await database.drop()
  })

  test('gives each caller a database of its own, at the same time', async () => {
    const databases = await Promise.all([createTestDatabase(), createTestDatabase(), createTestDatabase()])
    made.push(...databases)
    expect(new Set(databases.map(({ name }) => name)).size).toBe(3)
    for (const { url, name } of databases) {
      const sql = postgres(url, { max: 1 })
      await sql`create table only_here (id int)`
      const [row] = await sql`select current_database() as name`
      expect(row).toEqual({ name })
      await sql.end()
    }
  })

  test('drops it although somebody is still connected', async () => {
    const database = await createTestDatabase()
    const sql = postgres(database.url, { max: 1, onclose: () => {} })
    await sql`select 1`
    await database.drop()
    await expect(sql`select 1`).rejects.toThrow()
    await sql.end({ timeout: 1 })
    await database.drop()
  })
})
