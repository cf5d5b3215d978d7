/**
 * What an endpoint looks like going in and coming out. The same schemas validate the service's input, type it, and become
 * the OpenAPI document.
 */
import * as z from 'zod'
import type { AnyCatalog } from '../catalog/define-events.ts'
import { MAX_EVENT_TYPE_LENGTH } from '../catalog/event-names.ts'
import type { ErrorCode } from '../errors.ts'
import { MAX_URL_LENGTH } from '../http-client/url-policy.ts'
import { MAX_SECRET_LENGTH, MIN_SECRET_LENGTH, secretProblem } from '../signing/signing-secret.ts'
import { headerErrors, MAX_HEADERS, REDACTED } from './endpoint-headers.ts'

/** Patterns of one endpoint; from the contract. */
const MAX_EVENTS = 100
const MAX_DESCRIPTION_LENGTH = 1_000
const MAX_METADATA_MEMBERS = 50
const MAX_METADATA_KEY_LENGTH = 64
const MAX_METADATA_VALUE_LENGTH = 500
/** More requests at once than one receiver takes from us anyway. */
const MAX_CONCURRENCY = 1_000
const MAX_RATE = 100_000

/** From the contract: a week, and a day where nothing is said. */
export const MAX_OVERLAP_SECONDS = 604_800
export const DEFAULT_OVERLAP_SECONDS = 86_400

/** Text that Postgres takes and gives back unchanged: no NUL, no half of a surrogate pair. */
const storable = (text: string) => !text.includes('\u0000') && text.isWellFormed()
const STORABLE = 'The text holds a NUL character or half of a surrogate pair.'

const description = z
  .string()
  .max(MAX_DESCRIPTION_LENGTH)
  .refine(storable, STORABLE)
  .nullable()
  .describe('For people: what this endpoint is for.')

const metadata = z
  .record(
    z.string().min(1).max(MAX_METADATA_KEY_LENGTH).refine(storable, STORABLE),
    z.string().max(MAX_METADATA_VALUE_LENGTH).refine(storable, STORABLE),
  )
  .refine(
    (members) => Object.keys(members).length <= MAX_METADATA_MEMBERS,
    `Metadata has at most ${MAX_METADATA_MEMBERS} members.`,
  )
  .meta({ description: "The owner's own notes; never sent.", maxProperties: MAX_METADATA_MEMBERS })

const ordering = z.enum(['none', 'fifo']).describe('`fifo`: the next delivery waits until the one before it is final.')

const maxConcurrency = z
  .int()
  .min(1)
  .max(MAX_CONCURRENCY)
  .nullable()
  .describe('Requests that may be on their way to this endpoint at once; null for the default of the installation.')

const rateLimit = z
  .strictObject({ limit: z.int().min(1).max(MAX_RATE), per: z.enum(['second', 'minute']) })
  .nullable()
  .describe('At most so many requests are started in a second or minute; null for no limit.')

const url = z.string().min(1).max(MAX_URL_LENGTH).refine(storable, STORABLE).meta({
  description: 'Where deliveries go: https, without credentials and fragment, not an address of a private network.',
  format: 'uri',
})

const active = z.boolean().describe("The owner's wish. `true` also enables an endpoint that was disabled.")

const headers = z
  .record(z.string(), z.string())
  .check((context) => {
    for (const { path, message } of headerErrors(context.value)) {
      const [, ...rest] = path.split('.')
      const member = rest.join('.')
      context.issues.push({ code: 'custom', message, input: undefined, path: member === '' ? [] : [member] })
    }
  })
  .meta({
    description: `Sent with every delivery; values are secret and shown as ${REDACTED}, which sent back keeps the value.`,
    maxProperties: MAX_HEADERS,
  })

/** `secret` of a request. */
export const secretSchema = z
  .string()
  .check((context) => {
    const problem = secretProblem(context.value)
    if (problem === null) return
    context.issues.push(ownIssue('SECRET_INVALID', `The secret ${problem}`))
  })
  .meta({
    description:
      'Signs the deliveries. Used as given; `whsec_` and base64 of 24 to 64 bytes is the form of Standard Webhooks.',
    minLength: MIN_SECRET_LENGTH,
    maxLength: MAX_SECRET_LENGTH,
  })

/** An issue with one of our codes, so that the answer can say more than VALIDATION_FAILED. */
function ownIssue(code: ErrorCode, message: string, path: PropertyKey[] = []) {
  return { code: 'custom' as const, message, input: undefined, path, params: { errorCode: code } }
}

