/**
 * For those who receive webhooks: verification of both signature schemes, with types of the events. It runs wherever
 * WebCrypto does (Node 20, Deno, Bun, Cloudflare Workers, Vercel Edge) and imports nothing of the sending side.
 */
export type { ReceivedEvent, WebhookEvent } from './receiver/event-types.ts'
export { type VerificationStep, WebhookVerificationError } from './receiver/verification-error.ts'
export {
  type HeadersLike,
  type RawBody,
  type SignatureScheme,
  type VerifyOptions,
  verifyBodySignature,
  verifyWebhook,
} from './receiver/verify-webhook.ts'
