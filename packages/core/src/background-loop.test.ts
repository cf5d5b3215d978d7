import { expect, test } from 'vitest'
import { startLoop } from './background-loop.ts'
import { silentLogger } from './logger.ts'

const never = 60_000

test('wake() ends a pause; stop() waits for the step under way and lets none follow', async () => {
  let steps = 0
  let finish: () => void = () => {}
  const loop = startLoop({
    name: 'test',
    logger: silentLogger,
    step: async () => {
      steps++
      if (steps === 2) await new Promise<void>((resolve) => (finish = resolve))
      return never
    },
  })
  await turn()
  expect(steps).toBe(1)
  loop.wake()
  await turn()
  expect(steps).toBe(2)
  let stopped = false
  const stopping = loop.stop().then(() => (stopped = true))
  await turn()
  expect(stopped).toBe(false)
  finish()
  await stopping
  expect(steps).toBe(2)
})

test('wake() during a step means once more', async () => {
  let steps = 0
  const loop = startLoop({
    name: 'test',
    logger: silentLogger,
    step: async () => {
      steps++
      await Promise.resolve()
      if (steps === 1) loop.wake()
      return never
    },
  })
  await turn()
  expect(steps).toBe(2)
  await loop.stop()
})

test('a step that fails is repeated, logged without a stack, and never becomes an unhandled rejection', async () => {
  const lines: unknown[] = []
  let steps = 0
  const loop = startLoop({
    name: 'test',
    logger: { ...silentLogger, warn: (message, fields) => lines.push([message, fields]) },
    maxErrorPauseMs: 1,
    step: async () => {
      if (++steps < 4) throw Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
      return never
    },
  })
  while (steps < 4) await turn()
  expect(lines).toHaveLength(3)
  expect(lines[0]).toEqual(['posthaste: test failed, next try in 1 ms', { error: 'away', code: 'ECONNREFUSED' }])
  await loop.stop()
})

test('waking a loop whose steps fail does not turn it into a busy loop', async () => {
  let steps = 0
  const loop = startLoop({
    name: 'test',
    logger: silentLogger,
    maxErrorPauseMs: never,
    step: async () => {
      steps++
      throw new Error('away')
    },
  })
  await turn()
  for (let n = 0; n < 100; n++) loop.wake()
  await turn()
  expect(steps).toBe(1)
  await loop.stop()
})

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5))
}
