/** What can be found, and what each of it means. */

export const VIOLATIONS = {
  'rolled-back-received': 'a receiver got what was never committed',
  'event-missing': 'a committed event is not in the event log',
  'not-dispatched': 'a committed event was not dispatched',
  'delivery-missing': 'an endpoint that subscribed has no delivery of an event',
  'delivery-to-inactive': 'an endpoint that was switched off got a delivery of an event dispatched meanwhile',
  'success-not-received': 'the log says succeeded, and the receiver never accepted it',
  'ended-early': 'the log says failed, and attempts of the schedule were left',
  stuck: 'a delivery waits for ever',
  'wrong-status': 'held or cancelled without its endpoint being so',
  'unexplained-duplicate': 'sent again although nobody lost anything',
  'duplicate-of-recorded': 'sent again although its worker had ample time to record it',
  'attempt-not-logged': 'a receiver saw an attempt that the log does not know, and nobody lost anything',
  'attempt-invented': 'the log has an answer that no receiver gave',
  'out-of-order': 'a fifo endpoint got a delivery before an older one was final',
  'replay-lost': 'a replay that was acknowledged does not exist, or ended without anybody asking for that',
  'replay-stuck': 'a replay is running for ever',
  'replay-incomplete': 'a replay is completed, and something that it was asked for was not sent again',
  'replay-invented': 'a delivery or a replay that nobody asked for',
  'replay-miscounted': 'a replay says that it made more deliveries, or fewer, than it made',
  'retry-not-made': 'an attempt that was asked for by hand, and acknowledged, was not made',
  'process-broke': 'a worker had an unhandled error',
  overdue: 'something took longer than it may',
} as const

export type ViolationKind = keyof typeof VIOLATIONS

export interface Violation {
  kind: ViolationKind
  detail: string
}

export type Add = (kind: ViolationKind, detail: string) => void
