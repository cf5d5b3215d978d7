/** What a delivery and its attempts look like; the same schemas type the service and become the OpenAPI document. */
import * as z from 'zod'
import type { AnyCatalog } from '../catalog/define-events.ts'
import { MAX_EVENT_TYPE_LENGTH } from '../catalog/event-names.ts'
import { pageQueryMembers, pageSchema } from '../endpoints/page-cursor.ts'
import { rangeQueryMembers } from '../endpoints/time-range.ts'

export const DELIVERY_STATUSES = ['pending', 'retrying', 'held', 'succeeded', 'failed', 'cancelled', 'expired'] as const

export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number]

export const deliveryStatusSchema = z
  .enum(DELIVERY_STATUSES)
  .describe(
    '`pending`: not attempted yet. `retrying`: failed, and tried again later. `held`: waits until its endpoint is active. `failed`: no attempt follows by itself. `cancelled`: its endpoint was deleted. `expired`: it waited too long.',
  )

const moment = (what: string) => z.iso.datetime().describe(`${what}, RFC 3339 in UTC.`)

/** Milliseconds of one phase of an attempt. */
const phase = (what: string) => z.number().nullable().describe(what)

const timingsSchema = z.object({
  dns: phase('Looking up the name; null where a connection was reused, as are connect and tls.'),
  connect: phase('Opening the connection.'),
  tls: phase('The TLS handshake.'),
  first_byte: phase('From the request to the first byte of the answer; null without one.'),
  total: z.number().nullable().describe('The whole exchange.'),
})

/** What an attempt and a test have in common. */
const outcomeMembers = {
  at: moment('When it was made'),
  outcome: z.enum(['succeeded', 'failed', 'expired', 'cancelled']),
  status_code: z.int().nullable().describe('Of the answer; null where there was none.'),
  error_code: z
    .string()
    .nullable()
    .describe('Stable: `TIMEOUT`, `CONNECT_FAILED`, …, or `HTTP_503` for an answer; null for a success.'),
  error_message: z.string().nullable().describe('For people; null where there was an answer.'),
  timings: timingsSchema.describe('In ms.'),
  request: z
    .object({
      headers: z
        .record(z.string(), z.string())
        .describe("Names of the endpoint's custom headers are the present ones; their values are not shown."),
      body: z
        .string()
        .nullable()
        .describe('To the byte; null in older attempts where those of newer ones fill 2 MiB already.'),
    })
    .nullable()
    .describe('Null where nothing was sent, or where this process has no key for the secret that signed it.'),
  response: z
    .object({
      headers: z.record(z.string(), z.string()),
      excerpt: z.string().nullable().describe('At most 16 KiB of the body.'),
    })
    .nullable()
    .describe('Null where none is kept: by default of successful attempts.'),
}

export const attemptSchema = z.object({
  number: z.int().describe('From 1.'),
  manual: z.boolean().describe('Asked for, or repeated at once: it used no step of the retry schedule.'),
  ...outcomeMembers,
})

const deliveryMembers = {
  id: z.string().regex(/^dlv_[0-9a-f]{32}$/),
  endpoint_id: z.string().regex(/^ep_[0-9a-f]{32}$/),
  event_id: z.string().regex(/^evt_[0-9a-f]{32}$/),
  event: z.string().describe('The event type.'),
  status: deliveryStatusSchema,
  attempt_count: z.int(),
  emitted_at: moment('When the event was emitted'),
  last_attempt_at: moment('When it was attempted last').nullable(),
  last_status_code: z.int().nullable(),
  last_error_code: z.string().nullable(),
  next_attempt_at: moment('When it is due again, while it is retrying').nullable(),
  replay_id: z
    .string()
    .regex(/^rpl_[0-9a-f]{32}$/)
    .nullable()
    .describe('The replay that made it; those of `missing` make deliveries like any other.'),
}

export const deliverySchema = z.object(deliveryMembers)
export const deliveryPageSchema = pageSchema(deliverySchema)

/** The newest are shown. */
export const MAX_ATTEMPTS_SHOWN = 100

export const deliveryDetailSchema = z.object({
  ...deliveryMembers,
  attempts: z.array(attemptSchema).describe(`Newest first, at most ${MAX_ATTEMPTS_SHOWN}.`),
})

export const eventFilter = z
  .string()
  .min(1)
  .max(MAX_EVENT_TYPE_LENGTH)
  .regex(/^[a-z0-9_.]+(\.\*)?$|^\*$/, 'Expected an event type, or a group such as commission.*')
  .describe('Only of this event type, or of a group such as `commission.*`.')

export const deliveryQuerySchema = z.strictObject({
  ...pageQueryMembers,
  ...rangeQueryMembers,
  status: z.enum(DELIVERY_STATUSES).optional().describe('Only those of this status.'),
  event: eventFilter.optional(),
})

/** The body of a test, over the catalogue that its event type is from. */
export function testInputSchema(catalog: AnyCatalog) {
  return z.strictObject({
    event: z
      .string()
      .check((context) => {
        if (catalog.has(context.value)) return
        context.issues.push({
          code: 'custom',
          message: `There is no such event type. Known types: ${catalog.types.join(', ')}.`,
          input: undefined,
          params: { errorCode: 'UNKNOWN_EVENT_TYPE' },
        })
      })
      .optional()
      .describe('The event type whose example is sent; left out: one to which the endpoint subscribes.'),
  })
}

export const testResultSchema = z.object({
  event: z.string().describe('The event type whose example was sent.'),
  ...outcomeMembers,
})

/** A delivery as the log shows it; snake_case as in the API. */
export type Delivery = z.output<typeof deliverySchema>
export type DeliveryDetail = z.output<typeof deliveryDetailSchema>
export type DeliveryAttempt = z.output<typeof attemptSchema>
export type DeliveryQuery = z.input<typeof deliveryQuerySchema>
export type TestInput = z.input<ReturnType<typeof testInputSchema>>
export type TestResult = z.output<typeof testResultSchema>
