/** A run in which nothing is wrong, for tests of the judge to spoil. */
import { checkRun } from './invariant.ts'
import type { Bound, Evidence, Loss, Stall } from './testimony.ts'

/**
 * Two events to two endpoints, the second one fifo: everything received once and recorded, but one failed for good. That one a
 * replay has sent again, as dlv_1171; and dlv_21 was asked for again by hand.
 */
export function soundRun() {
  const delivery = (n: number, endpoint: number, status = 'succeeded') => ({
    generation: 0,
    madeAt: n * 10_000,
    id: `dlv_${n}${endpoint}`,
    endpoint,
    eventId: `evt_${n}`,
    seq: n * 10 + endpoint,
    status,
  })
  const receipt = (n: number, endpoint: number, attempt: number, answered: number | null, at: number) => ({
    at,
    delivery: `dlv_${n}${endpoint}`,
    eventId: `evt_${n}`,
    n,
    attempt,
    worker: 'a',
    answered,
    answeredAt: answered === null ? null : at + 10,
  })
  const attempt = (n: number, endpoint: number, number: number, status: number | null, final: boolean) => ({
    delivery: `dlv_${n}${endpoint}`,
    number,
    succeeded: status === 200,
    final,
    status,
    step: number - 1,
  })
  return {
    committed: [1, 2],
    events: [
      { id: 'evt_1', n: 1, idMs: 9_900, dispatchedAt: 10_000 },
      { id: 'evt_2', n: 2, idMs: 19_900, dispatchedAt: 20_000 },
      { id: 'evt_9', n: 9, idMs: 90_000, dispatchedAt: null },
    ].slice(0, 2),
    endpoints: [
      { no: 1, ordering: 'none', state: 'active', switches: [] },
      { no: 2, ordering: 'fifo', state: 'active', switches: [] },
    ],
    deliveries: [
      delivery(1, 1, 'failed'),
      delivery(1, 2),
      delivery(2, 1),
      delivery(2, 2),
      { ...delivery(1, 1), id: 'dlv_1171', seq: 71, generation: 7, madeAt: 40_500 },
    ],
    attempts: [
      attempt(1, 1, 1, 500, false),
      attempt(1, 1, 2, null, true),
      attempt(1, 2, 1, 200, true),
      attempt(2, 1, 1, 200, true),
      attempt(2, 2, 1, 200, true),
      { ...attempt(1, 1, 1, 200, true), delivery: 'dlv_1171' },
      { ...attempt(2, 1, 2, 200, true), step: null },
    ],
    receipts: [
      receipt(1, 1, 1, 500, 10_100),
      receipt(1, 1, 2, null, 10_500),
      receipt(1, 2, 1, 200, 10_100),
      receipt(2, 1, 1, 200, 20_100),
      receipt(2, 2, 1, 200, 20_100),
      { ...receipt(1, 1, 1, 200, 41_000), delivery: 'dlv_1171' },
      receipt(2, 1, 2, 200, 45_000),
    ],
    losses: [] as Loss[],
    disturbances: [] as { from: number; to: number }[],
    replays: [replay('failed', 7, { done: 1 })],
    replayAsks: [replayAsk('failed', 7)],
    retryAsks: [{ delivery: 'dlv_21', endpoint: 1, from: 44_900, attempts: 1 as number | null }],
    attemptsPerDelivery: 2,
    unhandled: [] as string[],
    bounds: [{ what: 'stop()', from: 0, to: 30_000, withinMs: 30_000 }] as Bound[],
    stalls: [] as Stall[],
  } satisfies Evidence
}

export function replay(which: 'failed' | 'missing' | 'all', no: number, more = {}) {
  const whole = { sinceMs: 1_000 + no, untilMs: 40_000, status: 'completed' as 'completed' | 'running' | 'cancelled' }
  return { id: `rpl_${no}`, no, endpoint: 1, which, ...whole, done: 0, ...more }
}

export function replayAsk(which: 'failed' | 'missing' | 'all', no: number) {
  const whole = { sinceMs: 1_000 + no, from: 40_000, id: `rpl_${no}` as string | null, cancelAsked: false }
  return { endpoint: 1, which, ...whole, failedBefore: which === 'failed' ? ['dlv_11'] : [] }
}

export type Run = { -readonly [K in keyof ReturnType<typeof soundRun>]: ReturnType<typeof soundRun>[K] }
export const kinds = (run: Evidence) => [...new Set(checkRun(run).map(({ kind }) => kind))].toSorted()
