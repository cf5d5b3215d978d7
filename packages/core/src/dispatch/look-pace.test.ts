import { expect, test } from 'vitest'
import { LookPace } from './look-pace.ts'

test('nothing found: the idle pause', () => {
  expect(new LookPace().pauseMs(1_000, 75)).toBe(75)
})

test('finds that follow one another are looked for densely, a single one is not', () => {
  const pace = new LookPace()
  pace.found(1_000)
  expect(pace.pauseMs(1_000, 75)).toBe(75)
  pace.found(1_075)
  expect(pace.pauseMs(1_075, 75)).toBe(15)
  pace.found(1_092)
  expect(pace.pauseMs(1_092, 75)).toBe(15)
})

test('looks thin out when nothing more is found', () => {
  const pace = new LookPace()
  pace.found(1_000)
  pace.found(1_050)
  const pauses: number[] = []
  for (let now = 1_065; pauses.at(-1) !== 75; now += pauses.at(-1)!) pauses.push(pace.pauseMs(now, 75))
  expect(pauses.length).toBeLessThan(8)
  expect(pauses).toEqual(pauses.toSorted((a, b) => a - b))
  // A find after that is a single one again.
  pace.found(2_000)
  expect(pace.pauseMs(2_000, 75)).toBe(75)
})

test('an idle pause below the dense one is kept', () => {
  const pace = new LookPace()
  pace.found(1_000)
  pace.found(1_010)
  expect(pace.pauseMs(1_010, 5)).toBe(5)
})
