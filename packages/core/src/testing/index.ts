/** For tests of hosts, of plugins and of receivers, under vitest, jest and node:test alike. */
export type { EmittedInTransaction } from './emitted-in.ts'
export type { RecordedRequest, SignatureChecks } from './recorded-request.ts'
export type { Answer, RequestFilter, Responder } from './recording-transport.ts'
export { type SignedWebhook, type SignWebhookOptions, signWebhook, type WebhookFault } from './sign-webhook.ts'
export { createTestInstallation, type TestInstallation, type TestInstallationOptions } from './test-installation.ts'
