/** How soon deliveries went on after a death, measured where nothing else happened in the same run. */
import type { Stage } from './stage.ts'
import { LEASE_MS } from './stage-workers.ts'
import type { Bound, Evidence } from './testimony.ts'

/** A lease, and what dispatching, taking over and sending need. */
const WORKER_WITHIN_MS = LEASE_MS + 5_000
const POSTGRES_WITHIN_MS = 5_000

export interface Recovery {
  /** From the death of a worker to the last first success of what was dispatched before it, in ms. Null: not measured. */
  workerMs: number | null
  /** From Postgres being ready again to the next success that a receiver saw, in ms. Null: not measured. */
  postgresMs: number | null
}

export function measureRecovery({ schedule, chronicle }: Stage, evidence: Evidence): Recovery {
  const { losses, restarts } = chronicle
  const [only, ...more] = schedule.steps
  if (only === undefined || more.length > 0) return { workerMs: null, postgresMs: null }
  const [death] = losses
  const [ready] = restarts
  return {
    workerMs: only.fault === 'worker-killed' && death !== undefined ? afterDeath(evidence, death.to) : null,
    postgresMs: ready === undefined ? null : afterRestart(evidence, ready),
  }
}

function afterDeath({ events, deliveries, receipts }: Evidence, diedAt: number): number {
  const dispatched = new Map(events.map(({ id, dispatchedAt }) => [id, dispatchedAt]))
  const waiting = new Set(
    deliveries
      .filter(({ eventId }) => (dispatched.get(eventId) ?? Number.POSITIVE_INFINITY) < diedAt)
      .map(({ id }) => id),
  )
  const firsts = new Map<string, number>()
  for (const { delivery, answered, answeredAt } of receipts) {
    if (answered !== 200 || answeredAt === null) continue
    firsts.set(delivery, Math.min(answeredAt, firsts.get(delivery) ?? Number.POSITIVE_INFINITY))
  }
  const late = [...firsts].filter(([delivery, at]) => waiting.has(delivery) && at > diedAt).map(([, at]) => at - diedAt)
  return Math.max(0, ...late)
}

function afterRestart({ receipts }: Evidence, readyAt: number): number | null {
  const after = receipts.map(({ answeredAt }) => answeredAt ?? 0).filter((at) => at > readyAt)
  return after.length === 0 ? null : Math.min(...after) - readyAt
}

/** What was measured, as times that have to be kept. */
export function recoveryBounds({ chronicle }: Stage, { workerMs, postgresMs }: Recovery): Bound[] {
  const bound = (what: string, from: number, ms: number, withinMs: number) => ({ what, from, to: from + ms, withinMs })
  const [death] = chronicle.losses
  const [ready] = chronicle.restarts
  return [
    ...(workerMs === null ? [] : [bound('taking over from a dead worker', death!.to, workerMs, WORKER_WITHIN_MS)]),
    ...(postgresMs === null ? [] : [bound('resuming after Postgres', ready!, postgresMs, POSTGRES_WITHIN_MS)]),
  ]
}
