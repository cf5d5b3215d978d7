import type { Clock } from '../clock.ts'
import type { DeliveryExpirer } from '../delivery/delivery-expirer.ts'
import type { Sql } from '../storage/connection.ts'

/** Ends what has waited at the declared limit for endpoints that nobody serves: switched off, or disabled. */
export interface HeldExpiry {
  run(): Promise<void>
}

const EVERY_MS = 3_600_000
const MOST_SEQ = Number.MAX_SAFE_INTEGER

export function createHeldExpiry(sql: Sql, schema: string, clock: Clock, expirer: DeliveryExpirer): HeldExpiry {
  const s = sql(schema)
  let dueAt = Number.NEGATIVE_INFINITY

  async function expire(endpoint: number, cursor: number, oldest: string): Promise<void> {
    for (let after = cursor; ; ) {
      const found = await expirer.expire({
        endpoint,
        after,
        through: MOST_SEQ,
        oldest,
        except: [],
        token: null,
        reason: 'held',
      })
      if (found === null) return
      if (cursor < MOST_SEQ && found.through > after) {
        // All before it have ended, so this is right also where the endpoint is served again by now.
        await sql`update ${s}.backlogs set cursor_seq = greatest(cursor_seq, ${found.through}::bigint) where endpoint = ${endpoint}`
      }
      if (!found.more) return
      after = found.through
    }
  }

  return {
    async run() {
      if (clock.now() < dueAt) return
      const rows = await sql`
        select e.no, b.cursor_seq, b.oldest::text from ${s}.endpoints e left join ${s}.backlogs b on b.endpoint = e.no
        where e.deleted_at is null and (not e.active or e.disabled_at is not null)
          and (b.endpoint is not null or (select true from ${s}.retries r where r.endpoint = e.no limit 1))`
      for (const row of rows) {
        await expire(
          row.no as number,
          (row.cursor_seq as number | null) ?? MOST_SEQ,
          (row.oldest as string | null) ?? 'ffffffff-ffff-ffff-ffff-ffffffffffff',
        )
      }
      dueAt = clock.now() + EVERY_MS
    },
  }
}
