import { describe, expect, test } from 'vitest'
import type { Clock } from '../clock.ts'
import { LaneProgress } from './lane-progress.ts'
import { Lease, LeaseObserver } from './lease.ts'

function fakeClock(): Clock & { ms: number } {
  const clock = { ms: 0, now: () => clock.ms, monotonic: () => clock.ms }
  return clock
}

describe('lease', () => {
  test('covers what ends before it does, counted from before the renewal was asked for', () => {
    const clock = fakeClock()
    const lease = new Lease(clock, 25_000)
    expect(lease.covers(1)).toBe(false)
    lease.renewed(0)
    clock.ms = 10_000
    expect(lease.covers(15_000)).toBe(true)
    expect(lease.covers(15_001)).toBe(false)
    lease.lost()
    expect(lease.covers(1)).toBe(false)
  })

  test('an older renewal that answers late does not shorten it', () => {
    const clock = fakeClock()
    const lease = new Lease(clock, 1_000)
    lease.renewed(500)
    lease.renewed(100)
    clock.ms = 1_400
    expect(lease.covers(100)).toBe(true)
  })
})

describe('watching others', () => {
  function watch(
    observer: LeaseObserver,
    clock: { ms: number },
    until: number,
    renewal: (ms: number) => number,
  ): number | null {
    for (; clock.ms <= until; clock.ms += 1_000) {
      if (observer.observe([{ token: 7, renewal: renewal(clock.ms) }]).length > 0) return clock.ms
    }
    return null
  }

  test('a worker that renews is alive', () => {
    const clock = fakeClock()
    expect(watch(new LeaseObserver(clock, 10_000), clock, 60_000, (ms) => Math.floor(ms / 9_000))).toBe(null)
  })

  test('one that stopped has expired after a whole lease, not before', () => {
    const clock = fakeClock()
    expect(watch(new LeaseObserver(clock, 10_000), clock, 60_000, (ms) => Math.min(ms, 5_000))).toBe(15_000)
  })

  test('who could not look begins to count anew', () => {
    const clock = fakeClock()
    const observer = new LeaseObserver(clock, 10_000)
    observer.observe([{ token: 7, renewal: 1 }])
    clock.ms = 60_000
    expect(observer.observe([{ token: 7, renewal: 1 }])).toEqual([])
    expect(watch(observer, clock, 120_000, () => 1)).toBe(70_000)
  })
})

describe('position of a lane', () => {
  test('stays before the oldest page with unfinished work', () => {
    const lane = new LaneProgress(3, 0)
    expect(lane.position(3)).toBe(3)
    const first = lane.open(5)
    const second = lane.open(5)
    const third = lane.open(8)
    expect(lane.position(9)).toBe(4)
    third.done()
    second.done()
    expect(lane.position(9)).toBe(4)
    first.done()
    first.done()
    expect(lane.position(9)).toBe(9)
  })

  test('never goes before where the lane was taken', () => {
    expect(new LaneProgress(10, 0).position(7)).toBe(10)
  })

  test('of a frozen lane does not follow what is read', () => {
    const lane = new LaneProgress(0, 0)
    const work = lane.open(4)
    lane.freeze(6)
    expect(lane.position(20)).toBe(3)
    work.done()
    expect(lane.position(20)).toBe(6)
  })

  test('of many pages, done in any order', () => {
    const lane = new LaneProgress(0, 0)
    const work = Array.from({ length: 2_000 }, (_, index) => lane.open(index + 1))
    for (let index = 1_999; index > 0; index--) work[index]!.done()
    expect(lane.position(2_000)).toBe(0)
    work[0]!.done()
    expect(lane.position(2_000)).toBe(2_000)
  })
})
