import { expect, test } from 'vitest'
import type { RunResult } from './one-run.ts'
import { ranges, summarize } from './summary.ts'

function result(seed: number, more: Partial<RunResult> = {}): RunResult {
  return {
    seed,
    violations: [],
    stalled: [],
    stalledMs: 0,
    notes: [],
    events: 1_000,
    deliveries: 5_000,
    receipts: 5_001,
    duplicates: 1,
    reasons: { 'worker killed': 1 },
    replays: 1,
    retries: 2,
    losses: 1,
    settleMs: 1_000,
    recovery: { workerMs: null, postgresMs: null },
    stopMs: 100,
    ...more,
  }
}

test('seeds in turn are a range', () => {
  expect(ranges([7, 3, 1, 2, 9, 8])).toBe('1–3, 7–9')
  expect(ranges([5])).toBe('5')
})

test('the table names every violation, every bound that was not judged, and the reasons of duplicates', () => {
  const results = [
    result(1),
    result(2, { violations: [{ kind: 'stuck', detail: 'x' }], recovery: { workerMs: 2_000, postgresMs: null } }),
    result(3, { stalled: ['stop() took 31.0 s'], reasons: { 'worker frozen': 1 } }),
  ]
  const table = summarize({ results, broken: [{ seed: 4, error: new Error('no') }], command: 'c', machine: 'm' })
  for (const row of [
    '| runs | 3, and 1 without a verdict |',
    '| seeds | 1–3 |',
    '| violations | seed 2: 1 × stuck |',
    '| time bounds not judged, because the machine stalled | seed 3: stop() took 31.0 s |',
    '| events, deliveries, requests | 3,000, 15,000, 15,003 |',
    '| duplicates | 3 after 3 losses (worker killed: 2, worker frozen: 1) |',
    '| from the death of a worker to the last delivery that waited for it | median 2.00 s, at most 2.00 s of 1 runs |',
  ]) {
    expect(table.split('\n')).toContain(row)
  }
})
