import { expect, test } from 'vitest'
import { affiliateEvents } from './catalog/affiliate-events.ts'
import { checkOptions } from './config.ts'

const BASE = {
  database: 'postgres://user@localhost/name',
  installation: 'test',
  events: affiliateEvents,
  secretStorage: 'plain',
} as const

test('the smallest options have every default', () => {
  expect(checkOptions(BASE)).toMatchObject({
    tenancy: 'single',
    schema: 'posthaste',
    envelope: 0,
    maxDataBytes: 1_048_576,
    deadlineMs: 15_000,
    leaseMs: 25_000,
    keepResponses: 'failed',
    jobEngine: true,
  })
})

/** Each is what an unset or misread environment variable, or a slip of the hand, makes of an option. */
test.each([
  ['maxEndpointsPerAccount', { maxEndpointsPerAccount: Number.NaN }],
  ['maxEndpointsPerAccount', { maxEndpointsPerAccount: 0 }],
  ['maxEndpointsPerAccount', { maxEndpointsPerAccount: 1.5 }],
  ['maxEndpointsPerAccount', { maxEndpointsPerAccount: '100' }],
  ['retrySchedule[1]', { retrySchedule: ['5s', '5x'] }],
  ['retrySchedule[0]', { retrySchedule: [Number.NaN] }],
  ["retrySchedules['payout.failed'][0]", { retrySchedules: { 'payout.failed': ['soon'] } }],
  ["retrySchedules['payout.fialed']", { retrySchedules: { 'payout.fialed': ['5s'] } }],
  ['worker.jobEngine', { worker: { jobEngine: 'false' } }],
  ['maxDataBytes', { maxDataBytes: Number.NaN }],
  ['http.connectionsPerOrigin', { http: { connectionsPerOrigin: 0 } }],
  ['worker.concurrency', { worker: { concurrency: Number.NaN } }],
  ['worker.endpointConcurrency', { worker: { endpointConcurrency: -1 } }],
  ['connections.worker', { connections: { worker: 1 } }],
  ['connections.api', { connections: { api: 0 } }],
  ['worker.lease', { worker: { lease: '15s' } }],
  ['http.deadline', { http: { deadline: 'soon' } }],
  ['retention.events', { retention: { events: '1h' } }],
  ['retention.failed', { retention: { failed: '367d' } }],
  ['retention.waiting', { retention: { waiting: '6d' } }],
  ['tenancy', { tenancy: 'both' }],
  ['envelope', { envelope: 'cloudevents' }],
  ['keepResponses', { keepResponses: 'some' }],
  ['secretStorage', { secretStorage: 'encrypt' }],
  ['secretKeys', { secretStorage: undefined }],
  ['database', { database: '' }],
  ['database', { database: undefined }],
  ['installation', { installation: ' ' }],
  ['schema', { schema: 'a"b' }],
])('%s is refused by name: %j', (option, wrong) => {
  const check = () => checkOptions({ ...BASE, ...wrong } as never)
  expect(check).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  expect(check).toThrow(option)
})
