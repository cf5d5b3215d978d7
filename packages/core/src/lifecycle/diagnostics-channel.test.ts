import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { expect, test } from 'vitest'
import { silentLogger } from '../logger.ts'
import { diagnosticsChannel } from './diagnostics-channel.ts'
import { Lifecycle } from './events.ts'

test('a lifecycle event is on its channel too, and heard where only the channel has subscribers', () => {
  const lifecycle = new Lifecycle(silentLogger)
  const heard: unknown[] = []
  const subscriber = (message: unknown, name: string | symbol) => heard.push([name, message])
  expect(lifecycle.heard('lanes.changed')).toBe(false)
  subscribe('posthaste:lanes.changed', subscriber)
  expect([lifecycle.heard('lanes.changed'), lifecycle.heard('delivery.failed')]).toEqual([true, false])
  lifecycle.raise('lanes.changed', { lanes: [3] })
  unsubscribe('posthaste:lanes.changed', subscriber)
  lifecycle.raise('lanes.changed', { lanes: [4] })
  expect(heard).toEqual([['posthaste:lanes.changed', { lanes: [3] }]])
  expect(lifecycle.heard('lanes.changed')).toBe(false)
})

test('a subscriber that throws is logged: no uncaught exception, and the others hear', async () => {
  const errors: unknown[] = []
  const uncaught: unknown[] = []
  const heard: unknown[] = []
  const channel = diagnosticsChannel('test')
  const thrower = () => {
    throw new Error('a defect of the agent')
  }
  const listener = (message: unknown) => void heard.push(message)
  const onUncaught = (error: unknown) => uncaught.push(error)
  process.prependListener('uncaughtException', onUncaught)
  subscribe('posthaste:test', thrower)
  subscribe('posthaste:test', listener)
  channel.publish({ n: 1 }, { ...silentLogger, error: (message, fields) => errors.push([message, fields]) })
  await new Promise((resolve) => setImmediate(resolve))
  unsubscribe('posthaste:test', thrower)
  unsubscribe('posthaste:test', listener)
  process.off('uncaughtException', onUncaught)
  expect(heard).toEqual([{ n: 1 }])
  expect(errors).toEqual([['posthaste: a subscriber of posthaste:test failed', { error: 'a defect of the agent' }]])
  expect(uncaught).toEqual([])
})

test('nothing happens where nobody subscribes', () => {
  const channel = diagnosticsChannel('silent')
  expect(channel.heard).toBe(false)
  expect(() => channel.publish({}, silentLogger)).not.toThrow()
})
