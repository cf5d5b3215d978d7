/** A demo that says "everything as expected" must be able to say otherwise: each way to go wrong, and what is said then. */
import { describe, expect, test } from 'vitest'
import type { EmittedEvent } from '../../../affiliate/src/index.ts'
import type { ReceivedRequest } from '../receiver.ts'
import { DemoRecord, type SenderAccount } from './record.ts'

const APPROVED: EmittedEvent = { id: 'evt_1', type: 'commission.approved', data: { amount: 85.5 } }
const FAILED: EmittedEvent = { id: 'evt_2', type: 'payout.failed', data: { amount: 1 } }
const ROLLED_BACK: EmittedEvent = { id: 'evt_3', type: 'commission.created', data: {} }

function request(
  event: EmittedEvent,
  path: string,
  change: Partial<ReceivedRequest> = {},
  attempt = 1,
): ReceivedRequest {
  return {
    path,
    receivedAt: performance.timeOrigin + performance.now(),
    status: 200,
    headers: {
      'webhook-id': event.id!,
      'x-webhook-id': event.id!,
      'x-webhook-event': event.type,
      'x-webhook-attempt': String(attempt),
    },
    body: JSON.stringify({ event: event.type, timestamp: 1, data: event.data, signature: 'sha256=0' }),
    checks: { page: true, body: true, standard: true },
    ...change,
  }
}

/** Two events, three endpoints, and of one of them the first event is answered 503 twice. */
function record(): DemoRecord {
  const made = new DemoRecord()
  made.endpoints.push(
    { id: 'ep_1', path: '/page', events: ['commission.approved'], failures: 0 },
    { id: 'ep_2', path: '/all', events: ['*'], failures: 0 },
    { id: 'ep_3', path: '/flaky', events: ['payout.*'], failures: 2 },
  )
  made.settle('committed', [APPROVED, FAILED])
  made.settle('rolled back', [ROLLED_BACK])
  return made
}

function good(): ReceivedRequest[] {
  return [
    request(APPROVED, '/page'),
    request(APPROVED, '/all'),
    request(FAILED, '/all'),
    request(FAILED, '/flaky', { status: 503 }, 1),
    request(FAILED, '/flaky', { status: 503 }, 2),
    request(FAILED, '/flaky', {}, 3),
  ]
}

/** What is found where these requests came. Posthaste's own count is right unless another one is given. */
function faultsWith(requests: ReceivedRequest[], sender?: SenderAccount): string[] {
  const made = record()
  for (const one of requests) made.receive(one)
  const succeeded = made.deliveries().filter((delivery) => delivery.deliveredMs !== null).length
  const retried = requests.filter((one) => one.status >= 300).length
  Object.assign(made.sender, sender ?? { succeeded, retried })
  return made.findFaults()
}

/** The good run with one request changed. */
function changed(index: number, change: Partial<ReceivedRequest>): ReceivedRequest[] {
  return good().map((one, at) => (at === index ? { ...one, ...change } : one))
}

describe('the demo’s record', () => {
  test('finds no fault in a good run', () => {
    expect(faultsWith(good())).toEqual([])
    expect(record().deliveries()).toHaveLength(4)
  })

  test('misses what did not come', () => {
    expect(faultsWith(good().slice(1))).toEqual([
      'commission.approved to /page was not delivered.',
      '/page answered [], but [200] was expected.',
    ])
  })

  test('finds a delivery that came twice', () => {
    expect(faultsWith([...good(), request(APPROVED, '/page', {}, 2)])).toEqual([
      '/page answered [200 200], but [200] was expected.',
    ])
  })

  test('finds what was rolled back, and what nobody subscribed to', () => {
    expect(faultsWith([...good(), request(ROLLED_BACK, '/all')])).toEqual([
      'commission.created came to /all though its transaction was rolled back.',
    ])
    expect(faultsWith([...good(), request(FAILED, '/page')])).toEqual(['payout.failed came to /page unexpectedly.'])
  })

  test.each([
    ['page', /page's algorithm refuses/],
    ['body', /body's own signature/],
    ['standard', /standardwebhooks refuses/],
  ] as const)('finds a wrong signature: %s', (check, said) => {
    const faults = faultsWith(changed(0, { checks: { page: true, body: true, standard: true, [check]: false } }))
    expect(faults).toEqual([expect.stringMatching(said)])
  })

  test('finds retries that should not have been, or were not', () => {
    expect(faultsWith(changed(4, { status: 200 }))).toEqual([expect.stringContaining('[503 503 200] was expected')])
    expect(faultsWith([...good().slice(0, 3), request(FAILED, '/flaky')])).toEqual([
      '/flaky answered [200], but [503 503 200] was expected.',
    ])
  })

  test('finds a wrong attempt number, other bytes, and another payload', () => {
    const headers = { ...good()[5]!.headers, 'x-webhook-attempt': '2' }
    expect(faultsWith(changed(5, { headers }))).toEqual([
      'Attempt 3 of payout.failed to /flaky says that it is attempt 2.',
    ])
    const spaced = changed(5, { body: good()[5]!.body.replace(',', ', ') })
    expect(faultsWith(spaced)).toEqual(['Attempt 3 of payout.failed to /flaky has other bytes than the first.'])
    const cheaper = changed(0, { body: good()[0]!.body.replace('85.5', '85') })
    expect(faultsWith(cheaper)).toEqual([expect.stringMatching(/^Attempt 1 .* does not carry what was emitted/)])
    expect(faultsWith(changed(0, { body: 'nonsense' }))).toEqual([expect.stringMatching(/does not carry/)])
  })

  test('finds a sender that counts otherwise than the receiver', () => {
    expect(faultsWith(good(), { succeeded: 4, retried: 2, givenUp: 0 })).toEqual([])
    for (const wrong of [{ succeeded: 3 }, { retried: 3 }, { givenUp: 1 }]) {
      expect(faultsWith(good(), { succeeded: 4, retried: 2, givenUp: 0, ...wrong })).toEqual([
        expect.stringMatching(/^Posthaste counts .*, the receiver /),
      ])
    }
  })

  test('waits until everything has come, and no longer than the deadline', async () => {
    const made = record()
    const waiting = made.completed(10_000, new AbortController().signal)
    for (const one of good()) made.receive(one)
    await waiting
    const before = performance.now()
    await record().completed(20, new AbortController().signal)
    expect(performance.now() - before).toBeLessThan(5_000)
    const interrupted = new AbortController()
    const waitingForever = record().completed(10_000, interrupted.signal)
    interrupted.abort()
    await expect(waitingForever).rejects.toThrow(/abort/i)
  })
})
