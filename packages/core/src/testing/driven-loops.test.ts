import { expect, test } from 'vitest'
import { silentLogger } from '../logger.ts'
import { DrivenLoops } from './driven-loops.ts'

const atRest = async () => false
const loop = (loops: DrivenLoops, name: string, step: () => number) =>
  loops.start({ name, logger: silentLogger, step: async () => step() })

test('nothing runs until it is driven; then each once, and again while there is anything to do', async () => {
  const loops = new DrivenLoops()
  const ran: string[] = []
  let left = 3
  loop(loops, 'one', () => {
    ran.push('one')
    return --left > 0 ? 0 : 1_000
  })
  const other = loop(loops, 'other', () => {
    ran.push('other')
    return 1_000
  })
  expect(ran).toEqual([])
  await loops.settle(atRest)
  expect(ran).toEqual(['one', 'other', 'one', 'other', 'one', 'other'])
  await other.stop()
  ran.length = 0
  await loops.settle(atRest)
  expect(ran).toEqual(['one'])
})

test('a wake-up, and what was under way, make another round', async () => {
  const loops = new DrivenLoops()
  let rounds = 0
  const woken = loop(loops, 'woken', () => {
    rounds++
    return 1_000
  })
  let wakes = 2
  loop(loops, 'waking', () => {
    if (wakes-- > 0) woken.wake()
    return 1_000
  })
  await loops.settle(atRest)
  expect(rounds).toBe(3)
  let busy = 4
  await loops.settle(async () => busy-- > 0)
  expect(rounds).toBe(3 + 5)
})

test('its time stands still within a round, and is later than every pause in the next', async () => {
  const loops = new DrivenLoops()
  const times: number[] = []
  for (const name of ['a', 'b']) {
    loop(loops, name, () => {
      times.push(loops.monotonic())
      return times.length < 4 ? 0 : 1_000
    })
  }
  await loops.settle(atRest)
  expect(times.slice(0, 4)).toEqual([60_000, 60_000, 120_000, 120_000])
})

test('a step that fails is told; one that never ends is an error', async () => {
  const loops = new DrivenLoops()
  const failing = loop(loops, 'failing', () => {
    throw new Error('no database')
  })
  await expect(loops.settle(atRest)).rejects.toThrow('no database')
  await failing.stop()
  loop(loops, 'endless', () => 0)
  await expect(loops.settle(atRest)).rejects.toThrow('did not come to rest')
})
