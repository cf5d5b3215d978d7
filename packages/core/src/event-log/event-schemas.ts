/** What an event of the log looks like; the same schemas type the service and become the OpenAPI document. */
import * as z from 'zod'
import { deliverySchema, eventFilter } from '../deliveries/delivery-schemas.ts'
import { pageQueryMembers, pageSchema } from '../endpoints/page-cursor.ts'
import { rangeQueryMembers } from '../endpoints/time-range.ts'

/** Deliveries that are shown with each event of a list, and with a single one. */
export const MAX_DELIVERIES_LISTED = 20
export const MAX_DELIVERIES_SHOWN = 1_000

const eventId = () => z.string().regex(/^evt_[0-9a-f]{32}$/)

const eventMembers = {
  id: eventId(),
  event: z.string().describe('The event type.'),
  occurred_at: z.iso.datetime().describe('When it happened, RFC 3339 in UTC: the `timestamp` that receivers get.'),
  emitted_at: z.iso.datetime().describe('When it was emitted, RFC 3339 in UTC.'),
  idempotency_key: z.string().nullable(),
  duplicate_of: eventId()
    .nullable()
    .describe('The event that had this idempotency key before; a duplicate has no deliveries.'),
  deliveries: z.array(deliverySchema).describe('Newest first.'),
  has_more_deliveries: z.boolean().describe('There are more than are shown here.'),
}

export const loggedEventSchema = z.object(eventMembers)
export const loggedEventPageSchema = pageSchema(loggedEventSchema)
export const loggedEventDetailSchema = z.object({
  ...eventMembers,
  data: z.record(z.string(), z.unknown()).describe('`data` as it is sent.'),
})

export const eventQuerySchema = z.strictObject({
  ...pageQueryMembers,
  ...rangeQueryMembers,
  event: eventFilter.optional(),
})

/** An event as the log shows it; snake_case as in the API. */
export type LoggedEvent = z.output<typeof loggedEventSchema>
export type LoggedEventDetail = z.output<typeof loggedEventDetailSchema>
export type EventQuery = z.input<typeof eventQuerySchema>
