import type { KeyObject } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { OutboundResult, Transport } from '../http-client/transport.ts'
import { toPublicId } from '../ids.ts'
import { packSignatures } from '../signing/packed-signatures.ts'
import { buildBody, type Envelope, signatureHeader, standardSignature } from '../signing/sign.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import type { DeliveryItem } from './endpoint-state.ts'
import { redactEcho } from './redact-echo.ts'

/** One attempt as it was made: what is recorded of it. */
export interface Attempt {
  number: number
  /** Wall clock of this process in ms, as in `webhook-timestamp`. */
  atMs: number
  /** Which secret the headers with room for one signature were made with, where two were valid. */
  usedPrevious: boolean
  /** The configuration that it was made with. */
  configVersion: number
  /** The other secret of the overlap could have been used. */
  hadOther: boolean
  /** Hex: see `packSignatures`; null where the secret that made them is named. */
  signatures: string | null
  /** The endpoint's secret that alone made them, so that they can be computed again; null where they have to be kept. */
  secretNumber: number | null
  result: OutboundResult
  /** For how long this host's own way to the receiver is down, in ms; null or missing where it is not. */
  heldMs?: number | null
}

export interface AttemptDependencies {
  transport: Transport
  clock: Clock
  userAgent: string
  deadlineMs: number
  keepResponses: 'failed' | 'all' | 'none'
  /** Private keys of the installation: one `v1a` signature each. */
  ed25519Keys: readonly KeyObject[]
  /** Asked when the bytes go to the socket: whether this worker may still start a send. */
  mayStart(): boolean
}

/** By the number in `events.envelope`. */
export const ENVELOPES: readonly Envelope[] = ['posthaste', 'standard']

/** What an attempt needs to know of a delivery. */
export type OutgoingDelivery = Pick<
  DeliveryItem,
  'id' | 'eventId' | 'type' | 'dataText' | 'occurredAtMs' | 'envelope' | 'number' | 'usePrevious' | 'freshConnection'
>

/** What the headers of one attempt say. */
export interface HeaderParts {
  userAgent: string
  type: string
  /** Public ids. */
  eventId: string
  deliveryId: string
  number: number
  /** Unix seconds of the attempt. */
  timestamp: number
  /** `X-Webhook-Signature` and `webhook-signature`. */
  header: string
  standard: string
}

/** Makes one attempt: builds the exact body, signs it, sends it. Never rejects. */
export async function makeAttempt(
  deps: AttemptDependencies,
  item: OutgoingDelivery,
  config: EndpointConfig,
): Promise<Attempt> {
  const atMs = deps.clock.now()
  const timestamp = Math.floor(atMs / 1000)
  const overlap = config.previous !== null && config.previous.untilMs > atMs ? config.previous : null
  // Not "the other than now": another delivery's answer may have changed what is used now.
  const usedPrevious = overlap !== null && (item.usePrevious ?? config.usePrevious)
  const single = usedPrevious ? overlap.signer : config.current
  const secretNumber = overlap === null && deps.ed25519Keys.length === 0 ? config.secretNumber : null
  const envelope = ENVELOPES[item.envelope] as Envelope
  const body = buildBody({
    envelope,
    type: item.type,
    occurredAtMs: item.occurredAtMs,
    dataText: item.dataText,
    signer: single,
  })
  const eventId = toPublicId('evt', item.eventId)
  const header = signatureHeader(body, single)
  const standard = standardSignature(
    eventId,
    timestamp,
    body,
    overlap === null ? [config.current] : [config.current, overlap.signer],
    deps.ed25519Keys,
  )
  const headers = requestHeaders({
    userAgent: deps.userAgent,
    type: item.type,
    eventId,
    deliveryId: toPublicId('dlv', item.id),
    number: item.number,
    timestamp,
    header,
    standard,
  })
  const result = await deps.transport.send({
    url: config.url,
    headers: config.headers.length === 0 ? headers : headers.concat(config.headers),
    body,
    deadlineMs: deps.deadlineMs,
    keepResponse: deps.keepResponses === 'all',
    mayStart: deps.mayStart,
    freshConnection: item.freshConnection,
    endpointId: toPublicId('ep', config.id),
    account: config.account,
  })
  return {
    number: item.number,
    atMs,
    usedPrevious,
    configVersion: config.version,
    hadOther: overlap !== null,
    signatures: secretNumber === null ? packSignatures(envelope, body, header, standard) : null,
    secretNumber,
    result: redactEcho(result, config.headers),
    heldMs: result.kind === 'error' ? deps.transport.heldMs?.(config.url) || null : null,
  }
}

const CONTENT_TYPE = ['Content-Type', 'application/json'] as const

/** The headers of an attempt but for the endpoint's own, in the order in which they are sent. */
export function requestHeaders(parts: HeaderParts): (readonly [name: string, value: string])[] {
  const { eventId } = parts
  return [
    CONTENT_TYPE,
    ['User-Agent', parts.userAgent],
    ['X-Webhook-Event', parts.type],
    ['X-Webhook-Id', eventId],
    ['X-Webhook-Delivery', parts.deliveryId],
    ['X-Webhook-Attempt', String(parts.number)],
    ['X-Webhook-Signature', parts.header],
    ['webhook-id', eventId],
    ['webhook-timestamp', String(parts.timestamp)],
    ['webhook-signature', parts.standard],
  ]
}
