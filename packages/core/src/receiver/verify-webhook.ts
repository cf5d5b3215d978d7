import type { affiliateEvents } from '../catalog/affiliate-events.ts'
import type { WebhookEvent } from './event-types.ts'
import { WebhookVerificationError } from './verification-error.ts'
import {
  concat,
  decodeBase64,
  decodeHex32,
  ed25519Matches,
  encoder,
  hmacMatches,
  rawKey,
  standardKey,
} from './webcrypto.ts'

/** `Headers`, or a plain record such as Node's `req.headers`; names in any case. */
export type HeadersLike =
  | { get(name: string): string | null }
  | Readonly<Record<string, string | readonly string[] | undefined>>

/** The body as it arrived: bytes, or text where the framework gives only that. */
export type RawBody = string | Uint8Array | ArrayBuffer

/** `standard`: `webhook-id`, `-timestamp` and `-signature`; `x-webhook`: `X-Webhook-Signature`. */
export type SignatureScheme = 'standard' | 'x-webhook'

export interface VerifyOptions {
  /** How far `webhook-timestamp` may lie from now, either way, in seconds. Default 300, as in Standard Webhooks' libraries. */
  toleranceSeconds?: number
  /** The receiver's clock in ms since 1970. Default `Date.now`. */
  now?: () => number
  /**
   * `auto` (default) takes `standard` where its signature header is there, else `x-webhook`. Every delivery carries both.
   * Only `standard` signs the id and the time of the attempt: name it where a recorded request, sent again later, must be
   * refused, because whoever sends it again could leave the other headers out.
   */
  scheme?: 'auto' | SignatureScheme
  /** ed25519 public keys for `v1a` signatures: `whpk_` and base64, or JWKs from the sender's `jwks.json`. */
  publicKeys?: readonly (string | object)[]
}

const DEFAULT_TOLERANCE_SECONDS = 300

/** More signatures than this in one header are not looked at; during a rotation there are two. */
const MAX_SIGNATURES = 16

/**
 * Verifies one request and returns its event.
 *
 * @param rawBody never JSON that was parsed and written again
 * @param secrets the endpoint's secret as its owner sees it; both the old and the new one while you change it
 * @throws {WebhookVerificationError} with the `step` that failed and what to do
 */
export async function verifyWebhook<C = typeof affiliateEvents>(
  rawBody: RawBody,
  headers: HeadersLike,
  secrets: string | readonly string[],
  options: VerifyOptions = {},
): Promise<WebhookEvent<C>> {
  const body = bodyBytes(rawBody)
  const publicKeys = options.publicKeys ?? []
  const candidates = secretList(secrets, publicKeys.length > 0)
  const scheme = chooseScheme(headers, options.scheme ?? 'auto')
  if (scheme === 'standard') await verifyStandard(body, headers, candidates, publicKeys, options)
  else await verifyXWebhook(body, headers, candidates)
  const id = header(headers, scheme === 'standard' ? 'webhook-id' : 'x-webhook-id')
  const attempt = Number(header(headers, 'x-webhook-attempt') ?? Number.NaN)
  return {
    ...readEnvelope(body),
    id,
    deliveryId: header(headers, 'x-webhook-delivery'),
    attempt: Number.isSafeInteger(attempt) ? attempt : null,
  } as WebhookEvent<C>
}

/**
 * Whether the body's own `signature` is right, for receivers that never see headers (a queue, a log). It is the HMAC over
 * the same bytes without that member, which is cut out of the bytes here. Only the `posthaste` envelope has one.
 *
 * @throws {WebhookVerificationError} at `secret` or `body`; a wrong signature is `false`
 */
export async function verifyBodySignature(rawBody: RawBody, secrets: string | readonly string[]): Promise<boolean> {
  const body = bodyBytes(rawBody)
  const keys = secretList(secrets, false).map(rawKey)
  const end = /,"signature":"sha256=([0-9a-f]{64})"\}$/.exec(latin1(body.subarray(-BODY_SIGNATURE_LENGTH)))
  const signature = end === null ? null : decodeHex32(end[1] ?? '')
  if (signature === null) return false
  const signed = body.slice(0, body.length - BODY_SIGNATURE_LENGTH + 1)
  signed[signed.length - 1] = CLOSING_BRACE
  return hmacMatches(keys, [signature], signed)
}

/** `,"signature":"sha256=` (21 bytes), 64 hex digits, `"}`. */
const BODY_SIGNATURE_LENGTH = 21 + 64 + 2
const CLOSING_BRACE = 0x7d

async function verifyStandard(
  body: Uint8Array<ArrayBuffer>,
  headers: HeadersLike,
  secrets: readonly string[],
  publicKeys: readonly (string | object)[],
  options: VerifyOptions,
): Promise<void> {
  const id = requireHeader(headers, 'webhook-id')
  const timestamp = requireHeader(headers, 'webhook-timestamp')
  const listed = requireHeader(headers, 'webhook-signature').split(' ').slice(0, MAX_SIGNATURES)
  const content = concat(encoder.encode(`${id}.${timestamp}.`), body)
  const matches =
    (await hmacMatches(secrets.map(standardKey), signaturesOf(listed, 'v1,'), content)) ||
    (await ed25519Matches(publicKeys, signaturesOf(listed, 'v1a,'), content))
  if (!matches) throw mismatch('webhook-signature', secrets, publicKeys.length > 0)
  const seconds = /^\d{1,12}$/.test(timestamp) ? Number(timestamp) : Number.NaN
  const ageSeconds = (options.now ?? Date.now)() / 1000 - seconds
  const tolerance = options.toleranceSeconds ?? DEFAULT_TOLERANCE_SECONDS
  if (!(Math.abs(ageSeconds) <= tolerance)) {
    const cause = `webhook-timestamp is ${Math.round(ageSeconds)} s from this machine's clock, more than ${tolerance} s`
    throw new WebhookVerificationError('timestamp', `${cause}: a request sent again later, or a clock to set right.`)
  }
}

