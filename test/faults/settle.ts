/** After the last fault: whole again, and everything has to come to an end. */
import { setTimeout as sleep } from 'node:timers/promises'
import { isCertainlyActiveSince } from './invariant-asked.ts'
import type { Stage } from './stage.ts'
import type { Stall } from './testimony.ts'
import { stalledMs } from './time-bounds.ts'

/** By then everything is final: retries that are due, back-offs and leases all passed. */
export const SETTLED_WITHIN_MS = 90_000
/** Without progress for this long the clock is moved to where the waiting deliveries are due. */
const STILL_MS = 1_500
const CLOCK_STEP_MS = 600_000

/** Answers how long it took, in ms; null where it did not come to an end. */
export async function settle(stage: Stage, stalls: readonly Stall[]): Promise<number | null> {
  const began = performance.now()
  const startedAt = stage.now()
  await Promise.all(stage.hosts.map(({ process }) => process?.order({ do: 'quiet' }, 30_000).catch(() => {})))
  await stage.workers.setDns(true)
  await stage.receivers.setMode(stage.endpoints, 'ok')
  await stage.receivers.tell({ do: 'release' })
  for (const slot of stage.workers.slots)
    if (slot.process === null || !slot.process.running) await stage.workers.start(slot)
  await enableAll(stage)
  let before = Number.NaN
  let since = performance.now()
  // Time in which the machine stood still is not time in which something could have come to its end.
  while (performance.now() - began - stalledMs(stalls, startedAt, stage.now()) < SETTLED_WITHIN_MS) {
    const left = (await countLeft(stage)) + (await countUnmet(stage))
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

/** Attempts that somebody asked for, and that are not made. */
async function countUnmet(stage: Stage): Promise<number> {
  const asked = stage.chronicle.retryAsks.filter((ask) => {
    const endpoint = stage.endpoints.find(({ no }) => no === ask.endpoint)!
    return ask.attempts !== null && isCertainlyActiveSince(endpoint, ask.from)
  })
  const [row] = await stage.persist(
    () => stage.sql`select count(*)::int n from unnest(${asked.map(({ delivery }) => delivery.slice(4))}::uuid[],
      ${asked.map(({ attempts }) => attempts)}::int[]) x(delivery, attempts)
      where not exists (select from posthaste.attempts a where a.delivery_id = x.delivery and a.number > x.attempts)`,
  )
  return row!.n as number
}

/** Events and commands that are not dispatched, replays that run, and deliveries that are not final. */
async function countLeft(stage: Stage): Promise<number> {
  const [row] = await stage.persist(
    () => stage.sql`select
      (select count(*) from posthaste.events e,
        (select * from posthaste.dispatches order by n desc limit 1) d
        where d.win is not null or d.turns_open > 0 or not pg_visible_in_snapshot(e.xid, d.snap))::int
      + (select count(*) from posthaste.commands c,
        (select * from posthaste.dispatches order by n desc limit 1) d where not pg_visible_in_snapshot(c.xid, d.snap))::int
      + (select count(*) from posthaste.replays where status = 'running')::int
      + (select count(*) from posthaste.deliveries d join posthaste.endpoints p on p.no = d.endpoint
        where p.deleted_at is null
          and not exists (select from posthaste.attempts a where a.delivery_id = d.id and a.final))::int
      + (select count(*) from posthaste.retries r join posthaste.endpoints p on p.no = r.endpoint
        where p.deleted_at is null)::int n`,
  )
  return row!.n as number
}
