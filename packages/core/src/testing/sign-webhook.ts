import { randomBytes } from 'node:crypto'
import { affiliateEvents } from '../catalog/affiliate-events.ts'
import { requestHeaders } from '../delivery/attempt.ts'
import { buildBody, createSigner, type Envelope, signatureHeader, standardSignature } from '../signing/sign.ts'
import { VERSION } from '../version.ts'

/** What is wrong with a request, for tests of receivers that must refuse it. */
export type WebhookFault =
  /** A byte of `data` was changed after it was signed. */
  | 'tampered'
  /** Signed as it should be, an hour ago. Only `webhook-signature` signs the time. */
  | 'expired'
  /** Recorded an hour ago and sent again under a new `webhook-timestamp`. */
  | 'replayed'
  /** Signed with a secret that is not the receiver's. */
  | 'wrong_secret'
  /** Without any signature, in headers or body. */
  | 'unsigned'

export interface SignWebhookOptions {
  /** The endpoint's secret as its owner sees it. */
  secret: string
  /** The event type. */
  event: string
  /** Default: the example of the built-in catalogue, where it has this event; else `{}`. */
  data?: unknown
  /** Default: none, a request that must be accepted. */
  fault?: WebhookFault
  /** While a secret changes: the one before. `webhook-signature` carries both, the other signatures are made with this one. */
  previousSecret?: string
  /** The other signatures are made with the current one: the receiver has accepted it before. Default false. */
  currentAccepted?: boolean
  /** `posthaste` (default) or `standard`. */
  envelope?: Envelope
  /** When it is sent. Default: now. */
  at?: Date
  /** When it occurred. Default: `at`. */
  occurredAt?: Date
  /** The event's id, by which a receiver knows a repetition. Default: a new one. */
  id?: string
  /** Default 1. */
  attempt?: number
}

/** A request as it goes on the wire. */
export interface SignedWebhook {
  /** To be sent as it is: what is parsed and written again may no longer verify. */
  body: string
  headers: Record<string, string>
}

const AN_HOUR_MS = 3_600_000
const SIGNATURES = ['x-webhook-signature', 'webhook-signature']

/** Body and headers of a delivery, byte for byte as Posthaste sends them. Opens no connection. */
export function signWebhook(options: SignWebhookOptions): SignedWebhook {
  const { event, fault, envelope = 'posthaste', at = new Date(), previousSecret, currentAccepted = false } = options
  const secret = fault === 'wrong_secret' ? `not-${options.secret.length}-the-secret-of-this-receiver` : options.secret
  const signedAtMs = at.getTime() - (fault === 'expired' || fault === 'replayed' ? AN_HOUR_MS : 0)
  const signers = [secret, ...(previousSecret === undefined ? [] : [previousSecret])].map(createSigner)
  const single = signers[currentAccepted ? 0 : signers.length - 1]!
  const body = buildBody({
    envelope,
    type: event,
    occurredAtMs: (options.occurredAt ?? at).getTime(),
    dataText: JSON.stringify(options.data ?? exampleOf(event)),
    signer: single,
  })
  const timestamp = Math.floor(signedAtMs / 1000)
  const eventId = options.id ?? `evt_${randomBytes(16).toString('hex')}`
  const headers = Object.fromEntries(
    requestHeaders({
      userAgent: `Posthaste/${VERSION}`,
      type: event,
      eventId,
      deliveryId: `dlv_${randomBytes(16).toString('hex')}`,
      number: options.attempt ?? 1,
      timestamp,
      header: signatureHeader(body, single),
      standard: standardSignature(eventId, timestamp, body, signers),
    }),
  )
  return spoil({ body: body.toString('utf8'), headers }, fault, at)
}

function spoil({ body, headers }: SignedWebhook, fault: WebhookFault | undefined, at: Date): SignedWebhook {
  switch (fault) {
    case 'tampered':
      return { body: tamper(body), headers }
    case 'replayed':
      return { body, headers: { ...headers, 'webhook-timestamp': String(Math.floor(at.getTime() / 1000)) } }
    case 'unsigned': {
      const left = Object.entries(headers).filter(([name]) => !SIGNATURES.includes(name.toLowerCase()))
      return { body: body.replace(/,"signature":"sha256=[0-9a-f]{64}"\}$/, '}'), headers: Object.fromEntries(left) }
    }
    default:
      return { body, headers }
  }
}

/** Another member in `data`; where it has none, white space, which is as much of a change to a signature. */
function tamper(body: string): string {
  const member = body.replace(/"data":\{/, '"data":{"tampered":true,').replace(/,\}/, '}')
  return member === body ? body.replace('"data":', '"data": ') : member
}

function exampleOf(event: string): unknown {
  return affiliateEvents.types.includes(event as never) ? affiliateEvents.get(event).example : {}
}
