import { expect, test } from 'vitest'
import { Breaker, FAILURES_TO_OPEN, FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS } from './breaker.ts'

function openBreaker(now = 0): Breaker {
  const breaker = new Breaker()
  for (let n = 0; n < FAILURES_TO_OPEN; n++) breaker.failed(n === 0 ? 'a' : 'b', now)
  return breaker
}

test('five failures in a row of two deliveries open it, four do not', () => {
  const breaker = new Breaker()
  for (let n = 0; n < FAILURES_TO_OPEN - 1; n++) expect(breaker.failed(n % 2 === 0 ? 'a' : 'b', 0)).toBe(false)
  expect(breaker.open).toBe(false)
  expect(breaker.failed('a', 0)).toBe(true)
  expect(breaker.state).toEqual({ backoffMs: FIRST_BACKOFF_MS, untilMs: FIRST_BACKOFF_MS })
})

test('failures of one delivery alone never open it', () => {
  const breaker = new Breaker()
  for (let n = 0; n < 20; n++) breaker.failed('a', 0)
  expect(breaker.open).toBe(false)
})

test('an answer that is no sign of being down ends the row', () => {
  const breaker = new Breaker()
  for (let n = 0; n < FAILURES_TO_OPEN - 1; n++) breaker.failed(n % 2 === 0 ? 'a' : 'b', 0)
  breaker.answered()
  breaker.failed('c', 0)
  expect(breaker.open).toBe(false)
})

test('one probe at a time, when its moment has come', () => {
  const breaker = openBreaker(1_000)
  expect(breaker.allows(1_000 + FIRST_BACKOFF_MS - 1, 0)).toBe(false)
  expect(breaker.allows(1_000 + FIRST_BACKOFF_MS, 0)).toBe(true)
  expect(breaker.allows(1_000 + FIRST_BACKOFF_MS, 1)).toBe(false)
})

test('each failed probe doubles the wait, up to five minutes; late failures of others do not', () => {
  const breaker = openBreaker(0)
  expect(breaker.failed('late', 5)).toBe(false)
  expect(breaker.state.backoffMs).toBe(FIRST_BACKOFF_MS)
  let now = 0
  const waits: number[] = []
  for (let n = 0; n < 8; n++) {
    now = breaker.state.untilMs
    breaker.failed('probe', now)
    waits.push(breaker.state.backoffMs as number)
  }
  expect(waits.slice(0, 4)).toEqual([20_000, 40_000, 80_000, 160_000])
  expect(waits.at(-1)).toBe(LONGEST_BACKOFF_MS)
})

test('one success closes it and forgets the row', () => {
  const breaker = openBreaker()
  expect(breaker.succeeded()).toBe(true)
  expect(breaker.open).toBe(false)
  expect(breaker.succeeded()).toBe(false)
  breaker.failed('a', 0)
  breaker.failed('b', 0)
  expect(breaker.open).toBe(false)
})

test('a clock that goes back holds the next probe up by one back-off, not by the step', () => {
  const breaker = new Breaker({ backoffMs: 10_000, untilMs: 1_000_000 })
  expect(breaker.waitMs(995_000)).toBe(5_000)
  expect(breaker.waitMs(100_000)).toBe(10_000)
  expect(breaker.allows(109_999, 0)).toBe(false)
  expect(breaker.allows(110_000, 0)).toBe(true)
})
