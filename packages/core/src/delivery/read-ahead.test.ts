/** What changes, or fails, while it is read. */
import { describe, expect, test } from 'vitest'
import type { Loops } from '../background-loop.ts'
import { systemClock } from '../clock.ts'
import { silentLogger } from '../logger.ts'
import { createSigner } from '../signing/sign.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import { ReadAhead, type ReadAheadOptions } from './read-ahead.ts'
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
    secretNumber: 1,
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

type Reader = ReadAheadOptions['reader']
const NOTHING = { rows: [], cut: false }

/** `load` answers what the test says, when it says so. */
function start(reader: Partial<Reader> = {}, enough = false) {
  const served = new ServedLanes(systemClock)
  let fill: () => Promise<number> = async () => 0
  let answer: (version: number) => void = () => {}
  let loads = 0
  const readAhead = new ReadAhead({
    served,
    reader: { read: async () => NOTHING, readRetries: async () => NOTHING, ...reader } as Reader,
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
    hasEnough: () => enough,
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

test('endpoints that may not send do not keep the others from being read', async () => {
  const asked: number[] = []
  const {
    served,
    readAhead,
    state: first,
    fill,
  } = start({
    read: async (requests) => {
      asked.push(...requests.map(({ endpoint }) => endpoint))
      return {
        cut: false,
        rows: requests.flatMap(({ endpoint, after, limit }) =>
          Array.from({ length: limit }, (_, n) => ({
            id: `01a2140d-0000-8000-8000-${String(endpoint * 1_000_000 + after + n + 1).padStart(12, '0')}`,
            seq: after + n + 1,
            endpoint,
            eventId: '01a2140d-0000-7000-8000-000000000001',
            type: 'link.clicked',
            dataText: '{}',
            occurredAtMs: 0,
            envelope: 0 as const,
          })),
        ),
      }
    },
  })
  readAhead.configure(first, configOf(1), 0)
  const wake = (endpoint: number) => {
    const state = served.open(endpoint, 1, '01a2140d-0000-7000-8000-000000000001')
    readAhead.configure(state, { ...configOf(1), no: endpoint }, 0)
    state.wake(100_000, '01a2140d-0000-7000-8000-000000000001', null, 0)
    readAhead.feed(state)
    return state
  }
  for (let endpoint = 1_000; endpoint < 1_600; endpoint++) wake(endpoint)
  // None of them sends anything: as if they were limited.
  for (let n = 0; n < 20; n++) await fill()
  const other = wake(ENDPOINT)
  await fill()
  expect(asked).toContain(ENDPOINT)
  expect(other.fresh.length).toBeGreaterThan(0)
})

test('while one part of a reading has failed and another goes on, nothing is read a second time', async () => {
  const row = {
    id: '01a2140d-0000-8000-8000-000000000001',
    seq: 1,
    endpoint: ENDPOINT,
    eventId: '01a2140d-0000-7000-8000-000000000001',
    type: 'link.clicked',
    dataText: '{}',
    occurredAtMs: 0,
    envelope: 0 as const,
  }
  let arrive: () => void = () => {}
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve
  })
  let reads = 0
  const { readAhead, state, fill } = start({
    read: async ([request]) => {
      reads++
      await arrived
      return { rows: request!.after < row.seq ? [row] : [], cut: false }
    },
    readRetries: async () => {
      throw new Error('connection lost')
    },
  })
  readAhead.configure(state, configOf(1), 0)
  state.wake(1, row.eventId, null, 0)
  readAhead.hasRetries(state)
  const failed = fill().catch((error: Error) => error.message)
  // What a loop does after a failure.
  const tries = failed.then(() => fill().catch(() => {}))
  await new Promise((resolve) => setImmediate(resolve))
  arrive()
  expect(await failed).toBe('connection lost')
  await tries
  expect([reads, state.fresh.length]).toEqual([1, 1])
})

describe('while what is queued is at its bound', () => {
  const rowOf = (endpoint: number, n: number) => ({
    endpoint,
    id: `01900000-0000-8000-8000-${String(endpoint * 10_000 + n).padStart(12, '0')}`,
    seq: n,
    eventId: '01900000-0000-7000-8000-000000000001',
    type: 'test.happened',
    dataText: '{}',
    occurredAtMs: 0,
    envelope: 0 as const,
  })

  /** Two thousand rows of one endpoint are queued; then another one has something to read. */
  async function readTwo(enough: boolean): Promise<number[]> {
    const asked: number[] = []
    const read: Reader['read'] = async (requests) => {
      asked.push(...requests.map(({ endpoint }) => endpoint))
      const first = requests.some(({ endpoint }) => endpoint === ENDPOINT)
      return { rows: first ? Array.from({ length: 2_000 }, (_, n) => rowOf(ENDPOINT, n + 1)) : [], cut: false }
    }
    const { served, readAhead, state, fill, answer } = start({ read }, enough)
    state.wake(2_000, '00000000-0000-0000-0000-000000000000', null, 0)
    const reading = fill()
    answer(1)
    await reading
    const other = served.open(ENDPOINT + 1, 1, '00000000-0000-0000-0000-000000000000')
    other.wake(1, '00000000-0000-0000-0000-000000000000', null, 0)
    other.config = state.config
    readAhead.feed(other)
    await fill()
    return asked
  }

  test('nothing more is read where there is enough to send', async () => {
    expect(await readTwo(true)).toEqual([ENDPOINT])
  })

  test('where there is not, whoever has nothing queued is read all the same', async () => {
    expect(await readTwo(false)).toEqual([ENDPOINT, ENDPOINT + 1])
  })
})
