import type { affiliateEvents, EventData, EventType } from '@posthaste/core'

/** The program emits the built-in catalogue; a payload that does not fit its event does not compile. */
export type AffiliateEventName = EventType<typeof affiliateEvents>

export type AffiliateEventData<Name extends AffiliateEventName> = EventData<typeof affiliateEvents, Name>
