/** Types of what arrives. Types only: nothing of the catalogue is loaded in a receiver. */
import type { output } from 'zod/v4/core'
import type { affiliateEvents } from '../catalog/affiliate-events.ts'
import type { Catalog } from '../catalog/define-events.ts'

/** One verified event, the same for both envelopes. */
export interface ReceivedEvent<T extends string = string, D = unknown> {
  /** The event type: the body's `event`, or `type` in the Standard Webhooks envelope. */
  event: T
  /** When it occurred, in Unix seconds; the same on every attempt. */
  timestamp: number
  data: D
  /**
   * The event's id, the same on every retry and replay: keep those you have handled and skip repetitions. Signed in the
   * `standard` scheme only; null where the header is missing.
   */
  id: string | null
  /** `X-Webhook-Delivery` and `X-Webhook-Attempt`, for logs; not signed, null where missing. */
  deliveryId: string | null
  attempt: number | null
}

/**
 * The events of a catalogue as a union that `switch (event.event)` narrows; of the built-in affiliate catalogue by default.
 * A sender may add event types later, so keep a `default` branch that answers 2xx.
 */
export type WebhookEvent<C = typeof affiliateEvents> =
  C extends Catalog<infer S> ? { [T in keyof S & string]: ReceivedEvent<T, output<S[T]>> }[keyof S & string] : never
