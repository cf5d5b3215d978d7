/** One example of an event type, sent now: signed like a delivery, in no log, and no matter for the endpoint's health. */
import { type KeyObject, randomUUID } from 'node:crypto'
import type { AnyCatalog } from '../catalog/define-events.ts'
import type { Clock } from '../clock.ts'
import { type AttemptDependencies, ENVELOPES, makeAttempt, requestHeaders } from '../delivery/attempt.ts'
import { type EndpointConfig, type EndpointConfigs, EndpointUnreadable } from '../delivery/endpoint-config.ts'
import { isSuccess } from '../delivery/outcome.ts'
import { redactHeaders } from '../endpoints/endpoint-headers.ts'
import { idFloor } from '../endpoints/time-range.ts'
import { PosthasteError } from '../errors.ts'
import type { OutboundResult, Transport } from '../http-client/transport.ts'
import { toPublicId } from '../ids.ts'
import { unpackSignatures } from '../signing/packed-signatures.ts'
import { type Envelope, rebuildBody } from '../signing/sign.ts'
import { milliseconds } from './attempt-rows.ts'
import type { TestResult } from './delivery-schemas.ts'

export interface TestSendOptions {
  catalog: AnyCatalog
  configs: EndpointConfigs
  transport: Transport
  clock: Clock
  userAgent: string
  deadlineMs: number
  ed25519Keys: readonly KeyObject[]
  /** The envelope in which events are emitted at present. */
  envelope: 0 | 1
}

/**
 * @param endpoint its number, and the patterns that it subscribes to
 * @throws {PosthasteError} `SECRET_UNREADABLE` where this process has not the keys; `NOT_FOUND` where it is gone
 */
export async function sendTest(
  options: TestSendOptions,
  endpoint: { no: number; events: readonly string[] },
  event: string | undefined,
): Promise<TestResult> {
  const { catalog, clock, userAgent } = options
  const config = await loadConfig(options.configs, endpoint.no)
  const type = event ?? firstSubscribed(catalog, endpoint.events)
  const atMs = clock.now()
  const example = {
    id: newId(atMs),
    eventId: newId(atMs),
    type,
    dataText: catalog.get(type).exampleText,
    occurredAtMs: atMs,
    envelope: options.envelope,
    number: 1,
    usePrevious: null,
    // A connection of its own: all of its timings are then those of this attempt, and none that is gone is reused.
    freshConnection: true,
  }
  const deps: AttemptDependencies = { ...options, keepResponses: 'all', mayStart: () => true }
  // Without a number of its secret an attempt has the signatures themselves.
  const attempt = await makeAttempt(deps, example, { ...config, secretNumber: null })
  const envelope = ENVELOPES[options.envelope] as Envelope
  const { header, standard, body } = unpackSignatures(envelope, attempt.signatures as string)
  const headers = requestHeaders({
    userAgent,
    type,
    eventId: toPublicId('evt', example.eventId),
    deliveryId: toPublicId('dlv', example.id),
    number: 1,
    timestamp: Math.floor(attempt.atMs / 1000),
    header,
    standard,
  })
  return {
    event: type,
    at: new Date(attempt.atMs).toISOString(),
    ...describeResult(attempt.result),
    request: {
      headers: { ...Object.fromEntries(headers), ...redactHeaders(config.headers.map(([name]) => name)) },
      body: rebuildBody({ ...example, envelope }, body),
    },
  }
}

async function loadConfig(configs: EndpointConfigs, no: number): Promise<EndpointConfig> {
  const config = (await configs.load([no])).get(no)
  if (config instanceof EndpointUnreadable) {
    throw new PosthasteError('SECRET_UNREADABLE', config.message, { cause: config.cause })
  }
  if (config === undefined || config.state === 'deleted') {
    throw new PosthasteError('NOT_FOUND', 'This endpoint was deleted.')
  }
  return config
}

/** An endpoint's patterns were checked against the catalogue, but a catalogue may change. */
function firstSubscribed({ types }: AnyCatalog, patterns: readonly string[]): string {
  const covers = (pattern: string, type: string) =>
    pattern === '*' || pattern === type || (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1)))
  const type = types.find((one) => patterns.some((pattern) => covers(pattern, one))) ?? types[0]
  if (type === undefined) throw new Error('a catalogue without event types')
  return type
}

function describeResult(result: OutboundResult): Omit<TestResult, 'event' | 'at' | 'request'> {
  const succeeded = isSuccess(result)
  const { dns, connect, tls, firstByte, total } = result.timings
  return {
    outcome: succeeded ? 'succeeded' : 'failed',
    status_code: result.kind === 'response' ? result.statusCode : null,
    error_code: result.kind === 'error' ? result.code : succeeded ? null : `HTTP_${result.statusCode}`,
    error_message: result.kind === 'error' ? result.message : null,
    timings: {
      dns: milliseconds(dns),
      connect: milliseconds(connect),
      tls: milliseconds(tls),
      first_byte: milliseconds(firstByte),
      total: milliseconds(total),
    },
    response: result.kind === 'response' ? { headers: result.headers, excerpt: result.excerpt } : null,
  }
}

/** Of the same form as those of the log: the time in front. */
function newId(ms: number): string {
  return `${idFloor(ms).slice(0, 14)}7${randomUUID().slice(15)}`
}
