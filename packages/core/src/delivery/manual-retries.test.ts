import { expect, test } from 'vitest'
import type { Loops } from '../background-loop.ts'
import { systemClock } from '../clock.ts'
import { silentLogger } from '../logger.ts'
import type { AskedRow } from './delivery-reader.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import type { DeliveryItem } from './endpoint-state.ts'
import { ManualRetries, type ManualRetriesOptions } from './manual-retries.ts'
import { ServedLanes } from './served-lanes.ts'

const ENDPOINT = 5
const DELIVERY = 'd1'
const row = { endpoint: ENDPOINT, id: DELIVERY, seq: 1, eventId: 'e1', type: 'a.b', dataText: '{}', occurredAtMs: 0 }
const asked: AskedRow = { ...row, envelope: 0, attempts: 0, unfinished: false, retryInMs: null }

function start() {
  const served = new ServedLanes(systemClock)
  served.addLane(ENDPOINT, 1, 1)
  const state = served.open(ENDPOINT, 1, '00000000-0000-0000-0000-000000000000')
  const health = { epoch: 0, failingSinceMs: null, backoffMs: null, backoffUntilMs: null }
  state.applyConfig(
    { no: ENDPOINT, state: 'active', fifo: false, openRetries: [], rateLimit: null, health } as never as EndpointConfig,
    0,
  )
  const sent: DeliveryItem[] = []
  let reread = 0
  let step: () => Promise<number> = async () => 0
  const manual = new ManualRetries({
    served,
    reader: { readAsked: async () => [asked] } as unknown as ManualRetriesOptions['reader'],
    configs: { load: async () => new Map() },
    readAhead: {
      rereadRetries: () => void reread++,
      feed() {},
      left() {},
    } as unknown as ManualRetriesOptions['readAhead'],
    clock: systemClock,
    loops: {
      start: (loop: { step(): Promise<number> }) => {
        step = loop.step
        return { wake() {}, async stop() {} }
      },
    } as unknown as Loops,
    logger: silentLogger,
    mayStart: () => true,
    send: (item) => void sent.push(item),
  })
  manual.start()
  const payload = JSON.stringify({ delivery: DELIVERY, attempts: 0 })
  manual.ask({ id: 'c', kind: 'retry', endpoint: ENDPOINT, payload }, { done() {} })
  return { manual, state, sent, step: () => step(), reread: () => reread }
}

test('what was to be sent again at once, and was not sent, is read from its row', async () => {
  const { manual, state, sent, step, reread } = start()
  await step()
  const item = sent[0]!
  // As after a kept-alive connection that was gone: its row in `retries` is passed over from now on.
  item.number = 2
  item.retryStep = 0
  state.holdRetry(item)
  const retry = { ...row, envelope: 0 as const, number: 2, step: 0, due: '2026-11-28' }
  expect(state.addRetry(retry)).toBeNull()
  manual.notSent(item)
  expect(reread()).toBe(1)
  expect(state.addRetry(retry)).not.toBeNull()
})

test('what was not sent at all has no row to be read from, and is asked for as before', async () => {
  const { manual, sent, step, reread } = start()
  await step()
  manual.notSent(sent[0]!)
  expect(reread()).toBe(0)
  await step()
  expect(sent).toHaveLength(2)
})
