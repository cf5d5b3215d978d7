import { expect, test } from 'vitest'
import { FAULT_NAMES, FAULTS, makeSchedule } from './schedule.ts'

test('the same seed makes the same schedule, another one another', () => {
  const of = (seed: number) => JSON.stringify(makeSchedule({ seed, seconds: 12 }))
  expect(of(7)).toBe(of(7))
  expect(new Set(Array.from({ length: 200 }, (_, seed) => of(seed))).size).toBe(200)
})

test('seeds in turn leave no fault out, and faults stay within their bounds', () => {
  const seen = new Set<string>()
  for (let seed = 1_000; seed < 1_000 + FAULT_NAMES.length; seed++) {
    const { steps, activeMs } = makeSchedule({ seed, seconds: 12 })
    for (const { fault, atMs, forMs } of steps) {
      seen.add(fault)
      expect(atMs).toBeGreaterThanOrEqual(0)
      expect(atMs).toBeLessThan(activeMs)
      expect(forMs).toBeGreaterThanOrEqual(FAULTS[fault][0])
      expect(forMs).toBeLessThanOrEqual(FAULTS[fault][1])
    }
  }
  expect([...seen].toSorted()).toEqual(FAULT_NAMES.toSorted())
})

test('only what was asked for, alone where it was asked for alone', () => {
  const only = ['worker-killed', 'postgres-fast'] as const
  for (let seed = 0; seed < 20; seed++) {
    expect(
      makeSchedule({ seed, seconds: 12, only }).steps.every(({ fault }) => only.includes(fault as 'worker-killed')),
    ).toBe(true)
    expect(makeSchedule({ seed, seconds: 12, only, alone: true }).steps.map(({ fault }) => fault)).toEqual([
      only[seed % 2],
    ])
  }
})
