/**
 * The attempts of a delivery, with the requests that were sent: rebuilt from the event, and from the secret that signed them or
 * the signatures that are kept.
 */

import { ENVELOPES, requestHeaders } from '../delivery/attempt.ts'
import { redactHeaders } from '../endpoints/endpoint-headers.ts'
import { msOfId, toPublicId } from '../ids.ts'
import type { Keyring } from '../signing/keyring.ts'
import { unpackSignatures } from '../signing/packed-signatures.ts'
import {
  buildBody,
  createSigner,
  type Envelope,
  rebuildBody,
  type Signer,
  signatureHeader,
  standardSignature,
} from '../signing/sign.ts'
import { and, eq, inArray, sql } from '../storage/orm.ts'
import { endpointSealContext, type Queries, rfc3339, type Store } from '../storage/tables.ts'
import { type DeliveryAttempt, MAX_ATTEMPTS_SHOWN } from './delivery-schemas.ts'

/** Bodies in one answer, in characters; the newest attempt's is shown whatever its size. */
const MOST_BODY_CHARACTERS = 2_097_152

const OUTCOMES = ['succeeded', 'failed', 'expired', 'cancelled'] as const

interface AttemptRow extends Record<string, unknown> {
  number: number
  outcome: number
  step: number | null
  status: number | null
  at: string
  at_seconds: number
  dns_ms: number | null
  connect_ms: number | null
  tls_ms: number | null
  first_byte_ms: number | null
  total_ms: number | null
  signatures: string | null
  secret_number: number | null
  error: string | null
  detail: string | null
  response_headers: string | null
  response_excerpt: string | null
}

interface EventRow extends Record<string, unknown> {
  event_id: string
  type: string
  data: string
  occurred_ms: number | null
  envelope: number
  header_names: string[]
  no: number
  endpoint_id: string
  secret: string
  secret_number: number
}

/** Newest first. */
export async function listAttempts(
  store: Store,
  queries: Queries,
  keyring: Pick<Keyring, 'open'>,
  uuid: string,
  userAgent: string,
): Promise<DeliveryAttempt[]> {
  const s = sql.raw(store.schema)
  const [event] = await queries.execute<EventRow>(sql`
    select e.id::text event_id, e.type, e.data, extract(epoch from e.occurred_at)::float8 * 1000 occurred_ms, e.envelope,
      p.header_names, p.no, p.id::text endpoint_id, p.secret, p.secret_number
    from ${s}.deliveries d join ${s}.events e on e.id = d.event_id join ${s}.endpoints p on p.no = d.endpoint
    where d.id = ${uuid}::uuid`)
  const rows = await queries.execute<AttemptRow>(sql`
    select number, outcome, step, status, ${rfc3339(sql`at`)} at, floor(extract(epoch from at))::float8 at_seconds, dns_ms,
      connect_ms, tls_ms, first_byte_ms, total_ms, encode(signatures, 'hex') signatures,
      -- What was never sent was signed by none.
      case when signatures is null and outcome <= 2 then coalesce(secret_number, 1) end secret_number, error, detail,
      response_headers, response_excerpt
    from ${s}.attempts where delivery_id = ${uuid}::uuid order by number desc limit ${MAX_ATTEMPTS_SHOWN}`)
  const signers = event === undefined ? new Map() : await signersOf(store, queries, keyring, event, rows)
  let characters = 0
  return rows.map((row) => {
    const withBody = characters < MOST_BODY_CHARACTERS
    characters += event?.data.length ?? 0
    return {
      number: row.number,
      // What ended without a send used no step, and nobody asked for it.
      manual: row.step === null && row.outcome <= 2,
      at: row.at,
      outcome: OUTCOMES[row.outcome - 1] ?? 'failed',
      status_code: row.status,
      error_code: row.error,
      error_message: row.detail,
      timings: {
        dns: milliseconds(row.dns_ms),
        connect: milliseconds(row.connect_ms),
        tls: milliseconds(row.tls_ms),
        first_byte: milliseconds(row.first_byte_ms),
        total: milliseconds(row.total_ms),
      },
      request: event === undefined ? null : rebuildRequest(uuid, event, row, signers, userAgent, withBody),
      response:
        row.response_headers === null
          ? null
          : { headers: JSON.parse(row.response_headers), excerpt: row.response_excerpt },
    }
  })
}

/** The secrets that attempts name, by number: the current one, and those before. One that this process has no key for is missing. */
async function signersOf(
  store: Store,
  queries: Queries,
  keyring: Pick<Keyring, 'open'>,
  { no, endpoint_id, secret, secret_number }: EventRow,
  rows: readonly AttemptRow[],
): Promise<Map<number, Signer>> {
  const named = new Set(rows.map((row) => row.secret_number).filter((number) => number !== null))
  const sealed = new Map(secret === '' ? [] : [[secret_number, secret]])
  if ([...named].some((number) => !sealed.has(number))) {
    const { retired_secrets } = store.tables
    const found = await queries
      .select()
      .from(retired_secrets)
      .where(and(eq(retired_secrets.endpoint, no), inArray(retired_secrets.number, [...named])))
    for (const retired of found) sealed.set(retired.number, retired.sealed)
  }
  const signers = new Map<number, Signer>()
  for (const [number, text] of sealed) {
    if (!named.has(number)) continue
    try {
      signers.set(number, createSigner(keyring.open(text, endpointSealContext(endpoint_id, 'secret'))))
    } catch (error) {
      if ((error as { code?: unknown } | null)?.code !== 'SECRET_UNREADABLE') throw error
    }
  }
  return signers
}

interface Signed {
  header: string
  standard: string
  /** The body's text. */
  body: string
}

/** As it was signed; null where it was not sent, or nobody can tell any more. */
function signedAgain(event: EventRow, row: AttemptRow, signers: ReadonlyMap<number, Signer>): Signed | null {
  const envelope = ENVELOPES[event.envelope] as Envelope
  const parts = {
    envelope,
    type: event.type,
    occurredAtMs: event.occurred_ms ?? msOfId(event.event_id),
    dataText: event.data,
  }
  if (row.signatures !== null) {
    const { header, standard, body } = unpackSignatures(envelope, row.signatures)
    return { header, standard, body: rebuildBody(parts, body) }
  }
  const signer = row.secret_number === null ? undefined : signers.get(row.secret_number)
  if (signer === undefined) return null
  const body = buildBody({ ...parts, signer })
  return {
    header: signatureHeader(body, signer),
    standard: standardSignature(toPublicId('evt', event.event_id), row.at_seconds, body, [signer]),
    body: body.toString('utf8'),
  }
}

function rebuildRequest(
  uuid: string,
  event: EventRow,
  row: AttemptRow,
  signers: ReadonlyMap<number, Signer>,
  userAgent: string,
  withBody: boolean,
): DeliveryAttempt['request'] {
  const signed = signedAgain(event, row, signers)
  if (signed === null) return null
  const headers = requestHeaders({
    userAgent,
    type: event.type,
    eventId: toPublicId('evt', event.event_id),
    deliveryId: toPublicId('dlv', uuid),
    number: row.number,
    timestamp: row.at_seconds,
    header: signed.header,
    standard: signed.standard,
  })
  return {
    headers: { ...Object.fromEntries(headers), ...redactHeaders(event.header_names) },
    body: withBody ? signed.body : null,
  }
}

/** A `real` of the database has seven digits, which are more than the clock gives. */
export function milliseconds(value: number | null): number | null {
  return value === null ? null : Math.round(value * 1000) / 1000
}
