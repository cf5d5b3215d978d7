/**
 * The state machine of docs/delivery-states.md against a worker, a receiver and the database, through the public API: whatever
 * happens in whatever order, states change only as the model says, and in the end everything is final.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'
import { reachable, readModel } from './state-model.ts'

const deliveries = readModel('Deliveries')
const endpoints = readModel('Endpoints')
const FINAL = new Set(['succeeded', 'failed', 'cancelled'])
const SCHEDULE = ['10s'] as const
/** With its jitter. */
const DUE_MS = 12_000
/** Longer than every back-off and every delay. */
const LONG_MS = 400_000

let host: UnderTest
let receiver: Receiver
let paths = 0
beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest({ retrySchedule: SCHEDULE })
  await host.webhooks.start()
})
afterAll(async () => {
  await host.stop()
  await receiver.close()
})

/** One endpoint, and what was last seen of it and its deliveries. */
class Real {
  readonly path = `/states/${++paths}`
  readonly id: string
  /** How many deliveries there are. */
  expected = 0
  served = true
  /** What was asked of the API and may take effect later. */
  readonly lasting = new Set<string>()
  readonly seen = new Set<string>()
  #endpoint = 'active'
  #statuses = new Map<string, string>()
  #attempts = new Map<string, number>()

  constructor(id: string) {
    this.id = id
  }

  static async create(): Promise<Real> {
    const { id } = await host.endpoint(receiver.url(`/states/${paths + 1}`))
    return new Real(id)
  }

  get state(): string {
    return this.#endpoint
  }

