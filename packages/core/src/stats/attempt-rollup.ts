import type { Clock } from '../clock.ts'
import type { Sql } from '../storage/connection.ts'
import { HOUR_MS, MAX_DAYS } from './stats-schemas.ts'

/** Keeps the sums of busy hours, so that statistics need not read every attempt again. They are right without it. */
export interface AttemptRollup {
  /** Does what is to be done by now, in short statements. */
  run(): Promise<void>
}

/** An hour is summed up this long after its end: what is recorded later of it is missing from its sums. */
const LATE_RECORDS_MS = 600_000
/** How far back a process looks at first: whoever did this before may have been gone for a while. */
const HOURS_BACK = 3
const ENDPOINTS_PER_STATEMENT = 500
/** An hour with fewer attempts is as quick to read as its sums: 100 in each hour of 31 days take 0.1 s. */
const MANY_ATTEMPTS = 100

export function createAttemptRollup(sql: Sql, schema: string, clock: Clock): AttemptRollup {
  const s = sql(schema)
  /** The last hour that is summed up. */
  let done: number | null = null
  return {
    async run() {
      const last = Math.floor((clock.now() - LATE_RECORDS_MS) / HOUR_MS) - 1
      for (let hour = Math.max((done ?? 0) + 1, last - HOURS_BACK + 1); hour <= last; hour++) {
        let after: number | null = 0
        while (after !== null) {
          const [row] = await sql`
            select ${s}.roll_up(${hour}::int, ${after}::int, ${ENDPOINTS_PER_STATEMENT}::int, ${MANY_ATTEMPTS}::int) through`
          after = row?.through as number | null
        }
        done = hour
        await sql`delete from ${s}.attempt_hours where hour < ${hour - (MAX_DAYS + 1) * 24}::int`
      }
    },
  }
}
