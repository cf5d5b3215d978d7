/** Our ids, made by the database: RFC 9562 version 7, ascending within a session, also where Postgres has no uuidv7(). */
import { expect, test } from 'vitest'
import type { Host } from './host.ts'

export function describeIds(host: () => Host): void {
  test('version 7 of RFC 9562, with the time in front', async () => {
    const [row] = await host().sql`
      select id::text, (extract(epoch from clock_timestamp()) * 1000)::bigint::text now from posthaste.new_id() id`
    const id = row?.id as string
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    const made = Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)
    expect(Number(row?.now) - made).toBeGreaterThanOrEqual(0)
    expect(Number(row?.now) - made).toBeLessThan(1_000)
  })

  test('ascending within a session, unique among sessions', async () => {
    const made = await Promise.all(
      [1, 2, 3, 4].map(async () => {
        const rows = await host().sql<
          { id: string }[]
        >`select posthaste.new_id()::text id from generate_series(1, 20000)`
        return rows.map(({ id }) => id)
      }),
    )
    for (const ids of made) expect(ids).toEqual(ids.toSorted())
    expect(new Set(made.flat()).size).toBe(80_000)
  })

  test('fall into the partition of their week, none into the net', async () => {
    await host().webhooks.emit('test.happened', { n: 1 }, { tx: 'own' })
    const [row] = await host()
      .sql`select count(*)::int n, (select count(*)::int from only posthaste.events_default) lost
      from posthaste.events`
    expect(row).toEqual({ n: 1, lost: 0 })
    await host().clear()
  })
}
