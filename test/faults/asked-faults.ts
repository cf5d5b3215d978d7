/** What somebody asks for by hand in the middle of everything: replays, their end, and single attempts. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { DeliveryStatus } from '@posthaste/core'
import { killAfterAnswer, victimOf } from './process-faults.ts'
import { changeEndpoint, endpointOf, misbehave } from './receiver-faults.ts'
import type { FaultName, Step } from './schedule.ts'
import type { EndpointOnStage, Stage } from './stage.ts'
import type { ReplayAsk, RetryAsk } from './testimony.ts'

type Fault = (stage: Stage, step: Step) => Promise<void>

export const askedFaults = {
  /** After deliveries have failed, as far as the schedule of the run lets them. */
  'replay-failed': async (stage, step) => {
    await misbehave(stage, step, 'fail')
    await startReplay(stage, step, 'failed')
  },

  /** After the endpoint was switched off for a while, and so missed something. */
  'replay-missing': async (stage, step) => {
    const endpoint = endpointOf(stage, step)
    await stage.inTurn(endpoint.path, async () => {
      if (endpoint.deleted) return
      await changeEndpoint(stage, endpoint, false)
      await sleep(step.forMs)
      await changeEndpoint(stage, endpoint, true)
    })
    await startReplay(stage, step, 'missing')
  },

  'replay-all': async (stage, step) => {
    await startReplay(stage, step, 'all')
  },

  'replay-cancelled': async (stage, step) => {
    const ask = await startReplay(stage, step, 'all')
    if (ask.id === null) return
    const { id } = ask
    await sleep(step.forMs)
    ask.cancelAsked = true
    await stage.persist(() => stage.webhooks.replays.cancel('default', id))
  },

  'replay-worker-killed': async (stage, step) => {
    await startReplay(stage, step, 'all')
    await sleep(step.forMs)
    await killAnother(stage, step)
  },

  /** First of an endpoint that answers with errors, then of one that works again. */
  'retried-by-hand': async (stage, step) => {
    const until = stage.now() + step.forMs
    const failing = misbehave(stage, { ...step, forMs: step.forMs / 2, choice: 0 }, 'fail')
    for (let round = Math.floor(step.choice * STATUSES.length); stage.now() < until; round++) {
      await retrySome(stage, endpointOf(stage, step), STATUSES[round % STATUSES.length]!)
      await sleep(60)
    }
    await failing
  },

  'retried-worker-killed': async (stage, step) => {
    const endpoint = endpointOf(stage, step)
    const failing = misbehave(stage, { ...step, choice: 0 }, 'fail')
    await sleep(step.forMs / 2)
    for (const status of STATUSES) await retrySome(stage, endpoint, status)
    await killAnother(stage, step)
    await failing
  },
} satisfies Partial<Record<FaultName, Fault>>

/** One that succeeded may be asked for again, too. */
const STATUSES: readonly DeliveryStatus[] = ['failed', 'retrying', 'pending', 'succeeded']
const RETRIES_AT_ONCE = 4
/** Refusals: what was asked for cannot be. */
const REFUSED = new Set(['ENDPOINT_NOT_ACTIVE', 'NOT_FOUND', 'REPLAY_RUNNING'])

/** Of everything, of the last seconds, or of all but the last one. */
async function startReplay(stage: Stage, step: Step, which: ReplayAsk['which']): Promise<ReplayAsk> {
  const { webhooks, chronicle } = stage
  const endpoint = endpointOf(stage, step)
  const kind = Math.floor(step.choice * 997) % 4
  const number = chronicle.replayAsks.length
  const sinceMs = stage.now() - (kind === 1 ? 4_000 : 3_600_000) - number
  const ask: ReplayAsk = {
    endpoint: endpoint.no,
    which,
    sinceMs,
    from: stage.now(),
    id: null,
    cancelAsked: false,
    failedBefore: which === 'failed' ? await listFailed(stage, endpoint) : [],
  }
  // What the list holds was so before.
  ask.from = stage.now()
  chronicle.replayAsks.push(ask)
  const since = new Date(sinceMs).toISOString()
  const until = kind === 2 ? { until: new Date(stage.now() - 1_000).toISOString() } : {}
  await stage.persist(async () => {
    const replay = await webhooks.replays.start('default', endpoint.id, { which, since, ...until }).catch(ifRefused)
    ask.id = replay?.id ?? null
  })
  return ask
}

async function listFailed(stage: Stage, { id }: EndpointOnStage): Promise<string[]> {
  const failed: string[] = []
  let cursor: string | null = null
  do {
    const page = await stage.persist(() =>
      stage.webhooks.deliveries.list('default', id, {
        status: 'failed',
        limit: 100,
        ...(cursor === null ? {} : { cursor }),
      }),
    )
    for (const delivery of page.data) failed.push(delivery.id)
    cursor = page.next_cursor
  } while (cursor !== null)
  return failed
}

/** Each try is written down for itself: one whose answer was lost may have been heard. */
async function retrySome(stage: Stage, endpoint: EndpointOnStage, status: DeliveryStatus): Promise<void> {
  const { webhooks, chronicle } = stage
  const { data } = await stage.persist(() => webhooks.deliveries.list('default', endpoint.id, { status, limit: 20 }))
  for (const { id } of data.slice(0, RETRIES_AT_ONCE)) {
    await stage.persist(async () => {
      const ask: RetryAsk = { delivery: id, endpoint: endpoint.no, from: stage.now(), attempts: null }
      chronicle.retryAsks.push(ask)
      ask.attempts = (await webhooks.deliveries.retry('default', id).catch(ifRefused))?.attempt_count ?? null
    })
  }
}

function ifRefused(error: { code?: string }): null {
  if (REFUSED.has(error.code ?? '')) return null
  throw error
}

/** Any worker, at once or right after an answer to it. */
async function killAnother(stage: Stage, step: Step): Promise<void> {
  const { slots } = stage.workers
  const slot = victimOf(slots, { ...step, victim: step.choice })
  await stage.inTurn(`worker ${slots.indexOf(slot)}`, async () => {
    if ((step.choice * 1_000) % 2 < 1) await killAfterAnswer(stage, slot)
    else await stage.workers.kill(slot)
    await stage.workers.start(slot)
  })
}
