/** One delivery from its raw bytes to the status that it is answered, the same on every runtime. */
import {
  type HeadersLike,
  type RawBody,
  verifyWebhook,
  type WebhookEvent,
  WebhookVerificationError,
} from '@posthaste/core/receiver'

export interface ReceiveOptions {
  /** The endpoint's secret; while you change it, the old and the new one. */
  secrets: readonly string[]
  /** Of the sender's `jwks.json`, where you verify without a secret. */
  publicKeys?: readonly (string | object)[]
  /** Ids of the events that were handled. Yours is a table with a unique key, written in the transaction that handles the event. */
  handled: { has(id: string): boolean; add(id: string): unknown }
  handle(event: WebhookEvent): string
  log(line: string): void
  /** In ms since 1970. Default `Date.now`. */
  now?: () => number
}

/** Answers the status. Nothing of what went wrong is told to whoever sent it. */
export async function receive(body: RawBody, headers: HeadersLike, options: ReceiveOptions): Promise<number> {
  const { secrets, publicKeys = [], handled, handle, log, now = Date.now } = options
  let event: WebhookEvent
  try {
    // `standard` signs the time of the attempt, too: a request that somebody recorded is refused after five minutes.
    event = await verifyWebhook(body, headers, secrets, { scheme: 'standard', publicKeys, now })
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error
    log(`refused at ${error.step}: ${error.message}`)
    // A secret that cannot be used is this side's mistake: 500, so that the event comes again when it is mended.
    return error.step === 'secret' ? 500 : 401
  }
  // Deliveries are made at least once: the id is the same each time.
  const id = event.id ?? ''
  if (handled.has(id)) {
    log(`seen before: ${id}`)
    return 200
  }
  try {
    log(handle(event))
  } catch (error) {
    log(`could not handle ${id}: ${error instanceof Error ? error.message : String(error)}`)
    return 500
  }
  handled.add(id)
  return 200
}
