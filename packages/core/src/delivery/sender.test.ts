/** The sender with a clock and a network of the test's own: who waits for whom when endpoints hang. */
import { describe, expect, test } from 'vitest'
import type { Loops } from '../background-loop.ts'
import type { OutboundRequest, OutboundResult } from '../http-client/transport.ts'
import { silentLogger } from '../logger.ts'
import { createSigner } from '../signing/sign.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import { EndpointState } from './endpoint-state.ts'
import { Sender } from './sender.ts'

const DEADLINE_MS = 15_000
const STEP_MS = 5

/** A worker's sending in simulated time: `takesMs` says what each endpoint's answer takes at a moment; never, without it. */
class World {
  nowMs = 0
  /** The wall clock was set forward by this much, or the machine slept for so long. */
  steppedMs = 0
  readonly latencies: { endpoint: number; ms: number; at: number }[] = []
  #arrived = new Map<number, number>()
  #events: { at: number; run(): void }[] = []
  #tick: () => Promise<number> = async () => 50
  #nextSeq = 1
  readonly #states = new Map<number, EndpointState>()
  readonly sender: Sender

  constructor(takesMs: (endpoint: number, nowMs: number) => number | null, concurrency = 200) {
    const clock = { now: () => this.nowMs + this.steppedMs, monotonic: () => this.nowMs }
    const loops = {
      start: ({ step }: { step(): Promise<number> }) => {
        this.#tick = step
        return { wake() {}, async stop() {} }
      },
    } as unknown as Loops
    const send = (request: OutboundRequest): Promise<OutboundResult> =>
      new Promise((resolve) => {
        const took = takesMs(Number(request.url.split('/').at(-1)), this.nowMs)
        const total = took ?? DEADLINE_MS
        const timings = { dns: null, connect: null, tls: null, firstByte: null, total }
        this.#after(total, () =>
          resolve(
            took === null
              ? { kind: 'error', code: 'TIMEOUT', message: 'late', staleConnection: false, timings }
              : ({ kind: 'response', statusCode: 200, headers: {}, retryAfter: null, excerpt: null, timings } as never),
          ),
        )
      })
    this.sender = new Sender({
      attempt: {
        transport: { send, close: async () => {} } as never,
        clock,
        userAgent: 'test',
        deadlineMs: DEADLINE_MS,
        keepResponses: 'none',
        ed25519Keys: [],
        mayStart: () => true,
      },
      clock,
      loops,
      logger: silentLogger,
      concurrency,
      mayStart: () => true,
      blocked: () => false,
      onTaken: () => {},
      onSlow: () => {},
      onAttempt: (item, { result }) => {
        const state = item.endpoint
        state.inFlight--
        if (result.kind === 'response') {
          state.grow(50)
          this.latencies.push({ endpoint: state.no, ms: this.nowMs - this.#arrived.get(item.seq)!, at: this.nowMs })
        } else state.pace.shrink()
        this.sender.ready(state)
        this.sender.pump()
      },
    })
    this.sender.start()
  }

  #after(ms: number, run: () => void): void {
    this.#events.push({ at: this.nowMs + ms, run })
  }

  /** An event for an endpoint, now. */
  deliver(endpoint: number, backedOffUntilMs: number | null = null): void {
    let state = this.#states.get(endpoint)
    if (state === undefined) {
      state = new EndpointState(endpoint, 0, '00000000-0000-0000-0000-000000000000')
      state.applyConfig(configOf(endpoint, backedOffUntilMs), this.nowMs)
      this.#states.set(endpoint, state)
    }
    const seq = this.#nextSeq++
    this.#arrived.set(seq, this.nowMs)
    state.target = seq
    state.addFresh({
      endpoint,
      id: `00000000-0000-4000-8000-${String(seq).padStart(12, '0')}`,
      seq,
      eventId: `00000000-0000-7000-8000-${String(seq).padStart(12, '0')}`,
      type: 'a.b',
      dataText: '{}',
      occurredAtMs: 0,
      envelope: 0,
    })
    this.sender.ready(state)
  }

