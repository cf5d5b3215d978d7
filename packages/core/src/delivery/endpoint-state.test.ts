import { describe, expect, test } from 'vitest'
import type { EndpointConfig } from './endpoint-config.ts'
import { EndpointState } from './endpoint-state.ts'

const OLDEST = '01900000-0000-7000-8000-000000000000'

function row(seq: number) {
  return {
    endpoint: 1,
    id: `d${seq}`,
    seq,
    eventId: `e${seq}`,
    type: 'a.b',
    dataText: '{}',
    occurredAtMs: 0,
    envelope: 0 as const,
  }
}

function state(config: Partial<EndpointConfig> = {}, first = 1): EndpointState {
  const made = new EndpointState(1, first - 1, OLDEST)
  made.applyConfig(
    {
      no: 1,
      state: 'active',
      fifo: false,
      maxConcurrency: null,
      rateLimit: null,
      openRetries: [],
      health: { epoch: 0, failingSinceMs: null, backoffMs: null, backoffUntilMs: null },
      ...config,
    } as EndpointConfig,
    0,
  )
  return made
}

function work() {
  const seen = { done: false }
  const done = () => {
    seen.done = true
  }
  return { seen, mark: { done } }
}

describe('what is recorded', () => {
  test('a wake-up is done when everything through it is recorded, whatever order it ends in', () => {
    const endpoint = state()
    const { seen, mark } = work()
    endpoint.wake(3, OLDEST, mark, 0)
    const items = [1, 2, 3].map((seq) => endpoint.addFresh(row(seq)))
    endpoint.settle(items[2]!)
    endpoint.settle(items[0]!)
    expect(endpoint.recordedThrough).toBe(1)
    expect(seen.done).toBe(false)
    endpoint.settle(items[1]!)
    expect(endpoint.recordedThrough).toBe(3)
    expect(seen.done).toBe(true)
  })

  test('a range without deliveries for us ends too', () => {
    const endpoint = state()
    const { seen, mark } = work()
    endpoint.wake(9, OLDEST, mark, 0)
    endpoint.readThrough(9)
    expect(seen.done).toBe(true)
  })
})

describe('beginning anew at a backlogs row', () => {
  test('drops what waits before something that was asked for by hand, out of its turn, and is recorded', () => {
    const endpoint = state()
    const { seen, mark } = work()
    endpoint.wake(3, OLDEST, mark, 0)
    for (const seq of [1, 2, 3]) endpoint.addFresh(row(seq))
    const asked = endpoint.takeOut('d3')
    if (asked === null || asked === 'under way') throw new Error('it was not queued')
    endpoint.inFlight++
    endpoint.unreadQueued()
    expect(endpoint.underWay).toBe(true)
    endpoint.inFlight--
    endpoint.settle(asked)
    // Nothing of it is sent before it begins anew, so what waits must not keep it from that.
    endpoint.rewinding = true
    expect(endpoint.underWay).toBe(false)
    expect(endpoint.rewind(0, OLDEST).map(({ seq }) => seq)).toEqual([1, 2])
    expect([endpoint.queued, endpoint.cursor, endpoint.rewinding, endpoint.unread]).toEqual([0, 0, false, true])
    expect(seen.done).toBe(true)
    endpoint.addFresh(row(1))
    expect(endpoint.take(0, 0)?.seq).toBe(1)
  })
})

describe('what was to be sent again at once, and was given back', () => {
  /** The first of three is sent, to be sent again at once, and then not sent; what is queued is forgotten. */
  function givenBack(fifo: boolean) {
    const endpoint = state({ fifo })
    const { seen, mark } = work()
    endpoint.wake(3, OLDEST, mark, 0)
    for (const seq of [1, 2, 3]) endpoint.addFresh(row(seq))
    const first = endpoint.take(0, 0)!
    first.number = 2
    first.retryStep = 0
    endpoint.holdRetry(first)
    endpoint.inFlight--
    endpoint.putBack(first)
    endpoint.unreadQueued()
    return { endpoint, seen }
  }
  const retryOf = (seq: number) => ({ ...row(seq), number: 2, step: 0, due: '2026-11-28' })

  test('holds what is behind it in a fifo endpoint, until it was read again and is final', () => {
    const { endpoint } = givenBack(true)
    for (const seq of [2, 3]) endpoint.addFresh(row(seq))
    expect(endpoint.take(0, 0)).toBeNull()
    endpoint.addRetry(retryOf(1))
    const again = endpoint.take(0, 0)!
    expect(again.id).toBe('d1')
    endpoint.inFlight--
    endpoint.settleFifo(again, false)
    endpoint.settle(again)
    expect(endpoint.take(0, 0)?.id).toBe('d2')
  })

  test('is recorded when what was read from its row is', () => {
    const { endpoint, seen } = givenBack(false)
    for (const seq of [2, 3]) endpoint.settle(endpoint.addFresh(row(seq))!)
    expect([endpoint.recordedThrough, seen.done]).toEqual([0, false])
    endpoint.settle(endpoint.addRetry(retryOf(1))!)
    expect([endpoint.recordedThrough, seen.done]).toEqual([3, true])
  })
})

