/** Looks of the dispatcher by hand, of any page size, and what they must have come to. */
import { expect } from 'vitest'
import type { Sql } from '../../packages/core/src/storage/connection.ts'

/** What one look did. */
export interface Look {
  n: number
  events: number
  deliveries: number
  more: boolean
}

/** One look, by the installation `test`; undefined where another is under way. */
export async function look(sql: Sql, maxEvents = 1_000, maxMatches = 2_000): Promise<Look | undefined> {
  const [row] = await sql`select * from posthaste.dispatch(${maxEvents}, ${maxMatches}, 'test')`
  return row as Look | undefined
}

/**
 * Looks until two find nothing: the first may only have ended a window, and others have committed since it began. Answers how
 * many looks that were, these two among them.
 */
export async function dispatchAll(sql: Sql, maxEvents?: number, maxMatches?: number): Promise<number> {
  let looks = 0
  for (let empty = 0; empty < 2; looks++) {
    if (looks > 2_000) throw new Error('it does not come to an end')
    const found = await look(sql, maxEvents, maxMatches)
    empty = found !== undefined && !found.more && found.events === 0 ? empty + 1 : 0
  }
  return looks
}

/** Every event has one delivery for each of its account's endpoints, and each account's are numbered in its events' order. */
export async function expectExactlyOnceInOrder(sql: Sql): Promise<void> {
  const [wrong] = await sql`
    with expected as (
      select e.id, s.endpoint from posthaste.events e
      join posthaste.subscriptions s on s.account = e.account and s.pattern = any (posthaste.patterns(e.type))
      where not exists (select from posthaste.duplicates u where u.event_id = e.id)),
    made as (select event_id id, endpoint from posthaste.deliveries)
    select (select count(*)::int from (select * from expected except all select * from made) x) missing,
      (select count(*)::int from (select * from made except all select * from expected) x) too_many,
      (select count(*)::int from (select d.seq, lag(d.seq) over (partition by d.endpoint order by e.xid, e.id) before
        from posthaste.deliveries d join posthaste.events e on e.id = d.event_id) x where x.seq < x.before) out_of_order`
  expect(wrong).toEqual({ missing: 0, too_many: 0, out_of_order: 0 })
}
