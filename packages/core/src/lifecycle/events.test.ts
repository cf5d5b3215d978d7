import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { silentLogger } from '../logger.ts'
import { Lifecycle } from './events.ts'

test('a listener that throws or rejects is logged, and the others still hear', async () => {
  const errors: string[] = []
  const lifecycle = new Lifecycle({ ...silentLogger, error: (message) => void errors.push(message) })
  const heard: unknown[] = []
  lifecycle.on('lanes.changed', () => {
    throw new Error('no')
  })
  lifecycle.on('lanes.changed', (async () => {
    throw new Error('later no')
  }) as () => void)
  // Of another realm, as what Node's own modules answer is under jest.
  lifecycle.on('lanes.changed', () => runInNewContext('Promise.reject(new Error("elsewhere no"))'))
  lifecycle.on('lanes.changed', (event) => heard.push(event))
  lifecycle.raise('lanes.changed', { lanes: [1] })
  await new Promise((resolve) => setImmediate(resolve))
  expect(heard).toEqual([{ lanes: [1] }])
  expect(errors).toHaveLength(3)
})

test('off() and once()', () => {
  const lifecycle = new Lifecycle(silentLogger)
  let calls = 0
  const listener = () => {
    calls++
  }
  lifecycle.on('lanes.changed', listener)
  lifecycle.once('lanes.changed', () => {
    calls += 10
  })
  lifecycle.raise('lanes.changed', { lanes: [] })
  lifecycle.raise('lanes.changed', { lanes: [] })
  expect(calls).toBe(12)
  lifecycle.off('lanes.changed', listener)
  expect(lifecycle.heard('lanes.changed')).toBe(false)
  lifecycle.raise('lanes.changed', { lanes: [] })
  expect(calls).toBe(12)
})
