/** What this receiver does with an event. The union is narrowed by `event`, so `data` has the type of each. */
import type { WebhookEvent } from '@posthaste/core/receiver'

/** A line about it, for want of a business. What it throws makes the sender try again later. */
export function handleEvent(event: WebhookEvent): string {
  switch (event.event) {
    case 'commission.approved':
      return `commission ${event.data.commission_id}: ${event.data.amount} for ${event.data.affiliate_name}`
    case 'payout.processed':
      return `payout ${event.data.payout_id}: ${event.data.amount} ${event.data.currency} by ${event.data.method}`
    case 'payout.failed':
      return `payout ${event.data.payout_id} failed`
    default:
      // Types that this receiver does not know, or that come to exist later: taken, and passed over.
      return `passed over ${event.event}`
  }
}
