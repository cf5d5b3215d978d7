import type { Clock } from '../clock.ts'
import type { Sql } from '../storage/connection.ts'

export interface LaneOffersOptions {
  sql: Sql
  schema: string
  queueSchema: string
  clock: Clock
}

/** Offers lanes that have work and no owner to whichever worker fetches the job first. */
export interface LaneOffers {
  /** Offers each idle lane that has work: a dispatched row beyond its position, a due retry, a backlog. Answers how many. */
  offerIdle(): Promise<number>
}

export const OFFER_TASK = 'posthaste:offer_lane'
/** At most one offer per lane in this time: jobs leave dead rows, which the engine reads through at each fetch. */
const OFFER_AGAIN_MS = 2_000

export function createLaneOffers({ sql, schema, queueSchema, clock }: LaneOffersOptions): LaneOffers {
  const s = sql(schema)
  const offeredAt = new Map<number, number>()
  return {
    async offerIdle() {
      const idle = await sql`select l.lane from ${s}.lanes l where l.token is null and (
          l.position < (select n from ${s}.dispatches order by n desc limit 1)
          or exists (select 1 from ${s}.retries r where r.lane = l.lane and r.due_at <= ${s}.clock())
          or exists (select 1 from ${s}.backlogs b where b.lane = l.lane))`
      const now = clock.monotonic()
      const lanes = idle
        .map((row) => row.lane as number)
        .filter((lane) => now - (offeredAt.get(lane) ?? Number.NEGATIVE_INFINITY) >= OFFER_AGAIN_MS)
      if (lanes.length === 0) return 0
      for (const lane of lanes) offeredAt.set(lane, now)
      // Every parameter with a cast: drivers differ in what they make of named arguments. No run_at: `replace` would move it.
      await sql`select ${sql(queueSchema)}.add_job(identifier => ${OFFER_TASK}::text,
          payload => json_build_object('lane', lane::int)::json, job_key => ('lane:' || lane)::text,
          job_key_mode => 'replace'::text, max_attempts => 1::int)
        from unnest(${lanes}::int[]) lane`
      return lanes.length
    },
  }
}
