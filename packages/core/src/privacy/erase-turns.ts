import type { Sql } from '../storage/connection.ts'

const CHUNKS_AT_ONCE = 200

/**
 * Erases what chunks that wait for their turn say of events that are gone: the account's name, or idempotency keys. The dispatcher
 * passes over the ids, which stay.
 *
 * @param account the account that is erased; null where only some events were
 */
export async function eraseTurns(sql: Sql, schema: string, account: string | null): Promise<void> {
  const s = sql(schema)
  if (account !== null) {
    await sql`update ${s}.turns set account = '', keys = null where account = ${account}`
    return
  }
  let after = { tag: -1, n: 0 }
  for (;;) {
    const [last] = await sql`
      with found as materialized (
        select t.tag, t.n from ${s}.turns t where (t.tag, t.n) > (${after.tag}::bigint, ${after.n}::bigint) and t.keys is not null
        order by t.tag, t.n limit ${CHUNKS_AT_ONCE}),
      erased as (
        update ${s}.turns t set keys = (
          select array_agg(case when (select true from ${s}.events e where e.id = k.id limit 1) then k.key end order by k.ord)
          from unnest(t.ids, t.keys) with ordinality k(id, key, ord))
        from found f where t.tag = f.tag and t.n = f.n)
      select f.tag, f.n from found f order by f.tag desc, f.n desc limit 1`
    if (last === undefined) return
    after = { tag: last.tag as number, n: last.n as number }
  }
}
