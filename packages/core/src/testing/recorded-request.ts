import { timingSafeEqual } from 'node:crypto'
import type { OutboundRequest } from '../http-client/transport.ts'
import { createSigner, signatureHeader, standardSignature } from '../signing/sign.ts'

/** What is right about a request's signatures, each by itself. `body` is null where the envelope has none. */
export interface SignatureChecks {
  /** `X-Webhook-Signature`. */
  xWebhook: boolean
  /** One of those in `webhook-signature`. */
  standard: boolean
  /** The body's own `signature`. */
  body: boolean | null
}

/** One request as a receiver would have got it. */
export interface RecordedRequest<D = Record<string, unknown>> {
  /** The event type. */
  readonly type: string
  /** `data` of the body, parsed. */
  readonly data: D
  /** The whole body, parsed. */
  readonly payload: Record<string, unknown>
  /** The body as it is sent, to the byte. */
  readonly body: string
  readonly url: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly eventId: string
  readonly deliveryId: string
  /** From 1. */
  readonly attempt: number
  /** The endpoint and whose it is; null until `settle()` has ended, and for a test of an endpoint, which is in no log. */
  readonly endpointId: string | null
  readonly account: string | null
  /** What was answered: a status, or the code of an error. */
  readonly answer: number | string | null
  /**
   * Whether its signatures are those of this secret: all of them (the default), or those of one scheme. While two secrets are
   * valid, `webhook-signature` carries both, and the others are of the one that the endpoint accepted last.
   */
  verifiesWith(secret: string, scheme?: 'all' | 'standard' | 'x-webhook'): boolean
  /** Each signature by itself, for the message of a test that fails. */
  checkSignatures(secret: string): SignatureChecks
}

/** What becomes known of a request after it was sent. */
export interface Learnt {
  endpointId: string | null
  account: string | null
  answer: number | string | null
}

export function recordRequest({ url, headers, body: bytes }: OutboundRequest, learnt: Learnt): RecordedRequest {
  const body = Buffer.from(bytes)
  const byName = Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value]))
  const payload = JSON.parse(body.toString('utf8')) as Record<string, unknown>
  const checkSignatures = (secret: string) => check(body, byName, secret)
  return {
    type: byName['x-webhook-event'] ?? '',
    data: payload.data as Record<string, unknown>,
    payload,
    body: body.toString('utf8'),
    url,
    headers: byName,
    eventId: byName['x-webhook-id'] ?? '',
    deliveryId: byName['x-webhook-delivery'] ?? '',
    attempt: Number(byName['x-webhook-attempt']),
    get endpointId() {
      return learnt.endpointId
    },
    get account() {
      return learnt.account
    },
    get answer() {
      return learnt.answer
    },
    checkSignatures,
    verifiesWith(secret, scheme = 'all') {
      const { xWebhook, standard, body: inBody } = checkSignatures(secret)
      if (scheme === 'standard') return standard
      return xWebhook && inBody !== false && (scheme === 'x-webhook' || standard)
    },
  }
}

function check(body: Buffer, headers: Readonly<Record<string, string>>, secret: string): SignatureChecks {
  const signer = createSigner(secret)
  const timestamp = Number(headers['webhook-timestamp'])
  const expected = standardSignature(headers['webhook-id'] ?? '', timestamp, body, [signer])
  const listed = (headers['webhook-signature'] ?? '').split(' ')
  return {
    xWebhook: equal(headers['x-webhook-signature'] ?? '', signatureHeader(body, signer)),
    standard: listed.some((one) => equal(one, expected)),
    body: checkBody(body, secret),
  }
}

/** The body's own signature is over the same bytes without it. */
function checkBody(body: Buffer, secret: string): boolean | null {
  const text = body.toString('latin1')
  const member = /,"signature":"(sha256=[0-9a-f]{64})"\}$/.exec(text)
  if (member === null) return null
  const signed = Buffer.from(`${text.slice(0, member.index)}}`, 'latin1')
  return equal(member[1] ?? '', signatureHeader(signed, createSigner(secret)))
}

function equal(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}
