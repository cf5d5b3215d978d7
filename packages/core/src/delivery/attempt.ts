import type { Clock } from '../clock.ts'
import type { OutboundResult, Transport } from '../http-client/transport.ts'
import { toPublicId } from '../ids.ts'
import { buildBody, type Envelope, signatureHeader, standardSignature } from '../signing/sign.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import type { DeliveryItem } from './endpoint-state.ts'

/** One attempt as it was made: what is recorded of it. */
export interface Attempt {
  number: number
  /** Wall clock of this process in ms, as in `webhook-timestamp`. */
  atMs: number
  /** Which secret the headers with room for one signature were made with, where two were valid. */
  usedPrevious: boolean
  /** The other secret of the overlap could have been used. */
  hadOther: boolean
  /** Hex: see `packSignatures`. */
  signatures: string
  result: OutboundResult
}

export interface AttemptDependencies {
  transport: Transport
  clock: Clock
  userAgent: string
  deadlineMs: number
  keepResponses: 'failed' | 'all' | 'none'
  /** Asked when the bytes go to the socket: whether this worker may still start a send. */
  mayStart(): boolean
}

/** By the number in `events.envelope`. */
const ENVELOPES: readonly Envelope[] = ['posthaste', 'standard']

/** Makes one attempt: builds the exact body, signs it, sends it. Never rejects. */
export async function makeAttempt(
  deps: AttemptDependencies,
  item: DeliveryItem,
  config: EndpointConfig,
): Promise<Attempt> {
  const atMs = deps.clock.now()
  const timestamp = Math.floor(atMs / 1000)
  const overlap = config.previous !== null && config.previous.untilMs > atMs ? config.previous : null
  const usedPrevious = overlap !== null && config.usePrevious !== item.triedOtherSecret
  const single = usedPrevious ? overlap.signer : config.current
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
  )
  const result = await deps.transport.send({
    url: config.url,
    headers: [
      ['Content-Type', 'application/json'],
      ['User-Agent', deps.userAgent],
      ['X-Webhook-Event', item.type],
      ['X-Webhook-Id', eventId],
      ['X-Webhook-Delivery', toPublicId('dlv', item.id)],
      ['X-Webhook-Attempt', String(item.number)],
      ['X-Webhook-Signature', header],
      ['webhook-id', eventId],
      ['webhook-timestamp', String(timestamp)],
      ['webhook-signature', standard],
      ...config.headers,
    ],
    body,
    deadlineMs: deps.deadlineMs,
    keepResponse: deps.keepResponses === 'all',
    mayStart: deps.mayStart,
    freshConnection: item.freshConnection,
  })
  return {
    number: item.number,
    atMs,
    usedPrevious,
    hadOther: overlap !== null,
    signatures: packSignatures(envelope, body, header, standard),
    result,
  }
}

/**
 * The signatures of an attempt, for the log, as hex: a byte with the number of `v1` ones, the body's (32 bytes, only in the
 * `posthaste` envelope), the header's (32), then those of `webhook-signature` in order (`v1` 32 bytes, `v1a` 64).
 */
function packSignatures(envelope: Envelope, body: Buffer, header: string, standard: string): string {
  const inBody = envelope === 'posthaste' ? body.toString('latin1', body.length - 66, body.length - 2) : ''
  let count = 0
  let rest = ''
  for (const part of standard.split(' ')) {
    const comma = part.indexOf(',')
    if (comma === 2) count++
    rest += Buffer.from(part.slice(comma + 1), 'base64').toString('hex')
  }
  return count.toString(16).padStart(2, '0') + inBody + header.slice('sha256='.length) + rest
}
