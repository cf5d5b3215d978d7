/** The judge is judged: a sound run passes, and each kind of violation, made by hand, is found as what it is. */
import { describe, expect, test } from 'vitest'
import { activeDuring, checkRun, type Evidence, findDuplicates, VIOLATIONS, type ViolationKind } from './invariant.ts'

/** Two events to two endpoints, the second one fifo: everything received once and recorded, but one failed for good. */
function soundRun() {
  const delivery = (n: number, endpoint: number, status = 'succeeded') => ({
    id: `dlv_${n}${endpoint}`,
    endpoint,
    eventId: `evt_${n}`,
    seq: n * 10 + endpoint,
    status,
  })
  const receipt = (n: number, endpoint: number, attempt: number, answered: number | null, at: number) => ({
    at,
    delivery: `dlv_${n}${endpoint}`,
    eventId: `evt_${n}`,
    n,
    attempt,
    worker: 'a',
    answered,
    answeredAt: answered === null ? null : at + 10,
  })
  const attempt = (n: number, endpoint: number, number: number, status: number | null, final: boolean) => ({
    delivery: `dlv_${n}${endpoint}`,
    number,
    succeeded: status === 200,
    final,
    status,
    step: number - 1,
  })
  return {
    committed: [1, 2],
    events: [
      { id: 'evt_1', n: 1, dispatchedAt: 10_000 },
      { id: 'evt_2', n: 2, dispatchedAt: 20_000 },
      { id: 'evt_9', n: 9, dispatchedAt: null },
    ].slice(0, 2),
    endpoints: [
      { no: 1, ordering: 'none', state: 'active', switches: [] },
      { no: 2, ordering: 'fifo', state: 'active', switches: [] },
    ],
    deliveries: [delivery(1, 1, 'failed'), delivery(1, 2), delivery(2, 1), delivery(2, 2)],
    attempts: [
      attempt(1, 1, 1, 500, false),
      attempt(1, 1, 2, null, true),
      attempt(1, 2, 1, 200, true),
      attempt(2, 1, 1, 200, true),
      attempt(2, 2, 1, 200, true),
    ],
    receipts: [
      receipt(1, 1, 1, 500, 10_100),
      receipt(1, 1, 2, null, 10_500),
      receipt(1, 2, 1, 200, 10_100),
      receipt(2, 1, 1, 200, 20_100),
      receipt(2, 2, 1, 200, 20_100),
    ],
    losses: [] as { worker: string; from: number; to: number }[],
    disturbances: [] as { from: number; to: number }[],
    attemptsPerDelivery: 2,
    unhandled: [] as string[],
    overdue: [] as string[],
  } satisfies Evidence
}

type Run = { -readonly [K in keyof ReturnType<typeof soundRun>]: ReturnType<typeof soundRun>[K] }
const kinds = (run: Evidence) => [...new Set(checkRun(run).map(({ kind }) => kind))].toSorted()

test('a sound run has no violation', () => {
  expect(checkRun(soundRun())).toEqual([])
})

