/** What a receiver is sent for each event type, as the `webhooks` of the OpenAPI document. */
import type { AnyCatalog } from '../catalog/define-events.ts'

type JsonSchema = Record<string, unknown>

const SIGNATURE = { type: 'string', pattern: '^sha256=[0-9a-f]{64}$' }
const EXAMPLE_SIGNATURE = `sha256=${'1234567890abcdef'.repeat(4)}`

const text = { type: 'string' }
const unixSeconds = { type: 'string', pattern: '^[0-9]+$' }

/** From the contract, "The request that a receiver gets". */
const HEADERS = [
  header('X-Webhook-Signature', 'HMAC-SHA256 of the raw body; the key is the secret as it was shown.', SIGNATURE),
  header('X-Webhook-Event', 'The event type.', text),
  header('X-Webhook-Id', 'The event; the same on every retry and replay.', text),
  header('X-Webhook-Delivery', 'The delivery of this event to this endpoint.', text),
  header('X-Webhook-Attempt', 'Counts the attempts of a delivery from 1.', {
    type: 'string',
    pattern: '^[1-9][0-9]*$',
  }),
  header('webhook-id', 'Standard Webhooks: the event, and the key by which a receiver knows a repetition.', text),
  header('webhook-timestamp', 'Standard Webhooks: when this attempt was made, in Unix seconds.', unixSeconds),
  header(
    'webhook-signature',
    'Standard Webhooks: one or more signatures over `id.timestamp.body`, separated by spaces.',
    text,
  ),
]

function header(name: string, description: string, schema: JsonSchema) {
  return { name, in: 'header', required: true, description, schema }
}

/** @param envelope 0: `{event, timestamp, data, signature}`; 1: `{type, timestamp, data}` of Standard Webhooks */
export function openApiWebhooks(catalog: AnyCatalog, envelope: 0 | 1): Record<string, unknown> {
  const entries = catalog.types.map((type) => {
    const { description, trigger } = catalog.get(type)
    const post = {
      operationId: `receive.${type}`,
      summary: description,
      description: `When: ${trigger}.`,
      parameters: HEADERS,
      requestBody: { required: true, content: { 'application/json': body(catalog, type, envelope) } },
      responses: {
        '2XX': { description: 'Delivered, whatever the body of the answer is.' },
        default: { description: 'Not delivered; it is tried again later.' },
      },
    }
    return [type, { post }] as const
  })
  return Object.fromEntries(entries)
}

function body(catalog: AnyCatalog, type: string, envelope: 0 | 1) {
  const { $schema: _, ...data } = catalog.jsonSchema(type)
  const { example } = catalog.get(type)
  if (envelope === 1) {
    const timestamp = { type: 'string', format: 'date-time', description: 'When it happened.' }
    return {
      schema: members({ type: { const: type }, timestamp, data }),
      example: { type, timestamp: '2022-01-01T00:00:00.000Z', data: example },
    }
  }
  const timestamp = { type: 'integer', description: 'When it happened, in Unix seconds.' }
  const signature = { ...SIGNATURE, description: 'HMAC-SHA256 of the raw body with this member cut out.' }
  return {
    schema: members({ event: { const: type }, timestamp, data, signature }),
    example: { event: type, timestamp: 1_640_995_200, data: example, signature: EXAMPLE_SIGNATURE },
  }
}

function members(properties: Record<string, unknown>): JsonSchema {
  return { type: 'object', properties, required: Object.keys(properties) }
}
