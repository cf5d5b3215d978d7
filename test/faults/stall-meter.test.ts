import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startStallMeter } from './stall-meter.ts'

test('a timer that comes late is a stall, by as much as it was late and when it was', async () => {
  const meter = startStallMeter(() => [])
  await sleep(20)
  const from = Date.now()
  while (Date.now() - from < 600);
  const to = Date.now()
  await sleep(150)
  meter.stop()
  const own = meter.stalls.filter(({ who }) => who === 'the judge')
  const worst = own.toSorted((a, b) => b.ms - a.ms)[0]
  expect(worst?.ms).toBeGreaterThan(300)
  // It lies where the loop was, give or take one interval.
  expect(worst?.from).toBeLessThan(to)
  expect(worst?.to).toBeGreaterThan(from)
})

test('a process that is gone has waited for nothing', async () => {
  const meter = startStallMeter(() => [2 ** 22 + 1])
  await sleep(350)
  meter.stop()
  expect(meter.stalls.filter(({ who }) => who.startsWith('worker'))).toEqual([])
})