  get known(): string[] {
    return [...this.#statuses.keys()]
  }

  attemptsOf(id: string): number {
    return this.#attempts.get(id) ?? 0
  }

  statusOf(id: string): string | undefined {
    return this.#statuses.get(id)
  }

  /** Looks at everything, and checks what changed. `api`: what was asked of the API since the last look. */
  async look(...api: string[]): Promise<void> {
    const by = new Set(['dispatcher', 'lane owner', ...api, ...this.lasting])
    // Deliveries first: the endpoint's state may only be newer than what follows from it.
    const page = await host.webhooks.deliveries.list('default', this.id, { limit: 100 })
    for (const { id, status, attempt_count: attempts } of page.data) {
      const before = this.#statuses.get(id) ?? 'none'
      expect([...reachable(deliveries, before, by)], `${id}: ${before} → ${status} by ${[...by]}`).toContain(status)
      // Nothing waits for weeks here.
      expect(status).not.toBe('expired')
      expect(attempts).toBeGreaterThanOrEqual(this.#attempts.get(id) ?? 0)
      this.#statuses.set(id, status)
      this.#attempts.set(id, attempts)
      this.seen.add(status)
    }
    expect(page.data.length).toBe(this.expected)
    const endpoint = await host.webhooks.endpoints
      .get('default', this.id)
      .then(({ status }) => status as string)
      .catch((error: { code?: string }) => (error.code === 'NOT_FOUND' ? 'deleted' : Promise.reject(error)))
    expect([...reachable(endpoints, this.#endpoint, by)], `endpoint: ${this.#endpoint} → ${endpoint}`).toContain(
      endpoint,
    )
    this.#endpoint = endpoint
    this.served = endpoint === 'active' || endpoint === 'degraded'
    this.seen.add(`endpoint ${endpoint}`)
  }

  /** Everything waiting has the status that an endpoint which is not served gives it. */
  expectAllWaiting(as: 'held' | 'cancelled'): void {
    for (const status of this.#statuses.values()) expect([as, 'succeeded', 'failed']).toContain(status)
  }

  get allFinal(): boolean {
    return [...this.#statuses.values()].every((status) => FINAL.has(status))
  }
}

interface Model {
  deleted: boolean
  /** Its owner's wish. */
  active: boolean
  numbers: number
}

type Command = fc.AsyncCommand<Model, Real>

function command(name: string, run: (model: Model, real: Real) => Promise<void>): Command {
  return { check: (model) => !model.deleted, run, toString: () => name }
}

/** A 410 may just disable it: only what is dispatched while it is certainly served, or certainly not, is counted. */
const emit = (count: number) =>
  command(`emit ${count}`, async (model, real) => {
    await real.look()
    const before = (await host.webhooks.deliveries.list('default', real.id, { limit: 100 })).data.length
    for (let n = 0; n < count; n++) {
      model.numbers++
      await host.emit(model.numbers)
    }
    await host.dispatched()
    const after = (await host.webhooks.deliveries.list('default', real.id, { limit: 100 })).data.length
    if (!real.served) expect(after).toBe(before)
    expect(after - before).toBeLessThanOrEqual(count)
    real.expected = after
    const was = real.served
    await real.look()
    if (was && real.served) expect(after - before).toBe(count)
  })

const answer = (how: number | 'reset') =>
  command(`answer ${how}`, async (_, real) => {
    receiver.answer(real.path, how)
    await real.look()
  })

const pass = (ms: number) =>
  command(`${ms} ms pass`, async (_, real) => {
    await host.moveTime(ms)
    await real.look()
  })

/** A degraded endpoint sends one delivery at a time, with growing pauses: which one is nobody's business here. */
const attempted = () =>
  command('until something is attempted, or its endpoint is in no state for it', async (_, real) => {
    await real.look()
    const first = real.known.find((id) => real.statusOf(id) === 'pending' || real.statusOf(id) === 'retrying')
    if (first === undefined) return
    const before = real.attemptsOf(first)
    await host.moveTime(DUE_MS)
    await until('an attempt', async () => {
      await real.look()
      return real.attemptsOf(first) > before || real.state !== 'active'
    })
  })

const switchOff = () =>
  command('switch off', async (model, real) => {
    await host.webhooks.endpoints.update('default', real.id, { active: false })
    model.active = false
    await real.look('API: switch off')
    real.expectAllWaiting('held')
  })

const switchOn = () =>
  command('switch on', async (model, real) => {
    await host.webhooks.endpoints.update('default', real.id, { active: true })
    model.active = true
    await real.look('API: switch on')
  })

const remove = () =>
  command('delete', async (model, real) => {
    await host.webhooks.endpoints.remove('default', real.id)
    model.deleted = true
    await real.look('API: delete')
    real.expectAllWaiting('cancelled')
  })

const retry = (which: number) =>
  command(`retry ${which}`, async (_, real) => {
    const id = real.known[which % Math.max(1, real.known.length)]
    if (id === undefined) return
    await host.webhooks.deliveries.retry('default', id).catch((error: { code?: string }) => {
      if (error.code !== 'ENDPOINT_NOT_ACTIVE') throw error
    })
    // Its attempt may show at any later look.
    real.lasting.add('API: retry')
    await real.look()
    await host.dispatched()
    await real.look()
  })

/** Healthy and served, with time passing: everything comes to an end. */
async function settle(model: Model, real: Real): Promise<void> {
  if (!model.deleted) {
    receiver.answer(real.path, 200)
    await until(
      'everything to be final',
      async () => {
        await host.webhooks.endpoints.update('default', real.id, { active: true })
        await host.moveTime(LONG_MS)
        await real.look('API: switch on')
        return real.allFinal
      },
      60_000,
    )
    await host.webhooks.endpoints.remove('default', real.id)
    await real.look('API: delete', 'API: switch on')
  }
  await until('what was under way to end', async () => {
    await real.look()
    return real.allFinal && receiver.open(real.path) === 0
  })
}

const untilItIs = (state: 'degraded' | 'disabled') =>
  command(`until ${state}`, async (_, real) => {
    await until(state, async () => {
      await real.look()
      return real.state === state
    })
  })

test('a tour of every state', async () => {
  const seen = await play([
    emit(1),
    attempted(),
    answer(400),
    emit(1),
    attempted(),
    attempted(),
    answer(200),
    retry(1),
    answer(500),
    emit(4),
    emit(4),
    untilItIs('degraded'),
    switchOff(),
    emit(1),
    answer(410),
    switchOn(),
    untilItIs('disabled'),
    switchOff(),
    answer(200),
    switchOn(),
    emit(1),
    attempted(),
    answer(400),
    emit(1),
    switchOff(),
    remove(),
  ])
  const statuses = ['cancelled', 'failed', 'held', 'pending', 'retrying', 'succeeded']
  const states = ['active', 'degraded', 'deleted', 'disabled', 'inactive'].map((state) => `endpoint ${state}`)
  expect([...seen].toSorted()).toEqual([...statuses, ...states].toSorted())
}, 60_000)

/** Answers what was seen on the way. */
async function play(sequence: Iterable<Command>): Promise<Set<string>> {
  const real = await Real.create()
  const model: Model = { deleted: false, active: true, numbers: 0 }
  await fc.asyncModelRun(() => ({ model, real }), sequence)
  await settle(model, real)
  return real.seen
}

test('states change only as the model says, and end', { timeout: PROPERTY_TIMEOUT }, async () => {
  const one = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 4 }).map(emit) },
    { weight: 6, arbitrary: fc.constantFrom(200, 400, 500, 410, 'reset' as const).map(answer) },
    { weight: 4, arbitrary: fc.constantFrom(DUE_MS, 60_000, LONG_MS).map(pass) },
    { weight: 6, arbitrary: fc.constant(attempted()) },
    { weight: 3, arbitrary: fc.constant(switchOff()) },
    { weight: 4, arbitrary: fc.constant(switchOn()) },
    { weight: 3, arbitrary: fc.nat(20).map(retry) },
    { weight: 1, arbitrary: fc.constant(remove()) },
  )
  const commands = fc.commands([one], { maxCommands: 25, size: 'max' })
  await fc.assert(
    fc.asyncProperty(commands, async (sequence) => void (await play(sequence))),
    { ...propertyRuns(15), endOnFailure: true },
  )
})
