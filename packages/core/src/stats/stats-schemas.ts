/** What the statistics of an endpoint look like; the same schemas type the service and become the OpenAPI document. */
import * as z from 'zod'
import { DELIVERY_STATUSES } from '../deliveries/delivery-schemas.ts'
import { momentSchema } from '../endpoints/time-range.ts'

export const HOUR_MS = 3_600_000
/** The longest window, and what it is where nothing is said. */
export const MAX_DAYS = 31
export const DEFAULT_HOURS = 24

export const statsQuerySchema = z.strictObject({
  since: momentSchema
    .optional()
    .describe(`Attempts made at this time or later; RFC 3339. Left out: ${DEFAULT_HOURS} hours before until.`),
  until: momentSchema
    .optional()
    .describe(`Attempts made before this time, at most ${MAX_DAYS} days after since. Left out: now.`),
})

const percentiles = {
  p50: z.number().nullable(),
  p90: z.number().nullable(),
  p99: z.number().nullable(),
}

const counts = { succeeded: z.int(), failed: z.int() }

export const statsSchema = z.object({
  endpoint_id: z.string().regex(/^ep_[0-9a-f]{32}$/),
  since: z.iso.datetime(),
  until: z.iso.datetime(),
  deliveries: z
    .object(
      Object.fromEntries(DELIVERY_STATUSES.map((status) => [status, z.int()])) as Record<
        (typeof DELIVERY_STATUSES)[number],
        z.ZodInt
      >,
    )
    .describe(
      'By status. `pending`, `retrying` and `held`: those waiting now, counted up to 100,000 each; the others: those that became so in the window.',
    ),
  attempts: z.object(counts).describe('Made in the window.'),
  success_rate: z.number().min(0).max(1).nullable().describe('Of the attempts; null without any.'),
  latency_ms: z
    .object(percentiles)
    .describe('From the start of an attempt to the end of its answer, of attempts with an answer; to within 2.5 %.'),
  hours: z
    .array(z.object({ hour: z.iso.datetime().describe('When it begins.'), ...counts, ...percentiles }))
    .describe('Every hour that the window touches, oldest first; the first and the last may be cut.'),
})

/** The statistics of an endpoint; snake_case as in the API. */
export type Stats = z.output<typeof statsSchema>
export type StatsQuery = z.input<typeof statsQuerySchema>
