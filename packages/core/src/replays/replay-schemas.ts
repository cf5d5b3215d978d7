/** What a replay is asked for with and what it looks like; the same schemas type the service and become the OpenAPI document. */
import * as z from 'zod'
import { momentSchema } from '../endpoints/time-range.ts'

const which = z
  .enum(['failed', 'missing', 'all'])
  .describe(
    '`failed`: what failed, expired or was cancelled, and was not sent again since. `missing`: events of the types now subscribed of which there is no delivery. `all`: every event of the types now subscribed.',
  )

export const replayInputSchema = z.strictObject({
  since: momentSchema.describe('Events emitted at this time or later; RFC 3339.'),
  until: momentSchema.optional().describe('Events emitted before this time; left out, or later than now: now.'),
  which,
})

export const replaySchema = z.object({
  id: z.string().regex(/^rpl_[0-9a-f]{32}$/),
  endpoint_id: z.string().regex(/^ep_[0-9a-f]{32}$/),
  which,
  since: z.iso.datetime(),
  until: z.iso.datetime(),
  status: z
    .enum(['running', 'completed', 'cancelled'])
    .describe('While its endpoint is not active, or does not answer, a replay waits and stays `running`.'),
  total: z.int().nullable().describe('How many deliveries it makes; null while that is being counted.'),
  done: z.int().describe('How many of them are made. At most a few thousand are made before they are attempted.'),
  types_not_always_stored: z
    .array(z.string())
    .describe(
      'Event types among those asked for that are stored only while an active endpoint subscribes: such events of other times cannot be brought back.',
    ),
  created_at: z.iso.datetime(),
  finished_at: z.iso.datetime().nullable(),
})

/** A replay as the API shows it; snake_case as there. */
export type Replay = z.output<typeof replaySchema>
export type ReplayInput = z.input<typeof replayInputSchema>
