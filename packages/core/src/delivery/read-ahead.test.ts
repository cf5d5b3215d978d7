/** Configurations that change while they are read. */
import { expect, test } from 'vitest'
import type { Loops } from '../background-loop.ts'
import { systemClock } from '../clock.ts'
import { silentLogger } from '../logger.ts'
import { createSigner } from '../signing/sign.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import { ReadAhead } from './read-ahead.ts'
import { ServedLanes } from './served-lanes.ts'

const ENDPOINT = 7

function configOf(version: number): EndpointConfig {
  return {
    no: ENDPOINT,
    id: '01a2140d-0000-7000-8000-000000000007',
    account: 'default',
    url: 'https://receiver.example/',
    state: 'active',
    current: createSigner('a secret of an endpoint'),
    previous: null,
    usePrevious: false,
    headers: [],
    fifo: false,
    maxConcurrency: null,
    rateLimit: null,
    version,
    health: { epoch: 0, failingSinceMs: null, backoffMs: null, backoffUntilMs: null },
    openRetries: [],
  }
}

/** `load` answers what the test says, when it says so. */
function start() {
  const served = new ServedLanes(systemClock)
  let fill: () => Promise<number> = async () => 0
  let answer: (version: number) => void = () => {}
  let loads = 0
  const readAhead = new ReadAhead({
    served,
    reader: {
      read: async () => ({ rows: [], cut: false }),
      readRetries: async () => ({ rows: [], cut: false }),
    } as never,
    configs: {
      load: () => {
        loads++
        return new Promise((resolve) => {
          answer = (version) => resolve(new Map([[ENDPOINT, configOf(version)]]))
        })
      },
    },
    clock: systemClock,
    loops: {
      start: ({ step }: { step(): Promise<number> }) => {
        fill = step
        return { wake() {}, async stop() {} }
      },
    } as unknown as Loops,
    logger: silentLogger,
    onReady() {},
    onUnreadable() {},
    onConfig() {},
  })
  readAhead.start()
  const state = served.open(ENDPOINT, 1, '00000000-0000-0000-0000-000000000000')
  readAhead.feed(state)
  return {
    served,
    readAhead,
    state,
    fill: () => fill(),
    answer: (version: number) => answer(version),
    loads: () => loads,
  }
}

test('a configuration that was read is applied', async () => {
  const { state, fill, answer } = start()
  const filled = fill()
  answer(1)
  await filled
  expect(state.config?.version).toBe(1)
})

test('one that changed while it was read is read again', async () => {
  const { served, state, fill, answer, loads } = start()
  const filled = fill()
  served.configChanged(ENDPOINT)
  answer(1)
  await filled
  expect(state.config).toBeNull()
  const again = fill()
  answer(2)
  await again
  expect(state.config?.version).toBe(2)
  expect(loads()).toBe(2)
})

test('one that was read anew meanwhile is not replaced by what was read before', async () => {
  const { served, readAhead, state, fill, answer } = start()
  const filled = fill()
  served.configChanged(ENDPOINT)
  readAhead.configure(state, configOf(2), 0)
  answer(1)
  await filled
  expect(state.config?.version).toBe(2)
})

test('what is forgotten while it changes is not kept', () => {
  const { served, readAhead, state } = start()
  readAhead.configure(state, configOf(1), 0)
  served.configChanged(ENDPOINT)
  served.forget(state)
  // The reading of the change is over, and found nobody to apply it to.
  served.dropConfig(ENDPOINT)
  expect(served.open(ENDPOINT, 1, '00000000-0000-0000-0000-000000000000').config).toBeNull()
})
