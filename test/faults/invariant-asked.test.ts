/** The judge of replays and of attempts by hand, judged. */
import { describe, expect, test } from 'vitest'
import { findDuplicates } from './duplicates.ts'
import { checkRun } from './invariant.ts'
import { kinds, type Run, replay, replayAsk, soundRun } from './sound-run.ts'

describe('replays', () => {
  const missed = (run: Run) => {
    // Switched off when the second event was dispatched, then on again.
    Object.assign(run.endpoints[1]!, {
      switches: [
        { from: 12_000, to: 12_100, active: false },
        { from: 22_000, to: 22_100, active: true },
      ],
    })
    Object.assign(run.deliveries[3]!, { madeAt: 40_500 })
    Object.assign(run.receipts[4]!, { at: 40_600, answeredAt: 40_610 })
    run.replays.push(replay('missing', 8, { endpoint: 2, done: 1 }))
    run.replayAsks.push({ ...replayAsk('missing', 8), endpoint: 2 })
  }

  test('what was missing is made by a replay of it, and by nothing else', () => {
    const run = soundRun() as Run
    missed(run)
    expect(checkRun(run)).toEqual([])
    run.replays[1]!.untilMs = 19_000
    expect(kinds(run)).toEqual(['delivery-to-inactive'])
  })

  test('nor may it have been made before that was asked for', () => {
    const run = soundRun() as Run
    missed(run)
    run.deliveries[3]!.madeAt = 39_999
    expect(kinds(run)).toEqual(['delivery-to-inactive'])
  })

  test('a completed one of what was missing leaves nothing missing', () => {
    const run = soundRun() as Run
    missed(run)
    run.deliveries = run.deliveries.filter(({ id }) => id !== 'dlv_22')
    run.attempts = run.attempts.filter(({ delivery }) => delivery !== 'dlv_22')
    run.receipts = run.receipts.filter(({ delivery }) => delivery !== 'dlv_22')
    expect(kinds(run)).toEqual(['replay-incomplete'])
  })

  const unsent = (run: Run) => {
    run.deliveries = run.deliveries.filter(({ id }) => id !== 'dlv_1171')
    run.attempts = run.attempts.filter(({ delivery }) => delivery !== 'dlv_1171')
    run.receipts = run.receipts.filter(({ delivery }) => delivery !== 'dlv_1171')
    run.replays[0]!.done = 0
  }

  test('a completed one of what failed has sent that again, unless somebody did so by hand', () => {
    const run = soundRun() as Run
    unsent(run)
    expect(kinds(run)).toEqual(['replay-incomplete'])
    run.retryAsks.push({ delivery: 'dlv_11', endpoint: 1, from: 39_000, attempts: null })
    expect(checkRun(run)).toEqual([])
  })

  test('one that was cancelled on request need not be complete, but counts what it made', () => {
    const run = soundRun() as Run
    unsent(run)
    run.replays[0]!.status = 'cancelled'
    run.replayAsks[0]!.cancelAsked = true
    expect(checkRun(run)).toEqual([])
    run.replays[0]!.done = 1
    expect(kinds(run)).toEqual(['replay-miscounted'])
  })

  test('of what has not failed, of another time, or without a replay nothing is sent again', () => {
    for (const spoil of [
      (run: Run) => {
        run.attempts[1]!.final = false
        run.deliveries[0]!.status = 'retrying'
      },
      (run: Run) => {
        run.replays[0]!.untilMs = 9_900
        run.replayAsks[0]!.failedBefore = []
      },
      (run: Run) => {
        run.replays = []
        run.replayAsks = []
      },
      (run: Run) => {
        run.replayAsks[0]!.sinceMs++
      },
    ]) {
      const run = soundRun() as Run
      spoil(run)
      expect(kinds(run)).toContain('replay-invented')
    }
  })

  test('one that was acknowledged exists', () => {
    const run = soundRun() as Run
    run.replayAsks.push({ ...replayAsk('all', 9) })
    expect(kinds(run)).toEqual(['replay-lost'])
  })
})

describe('attempts by hand', () => {
  const third = (run: Run) => {
    run.receipts.push({ ...run.receipts[6]!, attempt: 3, at: 46_000, answeredAt: 46_010 })
    run.attempts.push({ ...run.attempts[6]!, number: 3 })
  }

  test('a success that is sent again needs an ask of its own', () => {
    const run = soundRun() as Run
    third(run)
    expect(kinds(run)).toEqual(['unexplained-duplicate'])
    run.retryAsks.push({ delivery: 'dlv_21', endpoint: 1, from: 45_900, attempts: 2 })
    expect(checkRun(run)).toEqual([])
    expect(findDuplicates(run)).toEqual([])
  })

  test('made before it, and for no earlier attempt', () => {
    for (const [from, attempts] of [
      [46_100, 2],
      [45_900, 3],
    ] as const) {
      const run = soundRun() as Run
      third(run)
      run.retryAsks.push({ delivery: 'dlv_21', endpoint: 1, from, attempts })
      expect(kinds(run)).toContain('unexplained-duplicate')
    }
  })

  test('one whose connection had died is repeated at once', () => {
    const run = soundRun() as Run
    third(run)
    Object.assign(run.attempts[6]!, { succeeded: false, final: false, status: null })
    expect(checkRun(run)).toEqual([])
  })

  test('the same attempt twice is a duplicate, whoever asked for it', () => {
    const run = soundRun() as Run
    run.receipts.push({ ...run.receipts[6]!, at: 45_300 })
    expect(kinds(run)).toEqual(['unexplained-duplicate'])
  })

  test('none is due where the endpoint was switched off since', () => {
    const run = soundRun() as Run
    run.retryAsks.push({ delivery: 'dlv_12', endpoint: 2, from: 44_900, attempts: 1 })
    expect(kinds(run)).toEqual(['retry-not-made'])
    Object.assign(run.endpoints[1]!, { switches: [{ from: 45_000, to: 45_100, active: false }] })
    expect(checkRun(run)).toEqual([])
  })

  test('they go ahead of a fifo order, and only they', () => {
    const run = soundRun() as Run
    Object.assign(run.receipts[4]!, { at: 10_050, answeredAt: 10_060 })
    expect(kinds(run)).toEqual(['out-of-order'])
    run.retryAsks.push({ delivery: 'dlv_22', endpoint: 2, from: 10_040, attempts: null })
    expect(checkRun(run)).toEqual([])
    run.retryAsks.at(-1)!.from = 10_051
    expect(kinds(run)).toEqual(['out-of-order'])
  })
})
