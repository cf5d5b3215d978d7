import { affiliateEvents, createWebhooks, type Duration, type Webhooks } from '@posthaste/core'

export type ShopWebhooks = Webhooks<typeof affiliateEvents>

export interface ShopWebhooksOptions {
  databaseUrl: string
  /** Base64 of 32 bytes: what endpoints' secrets are encrypted with in the database. */
  encryptionKey: string
  /** For development, demo and tests: receivers on this machine, over http. Default false. */
  allowLoopbackReceivers?: boolean
  /** Default: Posthaste's, which goes on for three days. */
  retrySchedule?: Duration[]
}

/** Posthaste as this shop uses it. The same database as the shop's, so that one transaction covers both. */
export function createShopWebhooks(options: ShopWebhooksOptions): ShopWebhooks {
  return createWebhooks({
    database: options.databaseUrl,
    installation: 'example-shop',
    events: affiliateEvents,
    secretKeys: { current: 'k1', keys: { k1: options.encryptionKey } },
    ...(options.retrySchedule ? { retrySchedule: options.retrySchedule } : {}),
    ...(options.allowLoopbackReceivers ? { http: { allowHttp: true, allowedCidrs: ['127.0.0.0/8', '::1/128'] } } : {}),
  })
}