describe('forgetting what was read', () => {
  test('goes back to the first that was not begun, and keeps what is under way', () => {
    const endpoint = state()
    endpoint.wake(5, OLDEST, null, 0)
    for (const seq of [1, 2, 3, 4, 5]) endpoint.addFresh(row(seq))
    const first = endpoint.take(0, 0)!
    endpoint.take(0, 0)
    const generation = endpoint.readGeneration
    expect(endpoint.unreadQueued()).toHaveLength(3)
    expect(endpoint.readGeneration).not.toBe(generation)
    expect(endpoint.cursor).toBe(2)
    expect(endpoint.recordedThrough).toBe(0)
    endpoint.settle(first)
    expect(endpoint.recordedThrough).toBe(1)
  })

  test('an item that was put back before one under way is neither lost nor read twice', () => {
    const endpoint = state()
    endpoint.wake(3, OLDEST, null, 0)
    for (const seq of [1, 2, 3]) endpoint.addFresh(row(seq))
    const first = endpoint.take(0, 0)!
    endpoint.take(0, 0)
    endpoint.inFlight--
    endpoint.putBack(first)
    endpoint.unreadQueued()
    expect(endpoint.cursor).toBe(2)
    expect(endpoint.fresh.length).toBe(1)
    expect(endpoint.take(0, 0)).toBe(first)
  })
})

describe('who may be sent', () => {
  test('retries before fresh ones, and a retry that is in memory is not taken from the table again', () => {
    const endpoint = state()
    endpoint.wake(1, OLDEST, null, 0)
    endpoint.addFresh(row(1))
    const retry = { ...row(7), step: 2, number: 3, due: '2026-01-01 00:00:00+00' }
    expect(endpoint.addRetry(retry)).not.toBe(null)
    expect(endpoint.addRetry(retry)).toBe(null)
    expect(endpoint.take(0, 0)).toMatchObject({ id: 'd7', number: 3, step: 2 })
    expect(endpoint.take(0, 0)).toMatchObject({ id: 'd1', number: 1, step: 0 })
  })

  test('an inactive endpoint sends nothing', () => {
    const endpoint = state({ state: 'waiting' })
    endpoint.addFresh(row(1))
    expect(endpoint.take(0, 0)).toBe(null)
  })

  test('max_concurrency bounds what is under way', () => {
    const endpoint = state({ maxConcurrency: 2 })
    for (const seq of [1, 2, 3]) endpoint.addFresh(row(seq))
    expect([endpoint.take(0, 0), endpoint.take(0, 0), endpoint.take(0, 0)].map((item) => item?.seq)).toEqual([
      1,
      2,
      undefined,
    ])
  })

  test('fifo: one at a time, and nothing fresh while an earlier one waits for its retry', () => {
    const endpoint = state({ fifo: true })
    for (const seq of [1, 2]) endpoint.addFresh(row(seq))
    const first = endpoint.take(0, 0)!
    expect(endpoint.take(0, 0)).toBe(null)
    endpoint.inFlight--
    endpoint.settleFifo(first, true)
    endpoint.settle(first)
    expect(endpoint.take(0, 0)).toBe(null)
    endpoint.addRetry({ ...row(1), step: 1, number: 2, due: 'x' })
    const again = endpoint.take(0, 0)!
    expect(again.number).toBe(2)
    endpoint.inFlight--
    endpoint.settleFifo(again, false)
    expect(endpoint.take(0, 0)?.seq).toBe(2)
  })

  test('a fifo endpoint that was taken over waits for the retries that are open', () => {
    const endpoint = state({ fifo: true, openRetries: ['d0'] })
    endpoint.addFresh(row(1))
    expect(endpoint.take(0, 0)).toBe(null)
  })

  test('rate_limit: begins empty, fills evenly, and a pause saves up no burst', () => {
    const endpoint = state({ rateLimit: { limit: 60, perMs: 60_000 } })
    for (let seq = 1; seq < 10; seq++) endpoint.addFresh(row(seq))
    expect(endpoint.take(0, 0)).toBe(null)
    expect(endpoint.waitMs(0, 0)).toBe(1_000)
    expect(endpoint.take(0, 1_000)?.seq).toBe(1)
    expect(endpoint.take(0, 1_000)).toBe(null)
    expect(endpoint.take(0, 3_600_000)?.seq).toBe(2)
    expect(endpoint.take(0, 3_600_000)).toBe(null)
  })

  test('Retry-After holds the whole endpoint', () => {
    const endpoint = state()
    endpoint.addFresh(row(1))
    endpoint.pace.notBeforeMs = 5_000
    expect(endpoint.take(4_999, 0)).toBe(null)
    expect(endpoint.waitMs(0, 0)).toBe(5_000)
    expect(endpoint.take(5_000, 0)?.seq).toBe(1)
  })
})