  async run(untilMs: number, each: (nowMs: number) => void = () => {}): Promise<void> {
    while (this.nowMs < untilMs) {
      this.nowMs += STEP_MS
      each(this.nowMs)
      const due = this.#events.filter(({ at }) => at <= this.nowMs)
      this.#events = this.#events.filter(({ at }) => at > this.nowMs)
      for (const { run } of due) run()
      if (this.nowMs % 50 === 0) await this.#tick()
      // Whatever follows from the answers has happened before time goes on.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

function configOf(no: number, backoffUntilMs: number | null): EndpointConfig {
  return {
    no,
    id: '00000000-0000-7000-8000-000000000001',
    account: 'default',
    url: `http://receiver.test/${no}`,
    state: 'active',
    current: createSigner('secret'),
    secretNumber: 1,
    previous: null,
    usePrevious: false,
    headers: [],
    fifo: false,
    maxConcurrency: null,
    rateLimit: null,
    version: 1,
    health: { epoch: 0, failingSinceMs: null, backoffMs: backoffUntilMs, backoffUntilMs },
    openRetries: [],
  }
}

const HANGING = (endpoint: number) => endpoint % 2 === 0

describe('50 of 100 endpoints begin to hang at once', () => {
  test('at 50 events/s, with four events each waiting: the others have theirs within a second', async () => {
    const world = new World((endpoint, nowMs) => (HANGING(endpoint) && nowMs >= 2_000 ? null : 30))
    let emitted = 0
    const steadily = (nowMs: number) => {
      while (emitted < (nowMs / 1_000) * 50) world.deliver(1 + (emitted++ % 100))
    }
    await world.run(2_000, steadily)
    // A burst in the moment in which they stop to answer.
    for (let n = 0; n < 4; n++) for (let endpoint = 1; endpoint <= 100; endpoint++) world.deliver(endpoint)
    await world.run(20_000, steadily)
    const healthy = world.latencies.filter(({ endpoint }) => !HANGING(endpoint))
    expect(healthy.length).toBeGreaterThan(25 * 19)
    expect(Math.max(...healthy.map(({ ms }) => ms))).toBeLessThan(1_000)
  })

  test('while all of them are busy: the others go on at a rate of their own', async () => {
    const world = new World((endpoint, nowMs) => (HANGING(endpoint) && nowMs >= 1_000 ? null : 20))
    for (let endpoint = 1; endpoint <= 100; endpoint++) for (let n = 0; n < 300; n++) world.deliver(endpoint)
    await world.run(1_000)
    const before = world.latencies.length
    await world.run(8_000)
    const after = world.latencies.filter(({ at, endpoint }) => at > 1_100 && !HANGING(endpoint)).length
    expect(before).toBeGreaterThan(5_000)
    expect(after).toBe(
      50 * 300 - world.latencies.filter(({ at, endpoint }) => at <= 1_100 && !HANGING(endpoint)).length,
    )
  })
})

test('an endpoint that answers uses its whole share soon', async () => {
  const world = new World(() => 50)
  for (let n = 0; n < 5_000; n++) world.deliver(1)
  await world.run(1_000)
  // 50 at once, each for 50 ms: 1,000 a second, but for the ramp.
  expect(world.latencies.length).toBeGreaterThan(600)
  await world.run(2_000)
  expect(world.latencies.filter(({ at }) => at > 1_000).length).toBeGreaterThan(900)
})

test('what waits for a moment has its turn when a clock that was set forward, or a machine that slept, has passed it', async () => {
  const world = new World(() => 10)
  world.deliver(1, 60_000)
  world.deliver(2, 90_000)
  await world.run(1_000)
  expect(world.latencies).toEqual([])
  world.steppedMs = 60_000
  await world.run(1_200)
  expect(world.latencies.map(({ endpoint }) => endpoint)).toEqual([1])
  await world.run(29_500)
  expect(world.latencies.length).toBe(1)
  await world.run(30_200)
  expect(world.latencies.map(({ endpoint }) => endpoint)).toEqual([1, 2])
})