/** How to make each violation out of the sound run. */
const BREAKS: Record<ViolationKind, (run: Run) => void> = {
  'rolled-back-received': (run) =>
    run.receipts.push({ ...run.receipts[3]!, n: 7, delivery: 'dlv_21', attempt: 1, at: 20_000 - 1 }),
  'event-missing': (run) => run.committed.push(3),
  'not-dispatched': (run) => {
    run.committed.push(9)
    run.events.push({ id: 'evt_9', n: 9, dispatchedAt: null as unknown as number })
  },
  'delivery-missing': (run) => {
    run.deliveries = run.deliveries.filter(({ id }) => id !== 'dlv_21')
    run.attempts = run.attempts.filter(({ delivery }) => delivery !== 'dlv_21')
    run.receipts = run.receipts.filter(({ delivery }) => delivery !== 'dlv_21')
  },
  'delivery-to-inactive': (run) => {
    Object.assign(run.endpoints[0]!, { switches: [{ from: 12_000, to: 12_100, active: false }] })
  },
  'success-not-received': (run) => {
    run.receipts = run.receipts.filter(({ delivery }) => delivery !== 'dlv_22')
    run.attempts = run.attempts.filter(({ delivery }) => delivery !== 'dlv_22')
  },
  'ended-early': (run) => {
    run.attempts = run.attempts.filter(({ delivery, number }) => delivery !== 'dlv_11' || number === 1)
    run.receipts = run.receipts.filter(({ delivery, attempt }) => delivery !== 'dlv_11' || attempt === 1)
  },
  stuck: (run) => {
    run.deliveries[0]!.status = 'retrying'
  },
  'wrong-status': (run) => {
    run.deliveries[0]!.status = 'held'
  },
  'unexplained-duplicate': (run) => run.receipts.push({ ...run.receipts[4]!, at: 20_500, worker: 'b' }),
  'duplicate-of-recorded': (run) => {
    run.receipts.push({ ...run.receipts[4]!, at: 30_500, worker: 'b' })
    run.losses.push({ worker: 'a', from: 30_000, to: 30_000 })
  },
  'attempt-not-logged': (run) => {
    run.receipts.push({ ...run.receipts[4]!, attempt: 2, at: 20_500, answered: null, answeredAt: null as never })
    run.receipts.splice(4, 1)
    run.attempts = run.attempts.filter(({ delivery }) => delivery !== 'dlv_22')
    run.deliveries[3]!.status = 'failed'
    run.attempts.push({ delivery: 'dlv_22', number: 1, succeeded: false, final: true, status: null, step: 1 })
  },
  'attempt-invented': (run) => {
    run.receipts[0]!.answered = null as unknown as number
  },
  'out-of-order': (run) => {
    run.receipts[4]!.at = 10_050
    run.receipts[4]!.answeredAt = 10_060
  },
  'process-broke': (run) => run.unhandled.push('TypeError'),
  overdue: (run) => run.overdue.push('stop() of a worker'),
}

describe('each violation is found, and only it', () => {
  test.each(Object.keys(VIOLATIONS) as ViolationKind[])('%s', (kind) => {
    const run = soundRun() as Run
    BREAKS[kind](run)
    const found = kinds(run)
    // A request that was rolled back is a second request of the delivery that it pretends to be.
    expect(found.filter((other) => kind !== 'rolled-back-received' || other !== 'unexplained-duplicate')).toEqual([
      kind,
    ])
  })
})

describe('what a loss explains', () => {
  const again = (run: Run, at: number) => run.receipts.push({ ...run.receipts[4]!, at, worker: 'b' })

  test('a duplicate of what was answered just before its worker died', () => {
    const run = soundRun() as Run
    again(run, 25_000)
    run.losses.push({ worker: 'a', from: 21_000, to: 21_000 })
    expect(checkRun(run)).toEqual([])
    expect(findDuplicates(run)).toHaveLength(1)
  })

  test("not another worker's", () => {
    const run = soundRun() as Run
    again(run, 25_000)
    run.losses.push({ worker: 'b', from: 21_000, to: 21_000 })
    expect(kinds(run)).toEqual(['unexplained-duplicate'])
  })

  test('what was answered long before, where the database was away all the while, and only then', () => {
    const run = soundRun() as Run
    again(run, 45_000)
    run.losses.push({ worker: 'a', from: 40_000, to: 40_000 })
    expect(kinds(run)).toEqual(['duplicate-of-recorded'])
    run.disturbances.push({ from: 30_000, to: 39_000 }, { from: 19_000, to: 31_000 })
    expect(checkRun(run)).toEqual([])
  })

  test('an attempt that the log does not know', () => {
    const run = soundRun() as Run
    BREAKS['attempt-not-logged'](run)
    run.losses.push({ worker: 'a', from: 20_600, to: 20_600 })
    expect(checkRun(run)).toEqual([])
  })

  test('a success that is sent again is a duplicate under any number', () => {
    const run = soundRun() as Run
    run.receipts.push({ ...run.receipts[4]!, attempt: 2, at: 21_000 })
    expect(kinds(run)).toEqual(['attempt-not-logged', 'unexplained-duplicate'])
  })
})

test('while nobody knows whether an endpoint was switched off, both are right', () => {
  const endpoint = {
    no: 1,
    ordering: 'none',
    state: 'active',
    switches: [
      { from: 100, to: 200, active: false },
      { from: 500, to: 600, active: true },
    ],
  } as const
  expect(activeDuring(endpoint, 0, 50)).toBe(true)
  expect(activeDuring(endpoint, 50, 150)).toBe(null)
  expect(activeDuring(endpoint, 250, 450)).toBe(false)
  expect(activeDuring(endpoint, 450, 650)).toBe(null)
  expect(activeDuring(endpoint, 700, 800)).toBe(true)
})