test('enabling brings a clean record, another change does not', () => {
  const endpoint = state()
  for (let n = 0; n < 6; n++) endpoint.pace.breaker.failed(`d${n}`, 0)
  const config = endpoint.config!
  endpoint.applyConfig({ ...config, url: 'https://elsewhere.example' }, 0)
  expect(endpoint.pace.breaker.open).toBe(true)
  endpoint.applyConfig({ ...config, health: { ...config.health, epoch: 1 } }, 0)
  expect(endpoint.pace.breaker.open).toBe(false)
})

describe('what somebody asked for', () => {
  const retry = (seq: number) => ({ ...row(seq), step: 1, number: 2, due: '2025-01-01' })
  const asked = (retryAtMs: number | null = null) => ({ attempts: 0, retryAtMs, work: work().mark })

  test('is taken out of its queue, unless it is under way', () => {
    const endpoint = state()
    endpoint.wake(3, OLDEST, null, 0)
    for (const seq of [1, 2, 3]) endpoint.addFresh(row(seq))
    endpoint.addRetry(retry(9))
    expect(endpoint.takeOut('d8')).toBeNull()
    expect(endpoint.take(0, 0)?.id).toBe('d9')
    expect(endpoint.takeOut('d9')).toBe('under way')
    expect(endpoint.take(0, 0)?.id).toBe('d1')
    expect(endpoint.takeOut('d1')).toBe('under way')
    const taken = endpoint.takeOut('d2')
    expect(taken).toMatchObject({ id: 'd2', step: 0 })
    expect(endpoint.takeOut('d2')).toBe('under way')
    expect(endpoint.take(0, 0)?.id).toBe('d3')
    expect(endpoint.recordedThrough).toBe(0)
  })

  test('for the first time: its first step, and what is read of it meanwhile is not sent again', () => {
    const endpoint = state()
    endpoint.wake(3, OLDEST, null, 0)
    endpoint.addFresh(row(1))
    const before = endpoint.readGeneration
    const item = endpoint.beginManual(row(3), 0, asked())
    expect(item).toMatchObject({ number: 1, step: 0 })
    expect(endpoint.checkThrough).toBe(3)
    expect(endpoint.readGeneration).toBeGreaterThan(before)
    expect(endpoint.idle).toBe(false)
    endpoint.addFresh(row(2))
    expect(endpoint.addFresh(row(3))).toBeNull()
    expect([endpoint.queued, endpoint.unread]).toEqual([2, false])
    for (const id of ['d1', 'd2']) {
      const taken = endpoint.take(0, 0)
      expect(taken?.id).toBe(id)
      endpoint.settle(taken!)
    }
    expect(endpoint.recordedThrough).toBe(2)
    const during = endpoint.readGeneration
    endpoint.settle(item)
    endpoint.endManual(item)
    expect(endpoint.recordedThrough).toBe(3)
    expect(endpoint.readGeneration).toBeGreaterThan(during)
    expect(endpoint.takeOut('d3')).toBeNull()
  })

  test('beside the schedule: no step, and the retry that waits is not sent meanwhile', () => {
    const endpoint = state()
    const item = endpoint.beginManual(row(9), 1, asked(60_000))
    expect(item).toMatchObject({ number: 2, step: null, retryStep: null })
    expect(endpoint.addRetry(retry(9))).toBeNull()
    expect(endpoint.queued).toBe(0)
    endpoint.settle(item)
    endpoint.endManual(item)
    expect(endpoint.addRetry(retry(9))).toMatchObject({ id: 'd9', step: 1 })
  })
})