async function verifyXWebhook(
  body: Uint8Array<ArrayBuffer>,
  headers: HeadersLike,
  secrets: readonly string[],
): Promise<void> {
  if (secrets.length === 0)
    throw new WebhookVerificationError(
      'secret',
      'X-Webhook-Signature needs a secret; public keys are for webhook-signature.',
    )
  const value = requireHeader(headers, 'x-webhook-signature')
  const signature = value.startsWith('sha256=') ? decodeHex32(value.slice('sha256='.length)) : null
  if (signature === null) {
    throw new WebhookVerificationError(
      'headers',
      'X-Webhook-Signature is not "sha256=" and 64 hex digits; something on the way changed it.',
    )
  }
  if (!(await hmacMatches(secrets.map(rawKey), [signature], body)))
    throw mismatch('X-Webhook-Signature', secrets, false)
}

function mismatch(name: string, secrets: readonly string[], withPublicKeys: boolean): WebhookVerificationError {
  const given = secrets.length === 0 ? 'public key' : withPublicKeys ? 'secret or public key' : 'secret'
  return new WebhookVerificationError('signature', `${name} matches no given ${given}. ${mismatchHint(secrets)}`)
}

function mismatchHint(secrets: readonly string[]): string {
  if (secrets.length === 0) {
    return "Check that the key is in the sender's jwks.json, fetched lately, and that the body is the raw bytes that arrived."
  }
  return secrets.some((secret) => secret.trim() !== secret)
    ? 'A secret given here begins or ends with white space (a line break from a file?); it is used as it is.'
    : "Check that the secret is this endpoint's own, as shown when it was created, and that the body is the raw bytes that arrived."
}

function signaturesOf(listed: readonly string[], version: string): Uint8Array<ArrayBuffer>[] {
  return listed
    .filter((entry) => entry.startsWith(version))
    .map((entry) => decodeBase64(entry.slice(version.length)))
    .filter((signature) => signature !== null)
}

function readEnvelope(body: Uint8Array): { event: string; timestamp: number; data: unknown } {
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    throw new WebhookVerificationError(
      'payload',
      'The signature is right, but the body is not JSON in UTF-8; ask the sender.',
    )
  }
  const { event, type, timestamp, data } = (parsed ?? {}) as Record<string, unknown>
  const name = event ?? type
  const seconds = typeof timestamp === 'string' ? Math.floor(Date.parse(timestamp) / 1000) : timestamp
  if (typeof name !== 'string' || typeof seconds !== 'number' || !Number.isFinite(seconds) || data === undefined) {
    throw new WebhookVerificationError(
      'payload',
      'The signature is right, but the body lacks event (or type), timestamp or data.',
    )
  }
  return { event: name, timestamp: seconds, data }
}

function chooseScheme(headers: HeadersLike, wanted: 'auto' | SignatureScheme): SignatureScheme {
  if (wanted !== 'auto') return wanted
  if (header(headers, 'webhook-signature') !== null) return 'standard'
  if (header(headers, 'x-webhook-signature') !== null) return 'x-webhook'
  throw new WebhookVerificationError(
    'headers',
    'Neither webhook-signature nor X-Webhook-Signature is there: not a delivery, or a proxy that drops headers.',
  )
}

function requireHeader(headers: HeadersLike, name: string): string {
  const value = header(headers, name)
  if (value !== null) return value
  throw new WebhookVerificationError(
    'headers',
    `The header ${name} is missing; pass the request's own headers, all of them.`,
  )
}

function header(headers: HeadersLike, name: string): string | null {
  if (typeof headers.get === 'function') return headers.get(name)
  for (const [key, value] of Object.entries(headers)) {
    if (key.toLowerCase() !== name || value === undefined) continue
    return typeof value === 'string' ? value : ((value as readonly string[])[0] ?? null)
  }
  return null
}

function bodyBytes(rawBody: RawBody): Uint8Array<ArrayBuffer> {
  if (typeof rawBody === 'string') return encoder.encode(rawBody)
  // Not instanceof: test runners with realms of their own (jest) have another Uint8Array than Buffer's.
  if (ArrayBuffer.isView(rawBody)) {
    return Uint8Array.from(new Uint8Array(rawBody.buffer, rawBody.byteOffset, rawBody.byteLength))
  }
  if (Object.prototype.toString.call(rawBody) === '[object ArrayBuffer]') return new Uint8Array(rawBody)
  throw new WebhookVerificationError(
    'body',
    'The body must be the raw bytes or text of the request, not parsed JSON: read it before a JSON parser does (express.raw, request.text()).',
  )
}

function secretList(secrets: string | readonly string[], mayBeEmpty: boolean): readonly string[] {
  const list = typeof secrets === 'string' ? [secrets] : (secrets ?? [])
  if ((list.length === 0 && !mayBeEmpty) || !list.every((secret) => typeof secret === 'string' && secret !== '')) {
    throw new WebhookVerificationError(
      'secret',
      'No secret was given, or an empty one; is its environment variable set?',
    )
  }
  return list
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes)
}
