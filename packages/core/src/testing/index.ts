/** For tests of hosts, of plugins and of receivers, under vitest, jest and node:test alike. */

export type { CaseResult, ConformanceCase, ConformanceReport } from './conformance.ts'
export type { EmittedInTransaction } from './emitted-in.ts'
export { checkReceiver, type ReceiverOptions, receiverCases } from './receiver-suite.ts'
export type { RecordedRequest, SignatureChecks } from './recorded-request.ts'
export type { Answer, RequestFilter, Responder } from './recording-transport.ts'
export { type SignedWebhook, type SignWebhookOptions, signWebhook, type WebhookFault } from './sign-webhook.ts'
export { createTestInstallation, type TestInstallation, type TestInstallationOptions } from './test-installation.ts'
export type {
  Isolation,
  StoredEvent,
  TransactionAdapter,
  TransactionScope,
  TransactionSuite,
} from './transaction-adapter.ts'
export { transactionCases } from './transaction-cases.ts'
export {
  checkTransactionAdapter,
  type OpenTransactionSuite,
  openTransactionSuite,
  type TransactionSuiteOptions,
} from './transaction-suite.ts'
export { checkTransport, type TransportSuiteOptions, transportCases } from './transport-suite.ts'
