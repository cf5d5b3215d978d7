/** A window of time in a query, as in lists, replays and statistics, and the ids that lie in it. */
import * as z from 'zod'
import { msOfId } from '../ids.ts'
import { invalidInput } from './validate-input.ts'

/** What Postgres and RFC 3339 both know, and ids can hold: 1970 to 9999, in ms. */
const LAST_MS = 253_402_300_799_999

const EXPECTED =
  'Expected a date and time with seconds and zone, such as 2025-01-20T14:30:00Z (RFC 3339; in a URL, + is %2B).'

export const momentSchema = z.iso.datetime({
  offset: true,
  error: ({ code }) => (code === 'invalid_format' ? EXPECTED : undefined),
})

export const rangeQueryMembers = {
  since: momentSchema.optional().describe('Only what was emitted at this time or later; RFC 3339.'),
  until: momentSchema.optional().describe('Only what was emitted before this time; RFC 3339.'),
}

export interface TimeRangeQuery {
  /** RFC 3339. */
  since?: string | undefined
  until?: string | undefined
}

/** In ms since 1970; null where nothing was said. */
export interface TimeRange {
  sinceMs: number | null
  untilMs: number | null
}

/** @throws {PosthasteError} `VALIDATION_FAILED` where the range ends before it begins */
export function toRange({ since, until }: TimeRangeQuery): TimeRange {
  const sinceMs = since === undefined ? null : momentMs(since)
  const untilMs = until === undefined ? null : momentMs(until)
  if (sinceMs !== null && untilMs !== null && untilMs <= sinceMs) {
    throw invalidInput('The range', [{ path: 'until', message: 'This must be later than since.' }])
  }
  return { sinceMs, untilMs }
}

function momentMs(text: string): number {
  return Math.min(Math.max(Date.parse(text), 0), LAST_MS)
}

/** The smallest uuid of a moment: ids of events and deliveries begin with the event's time, 48 bits of ms (RFC 9562, 5.7). */
export function idFloor(ms: number): string {
  const hex = Math.floor(ms).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`
}

/** When an event was emitted, from its uuid or that of a delivery of it. */
export function timeOfId(uuid: string): string {
  return new Date(msOfId(uuid)).toISOString()
}
