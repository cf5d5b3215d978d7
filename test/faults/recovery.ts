/** How soon deliveries went on after a death, measured where nothing else happened in the same run. */
import type { Evidence } from './invariant.ts'
import type { Stage } from './stage.ts'

export interface Recovery {
  /** From the death of a worker to the last first success of what was dispatched before it, in ms. Null: not measured. */
  workerMs: number | null
  /** From Postgres being ready again to the next success that a receiver saw, in ms. Null: not measured. */
  postgresMs: number | null
}

export function measureRecovery({ schedule, losses, restarts }: Stage, evidence: Evidence): Recovery {
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