function eventsSchema(catalog: AnyCatalog) {
  return z
    .array(z.string())
    .min(1)
    .max(MAX_EVENTS)
    .check((context) => {
      if (context.value.length > MAX_EVENTS) return
      for (const [index, name] of context.value.entries()) {
        if (name.length <= MAX_EVENT_TYPE_LENGTH && catalog.matchesCatalog(name)) continue
        context.issues.push(ownIssue('UNKNOWN_EVENT_TYPE', catalog.unknownMessage(name), [index]))
      }
    })
    .meta({
      description: 'Event types, groups such as `commission.*`, or `*` for all. Repetitions are dropped.',
      // Of the host's own catalogue.
      examples: [catalog.types.slice(0, 2), ['*']],
    })
}

/** Members that only answers have. A client may send back what it read; they are ignored. */
const ignored = () => z.unknown().optional().meta({ readOnly: true, description: 'Ignored in requests.' })

const readOnlyMembers = {
  id: ignored(),
  status: ignored(),
  disabled_reason: ignored(),
  created_at: ignored(),
  updated_at: ignored(),
  standard_webhooks_secret: ignored(),
}

/** The request bodies, over the catalogue whose names `events` may hold. */
export function endpointInputSchemas(catalog: AnyCatalog) {
  const events = eventsSchema(catalog)
  const optional = {
    active: active.optional(),
    description: description.optional(),
    headers: headers.optional(),
    metadata: metadata.optional(),
    ordering: ordering.optional(),
    max_concurrency: maxConcurrency.optional(),
    rate_limit: rateLimit.optional(),
    secret: secretSchema.optional(),
  }
  return {
    create: z.strictObject({ url, events, ...optional, ...readOnlyMembers }),
    replace: z.strictObject({ url, events, ...optional, ...readOnlyMembers }),
    update: z.strictObject({ url: url.optional(), events: events.optional(), ...optional, ...readOnlyMembers }),
    rotateSecret: z.strictObject({
      secret: secretSchema.optional().describe('The new secret; left out, one is generated.'),
      overlap_seconds: z.int().min(0).max(MAX_OVERLAP_SECONDS).optional().meta({
        description: 'For how long the old secret stays valid beside the new one.',
        default: DEFAULT_OVERLAP_SECONDS,
      }),
    }),
  }
}

export type EndpointInputSchemas = ReturnType<typeof endpointInputSchemas>

type ReadOnlyMember = keyof typeof readOnlyMembers
/** What a new endpoint is made of; snake_case as in the API. */
export type CreateEndpoint = Omit<z.input<EndpointInputSchemas['create']>, ReadOnlyMember>
export type ReplaceEndpoint = Omit<z.input<EndpointInputSchemas['replace']>, ReadOnlyMember>
export type UpdateEndpoint = Omit<z.input<EndpointInputSchemas['update']>, ReadOnlyMember>
export type RotateSecret = z.input<EndpointInputSchemas['rotateSecret']>
/** The same after the check. */
export type ReplaceInput = z.output<EndpointInputSchemas['replace']>
export type UpdateInput = z.output<EndpointInputSchemas['update']>

const moment = (what: string) => z.iso.datetime().describe(`${what}, RFC 3339 in UTC.`)

const endpointMembers = {
  id: z.string().regex(/^ep_[0-9a-f]{32}$/),
  url: z.string(),
  events: z.array(z.string()),
  active: z.boolean().describe("The owner's wish."),
  status: z
    .enum(['active', 'inactive', 'disabled', 'degraded'])
    .describe(
      '`inactive`: by its owner. `disabled`: by us, see `disabled_reason`. `degraded`: active, but failing and backed off.',
    ),
  disabled_reason: z.string().nullable(),
  description: z.string().nullable(),
  headers: z.record(z.string(), z.string()).describe(`Names, and ${REDACTED} for each value.`),
  metadata: z.record(z.string(), z.string()),
  ordering,
  max_concurrency: z.int().nullable(),
  rate_limit: rateLimit,
  created_at: moment('When it was created'),
  updated_at: moment('When it was changed last, by its owner or by us'),
}

const secretMembers = {
  secret: z.string().describe('Signs the deliveries; shown now, and later only by `GET /{id}/secret`.'),
  standard_webhooks_secret: z.string().describe('The same key in the form that libraries of Standard Webhooks take.'),
}

export const endpointSchema = z.object(endpointMembers)
export const endpointWithSecretSchema = z.object({ ...endpointMembers, ...secretMembers })
export const endpointSecretSchema = z.object(secretMembers)

/** An endpoint as its owner sees it; snake_case as in the API. */
export type Endpoint = z.output<typeof endpointSchema>
export type EndpointWithSecret = z.output<typeof endpointWithSecretSchema>
export type EndpointSecret = z.output<typeof endpointSecretSchema>
