/**
 * The adaptive scheme: whoever verifies one header with one secret, and swaps that secret at any moment of the overlap, gets
 * every event. Moments, order of answers and concurrency are drawn at random.
 */
import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'
import { type ReceivedRequest, type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

let receiver: Receiver
let host: UnderTest
beforeAll(async () => {
  receiver = await startReceiver()
  // A schedule that a test can wait for: where a step is used, what follows comes soon.
  host = await underTest({ retrySchedule: [100, 100, 100, 100, 100, 100] })
  await host.webhooks.start()
})
afterAll(async () => {
  await host.stop()
  await receiver.close()
})

const OLD = 'the old secret'
const NEW = 'the new secret'

/** The page's verifier. */
const accepts = ({ headers, body }: ReceivedRequest, secret: string) =>
  headers['x-webhook-signature'] === `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`

interface Case {
  /** What the receiver answers to what does not verify. */
  refusal: number
  concurrency: number
  ordering: 'none' | 'fifo'
  /** Events before the rotation, and after it. */
  before: number
  after: number
  /** The receiver swaps when so many requests have come since the rotation was answered. */
  swapAt: number
  /** Events are emitted one by one, or all in one transaction. */
  oneByOne: boolean
  /** Of a fleet that swaps machine by machine: which of the requests around the swap meet one that has swapped. */
  fleet: boolean[]
}

const cases: fc.Arbitrary<Case> = fc.record({
  refusal: fc.constantFrom(400, 401, 403),
  concurrency: fc.constantFrom(1, 2, 50),
  ordering: fc.constantFrom('none' as const, 'fifo' as const),
  before: fc.integer({ min: 0, max: 4 }),
  after: fc.integer({ min: 1, max: 12 }),
  swapAt: fc.integer({ min: 0, max: 20 }),
  oneByOne: fc.boolean(),
  fleet: fc.oneof(
    { weight: 3, arbitrary: fc.constant<boolean[]>([]) },
    { weight: 1, arbitrary: fc.array(fc.boolean(), { maxLength: 6 }) },
  ),
})

let runs = 0

async function run(given: Case): Promise<void> {
  const path = `/swap-${++runs}`
  const accepted = new Set<number>()
  let rotated = false
  let sinceRotation = 0
  const holdsNew = () => {
    if (!rotated) return false
    const at = sinceRotation++ - given.swapAt
    return given.fleet[at] ?? at >= 0
  }
  receiver.answer(path, (request) => {
    if (!accepts(request, holdsNew() ? NEW : OLD)) return given.refusal
    accepted.add(request.data.n as number)
    return 200
  })
  const { id } = await host.endpoint(receiver.url(path), {
    secret: OLD,
    max_concurrency: given.concurrency,
    ordering: given.ordering,
  })
  const emit = async (from: number, count: number) => {
    const numbers = Array.from({ length: count }, (_, index) => from + index)
    if (given.oneByOne) for (const n of numbers) await host.emit(n)
    else if (count > 0) await host.emit(...numbers)
  }
  await emit(0, given.before)
  await host.webhooks.endpoints.rotateSecret('default', id, { secret: NEW })
  rotated = true
  await emit(given.before, given.after)
  const all = given.before + given.after
  await until(`${all} events to be accepted`, () => accepted.size === all, 30_000)

  const number = await host.numberOf(id)
  await until('the last to be recorded', async () => {
    const [row] = await host.sql`select count(distinct delivery_id)::int n from posthaste.attempts
      where endpoint = ${number} and outcome = 1`
    return row?.n === all
  })
  const attempts = await host.sql`select max(number)::int most, bool_or(final and outcome <> 1) failed
    from posthaste.attempts where endpoint = ${number}`
  expect(attempts[0]?.failed).toBe(false)
  // What swaps at one moment is asked at most twice for each event, but for those that met the rotation itself on its way.
  if (given.fleet.length === 0) expect(attempts[0]?.most).toBeLessThanOrEqual(3)
  await host.webhooks.endpoints.remove('default', id)
}

test('a receiver that swaps at any moment misses nothing', { timeout: PROPERTY_TIMEOUT }, async () => {
  await fc.assert(fc.asyncProperty(cases, run), {
    ...propertyRuns(40),
    endOnFailure: true,
    // The edges, always: at once, after the last request, between the two attempts of one delivery.
    examples: [0, 1, 2, 3, 12].map((swapAt): [Case] => [
      { refusal: 401, concurrency: 50, ordering: 'none', before: 3, after: 10, swapAt, oneByOne: false, fleet: [] },
    ]),
  })
})
