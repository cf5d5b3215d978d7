/** After the last fault: whole again, and everything has to come to an end. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Stage } from './stage.ts'

/** By then everything is final: retries that are due, back-offs and leases all passed. */
const SETTLED_WITHIN_MS = 90_000
/** Without progress for this long the clock is moved to where the waiting deliveries are due. */
const STILL_MS = 1_500
const CLOCK_STEP_MS = 600_000

/** Answers how long it took, in ms; null where it did not come to an end. */
export async function settle(stage: Stage): Promise<number | null> {
  const began = performance.now()
  await Promise.all(stage.hosts.map(({ process }) => process?.order({ do: 'quiet' }, 30_000).catch(() => {})))
  await stage.setDns(true)
  await stage.setMode(stage.endpoints, 'ok')
  for (const { process } of stage.receivers) await process?.order({ do: 'release' })
  for (const slot of stage.workers) if (slot.process === null || !slot.process.running) await stage.startWorker(slot)
  await enableAll(stage)
  let before = Number.NaN
  let since = performance.now()
  while (performance.now() - began < SETTLED_WITHIN_MS) {
    const left = await countLeft(stage)
    if (left === 0) return performance.now() - began
    if (left !== before) since = performance.now()
    before = left
    if (performance.now() - since > STILL_MS) {
      await stage.stepClock(CLOCK_STEP_MS)
      await enableAll(stage)
      since = performance.now()
    }
    await sleep(100)
  }
  return null
}

async function enableAll(stage: Stage): Promise<void> {
  for (const endpoint of stage.endpoints) {
    if (endpoint.deleted) continue
    const { status } = await stage.persist(() => stage.webhooks.endpoints.get('default', endpoint.id))
    if (status === 'inactive' || status === 'disabled') {
      const from = stage.now()
      await stage.persist(() => stage.webhooks.endpoints.update('default', endpoint.id, { active: true }))
      endpoint.switches.push({ from, to: stage.now(), active: true })
    }
  }
}

/** Events that are not dispatched, and deliveries that are not final. */
async function countLeft(stage: Stage): Promise<number> {
  const [row] = await stage.persist(
    () => stage.sql`select
      (select count(*) from posthaste.events e,
        (select * from posthaste.dispatches order by n desc limit 1) d
        where d.win is not null or d.turns_open > 0 or not pg_visible_in_snapshot(e.xid, d.snap))::int
      + (select count(*) from posthaste.deliveries d join posthaste.endpoints p on p.no = d.endpoint
        where p.deleted_at is null
          and not exists (select from posthaste.attempts a where a.delivery_id = d.id and a.final))::int
      + (select count(*) from posthaste.retries r join posthaste.endpoints p on p.no = r.endpoint
        where p.deleted_at is null)::int n`,
  )
  return row!.n as number
}
