import type { ManagementHandler } from '@posthaste/core'
import type { Program } from '../program.ts'
import type { ApiKeys } from './api-keys.ts'

/** All that an application is made of, whatever framework it is on. */
export interface Shop {
  program: Program
  /** Posthaste, as its adapters take it. */
  webhooks: ManagementHandler
  apiKeys: ApiKeys
  /** Where unexpected errors go. */
  log(error: unknown): void
}

/** An application that listens. */
export interface Listening {
  port: number
  /** Takes no more requests; resolves when those under way are answered. */
  close(): Promise<void>
}
