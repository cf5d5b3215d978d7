/** The judge is judged: a sound run passes, and each kind of violation, made by hand, is found as what it is. */
import { describe, expect, test } from 'vitest'
import { countReasons, findDuplicates } from './duplicates.ts'
import { activeDuring, checkRun, findStalled } from './invariant.ts'
import { kinds, type Run, replay, replayAsk, soundRun } from './sound-run.ts'
import { VIOLATIONS, type ViolationKind } from './violations.ts'

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
    run.events.push({ id: 'evt_9', n: 9, idMs: 90_000, dispatchedAt: null as unknown as number })
  },
  'delivery-missing': (run) => {
    run.deliveries = run.deliveries.filter(({ id }) => id !== 'dlv_22')
    run.attempts = run.attempts.filter(({ delivery }) => delivery !== 'dlv_22')
    run.receipts = run.receipts.filter(({ delivery }) => delivery !== 'dlv_22')
  },
  'delivery-to-inactive': (run) => {
    Object.assign(run.endpoints[0]!, { switches: [{ from: 12_000, to: 12_100, active: false }] })
  },
  'success-not-received': (run) => {
    run.receipts = run.receipts.filter(({ delivery }) => delivery !== 'dlv_22')
    run.attempts = run.attempts.filter(({ delivery }) => delivery !== 'dlv_22')
  },
  'ended-early': (run) => {
    run.attemptsPerDelivery = 3
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
    run.losses.push({ worker: 'a', from: 30_000, to: 30_000, why: 'killed' })
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
  'replay-lost': (run) => {
    run.replays[0]!.status = 'cancelled'
  },
  'replay-stuck': (run) => {
    run.replays[0]!.status = 'running'
  },
  'replay-incomplete': (run) => {
    run.replays.push(replay('all', 8))
    run.replayAsks.push({ ...replayAsk('all', 8), from: 15_000 })
  },
  'replay-invented': (run) => {
    run.replays.push(replay('all', 8, { status: 'cancelled' }))
  },
  'replay-miscounted': (run) => {
    run.replays[0]!.done = 2
  },
  'retry-not-made': (run) => {
    run.retryAsks.push({ delivery: 'dlv_12', endpoint: 2, from: 44_900, attempts: 1 })
  },
  'process-broke': (run) => run.unhandled.push('TypeError'),
  overdue: (run) => {
    run.bounds[0]!.to = 30_001
  },
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
    run.losses.push({ worker: 'a', from: 21_000, to: 21_000, why: 'killed' })
    expect(checkRun(run)).toEqual([])
    expect(findDuplicates(run)).toHaveLength(1)
  })

  test("not another worker's", () => {
    const run = soundRun() as Run
    again(run, 25_000)
    run.losses.push({ worker: 'b', from: 21_000, to: 21_000, why: 'killed' })
    expect(kinds(run)).toEqual(['unexplained-duplicate'])
  })

  test('what was answered long before, where the database was away all the while, and only then', () => {
    const run = soundRun() as Run
    again(run, 45_000)
    run.losses.push({ worker: 'a', from: 40_000, to: 40_000, why: 'killed' })
    expect(kinds(run)).toEqual(['duplicate-of-recorded'])
    run.disturbances.push({ from: 30_000, to: 39_000 }, { from: 19_000, to: 31_000 })
    expect(checkRun(run)).toEqual([])
  })

  test('an attempt that the log does not know', () => {
    const run = soundRun() as Run
    BREAKS['attempt-not-logged'](run)
    run.losses.push({ worker: 'a', from: 20_600, to: 20_600, why: 'killed' })
    expect(checkRun(run)).toEqual([])
  })

  test('a success that is sent again is a duplicate under any number', () => {
    const run = soundRun() as Run
    run.receipts.push({ ...run.receipts[4]!, attempt: 2, at: 21_000 })
    expect(kinds(run)).toEqual(['attempt-not-logged', 'unexplained-duplicate'])
  })
})

describe('a machine that stands still', () => {
  test('is named where a bound was missed by no more than that, and nothing is judged', () => {
    const run = soundRun() as Run
    run.bounds[0]!.to = 31_000
    run.stalls.push({ from: 5_000, to: 6_200, ms: 1_100, who: 'the judge' })
    expect(checkRun(run)).toEqual([])
    expect(findStalled(run)).toEqual([
      'stop() took 31.0 s, bound 30.0 s; the machine stalled 1.1 s of it, 1100 ms at once for the judge',
    ])
  })

  test('explains no more than it lasted, and nothing at another time', () => {
    for (const stall of [
      { from: 5_000, to: 6_200, ms: 999, who: 'the judge' },
      { from: 31_000, to: 40_000, ms: 9_000, who: 'the judge' },
    ]) {
      const run = soundRun() as Run
      run.bounds[0]!.to = 31_000
      run.stalls.push(stall)
      expect(kinds(run)).toEqual(['overdue'])
      expect(findStalled(run)).toEqual([])
    }
  })

  test('gives a worker that long to record, and is named', () => {
    const run = soundRun() as Run
    run.receipts.push({ ...run.receipts[4]!, at: 25_000, worker: 'b' })
    run.losses.push({ worker: 'a', from: 23_000, to: 23_000, why: 'killed' })
    expect(kinds(run)).toEqual(['duplicate-of-recorded'])
    run.stalls.push({ from: 21_000, to: 21_500, ms: 400, who: 'worker process 1' })
    expect(checkRun(run)).toEqual([])
    expect(findStalled(run)).toHaveLength(1)
    expect(countReasons(run)).toEqual({ 'worker killed': 1 })
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
