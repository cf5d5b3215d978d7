/** Statistics of an endpoint: how many deliveries of which status, how quick, and hour by hour. */

import type { Clock } from '../clock.ts'
import { findLoggedEndpoint, type LoggedEndpoint } from '../deliveries/delivery-rows.ts'
import { attemptedThrough } from '../deliveries/delivery-status.ts'
import { toRange } from '../endpoints/time-range.ts'
import { invalidInput, validateInput } from '../endpoints/validate-input.ts'
import { PosthasteError } from '../errors.ts'
import { laneOf } from '../lanes/lane-number.ts'
import { sql } from '../storage/orm.ts'
import type { Queries, Store } from '../storage/tables.ts'
import { LatencyHistogram } from './latency-histogram.ts'
import { DEFAULT_HOURS, HOUR_MS, MAX_DAYS, type Stats, type StatsQuery, statsQuerySchema } from './stats-schemas.ts'

export interface Statistics {
  /**
   * Of an endpoint over a window of at most 31 days; default: the last 24 hours.
   *
   * @throws {PosthasteError} `NOT_FOUND`, also of a deleted endpoint; `VALIDATION_FAILED`
   */
  get(account: string, endpointId: string, query?: StatsQuery): Promise<Stats>
}

interface HourSums extends Record<string, unknown> {
  hour: number
  succeeded: number
  failed: number
  ended: number
  expired: number
  cancelled: number
  buckets: number[]
  counts: number[]
}

interface Window {
  sinceMs: number
  untilMs: number
}

/** Waiting deliveries are counted up to this many. */
const MOST_COUNTED = 100_000

export function createStatistics(store: Store, clock: Clock): Statistics {
  const s = sql.raw(store.schema)

  /** Sums of whole hours that are kept. */
  async function keptHours(queries: Queries, endpoint: number, window: Window): Promise<HourSums[]> {
    const first = Math.ceil(window.sinceMs / HOUR_MS)
    const end = Math.floor(window.untilMs / HOUR_MS)
    const rows = await queries.execute<HourSums>(sql`
      select hour, succeeded, failed, ended, expired, cancelled, buckets, counts from ${s}.attempt_hours
      where endpoint = ${endpoint}::int and hour >= ${first}::int and hour < ${end}::int order by hour`)
    return [...rows]
  }

  async function sumHours(queries: Queries, endpoint: number, windows: readonly Window[]): Promise<HourSums[]> {
    const rows = await queries.execute<HourSums>(sql`
      select x.* from json_to_recordset(${JSON.stringify(windows)}::text::json) w("sinceMs" float8, "untilMs" float8)
      cross join lateral ${s}.attempt_sums(${endpoint}::int, to_timestamp(w."sinceMs" / 1000), to_timestamp(w."untilMs" / 1000)) x`)
    return [...rows]
  }

  async function waiting(queries: Queries, { no }: LoggedEndpoint): Promise<{ fresh: number; retries: number }> {
    const [row] = await queries.execute<{ fresh: number; retries: number }>(sql`
      select (select count(*)::int from (
          select from ${s}.deliveries d
          where d.endpoint = ${no}::int and d.seq > ${attemptedThrough(store.schema, no, laneOf(no))}
            and (select true from ${s}.attempts a where a.delivery_id = d.id limit 1) is null limit ${MOST_COUNTED}) f) fresh,
        (select count(*)::int from (select distinct delivery_id from ${s}.retries
          where endpoint = ${no}::int limit ${MOST_COUNTED}) q) retries`)
    return row ?? { fresh: 0, retries: 0 }
  }

  return {
    async get(account, endpointId, query = {}) {
      const window = toWindow(validateInput(statsQuerySchema, query, 'The query'), clock.now())
      return await store.read(async (queries) => {
        const endpoint = await findLoggedEndpoint(store, queries, account, endpointId)
        if (endpoint.deleted) throw new PosthasteError('NOT_FOUND', `There is no endpoint ${endpointId.slice(0, 64)}.`)
        const kept = await keptHours(queries, endpoint.no, window)
        const rest = await sumHours(queries, endpoint.no, gapsOf(window, kept))
        const { fresh, retries } = await waiting(queries, endpoint)
        const held = endpoint.served ? 0 : fresh + retries
        return {
          endpoint_id: endpointId,
          ...summarise(window, [...kept, ...rest], {
            pending: endpoint.served ? fresh : 0,
            retrying: endpoint.served ? retries : 0,
            held,
          }),
        }
      })
    },
  }
}

function toWindow(query: StatsQuery, nowMs: number): Window {
  const given = toRange(query)
  const untilMs = given.untilMs ?? nowMs
  const sinceMs = given.sinceMs ?? Math.max(0, untilMs - DEFAULT_HOURS * HOUR_MS)
  if (sinceMs >= untilMs)
    throw invalidInput('The query', [{ path: 'since', message: 'This must be earlier than until.' }])
  if (untilMs - sinceMs > MAX_DAYS * 24 * HOUR_MS) {
    throw invalidInput('The query', [{ path: 'since', message: `The window is longer than ${MAX_DAYS} days.` }])
  }
  return { sinceMs, untilMs }
}

/** The parts of a window that no kept hour covers. `kept` is in order. */
export function gapsOf({ sinceMs, untilMs }: Window, kept: readonly { hour: number }[]): Window[] {
  const gaps: Window[] = []
  let at = sinceMs
  for (const { hour } of kept) {
    if (hour * HOUR_MS > at) gaps.push({ sinceMs: at, untilMs: hour * HOUR_MS })
    at = (hour + 1) * HOUR_MS
  }
  if (at < untilMs) gaps.push({ sinceMs: at, untilMs })
  return gaps
}

function summarise(
  { sinceMs, untilMs }: Window,
  sums: readonly HourSums[],
  waiting: { pending: number; retrying: number; held: number },
): Omit<Stats, 'endpoint_id'> {
  // Kept hours are whole, so none comes in two parts.
  const byHour = new Map(sums.map((one) => [one.hour, one]))
  const total = (member: 'succeeded' | 'failed' | 'ended' | 'expired' | 'cancelled') =>
    sums.reduce((sum, one) => sum + one[member], 0)
  const attempts = { succeeded: total('succeeded'), failed: total('failed') }
  const made = attempts.succeeded + attempts.failed
  const hours: Stats['hours'] = []
  for (let hour = Math.floor(sinceMs / HOUR_MS); hour * HOUR_MS < untilMs; hour++) {
    const one = byHour.get(hour)
    hours.push({
      hour: new Date(hour * HOUR_MS).toISOString(),
      succeeded: one?.succeeded ?? 0,
      failed: one?.failed ?? 0,
      ...percentilesOf(one === undefined ? [] : [one]),
    })
  }
  return {
    since: new Date(sinceMs).toISOString(),
    until: new Date(untilMs).toISOString(),
    deliveries: {
      ...waiting,
      succeeded: attempts.succeeded,
      failed: total('ended'),
      cancelled: total('cancelled'),
      expired: total('expired'),
    },
    attempts,
    success_rate: made === 0 ? null : attempts.succeeded / made,
    latency_ms: percentilesOf(sums),
    hours,
  }
}

function percentilesOf(sums: readonly HourSums[]) {
  const histogram = new LatencyHistogram()
  for (const { buckets, counts } of sums) histogram.add(buckets, counts)
  return histogram.percentiles()
}
