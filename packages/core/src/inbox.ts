/** For those who receive webhooks on Postgres: each is processed once, however often it is delivered. See docs/receiving.md. */
export { PosthasteError } from './errors.ts'
export {
  createInbox,
  type Inbox,
  type InboxOptions,
  type InboxStatement,
  type Processed,
  type PurgeOptions,
} from './inbox/inbox.ts'
export type { HostTransaction } from './storage/host-transaction.ts'
