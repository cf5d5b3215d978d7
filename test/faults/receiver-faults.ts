/** Faults of receivers and names, and what owners do to endpoints while deliveries wait. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ReceiverMode } from './processes/receiver.ts'
import type { FaultName, Step } from './schedule.ts'
import type { EndpointOnStage, Stage } from './stage.ts'

type Fault = (stage: Stage, step: Step) => Promise<void>

export const receiverFaults = {
  'dns-fails': (stage, step) =>
    stage.inTurn('dns', async () => {
      await stage.workers.setDns(false)
      await sleep(step.forMs)
      await stage.workers.setDns(true)
    }),

  'receiver-killed': (stage, step) => {
    const index = Math.floor(step.victim * stage.receivers.slots.length)
    return stage.inTurn(`receiver ${index}`, async () => {
      const slot = stage.receivers.slots[index]!
      await slot.process?.kill()
      slot.process = null
      await sleep(step.forMs)
      await stage.receivers.start(index)
    })
  },

  'receiver-hangs': (stage, step) => misbehave(stage, step, 'hang'),
  'receiver-resets': (stage, step) => misbehave(stage, step, 'reset'),
  'receiver-slow': (stage, step) => misbehave(stage, step, 'slow'),
  'receiver-fails': (stage, step) => misbehave(stage, step, 'fail'),
  'receiver-refuses': (stage, step) => misbehave(stage, step, 'refuse'),

  /** 410: we disable the endpoint, and its owner enables it again. */
  'receiver-gone': (stage, step) =>
    ofEndpoint(stage, step, async (endpoint) => {
      const from = stage.now()
      await stage.receivers.setMode([endpoint], 'gone')
      await sleep(step.forMs)
      await stage.receivers.setMode([endpoint], 'ok')
      // Answers that are under way may still disable it.
      await sleep(300)
      await enable(stage, endpoint)
      endpoint.switches.push({ from, to: Number.POSITIVE_INFINITY, active: null })
    }),

  'endpoint-disabled': (stage, step) =>
    ofEndpoint(stage, step, async (endpoint) => {
      await changeEndpoint(stage, endpoint, false)
      await sleep(step.forMs)
      await changeEndpoint(stage, endpoint, true)
    }),

  'endpoint-deleted': (stage, step) => {
    // Never the first two: somebody has to be left to receive.
    const endpoint = stage.endpoints[2 + Math.floor(step.victim * (stage.endpoints.length - 2))]!
    return stage.inTurn(endpoint.path, async () => {
      if (endpoint.deleted) return
      const from = stage.now()
      await stage.persist(async () => {
        await stage.webhooks.endpoints.remove('default', endpoint.id).catch((error: { code?: string }) => {
          if (error.code !== 'NOT_FOUND') throw error
        })
      })
      endpoint.deleted = true
      endpoint.switches.push({ from, to: stage.now(), active: false })
    })
  },

  /** Another address at the same receiver. */
  'endpoint-moved': (stage, step) =>
    ofEndpoint(stage, step, async (endpoint) => {
      const url = stage.endpointUrl(endpoint.receiver, `${endpoint.path}?moved=${Math.floor(step.choice * 1e6)}`)
      await stage.persist(() => stage.webhooks.endpoints.update('default', endpoint.id, { url }))
    }),

  'endpoint-rotated': (stage, step) =>
    ofEndpoint(stage, step, async (endpoint) => {
      await stage.persist(() => stage.webhooks.endpoints.rotateSecret('default', endpoint.id, {}))
    }),
} satisfies Partial<Record<FaultName, Fault>>

/** One endpoint, or everything at one receiver. */
export function misbehave(stage: Stage, step: Step, mode: ReceiverMode): Promise<void> {
  const one = endpointOf(stage, step)
  const whom = step.choice < 0.5 ? [one] : stage.endpoints.filter(({ receiver }) => receiver === one.receiver)
  return stage.inTurn('modes', async () => {
    await stage.receivers.setMode(whom, mode)
    await sleep(step.forMs)
    await stage.receivers.setMode(whom, 'ok')
  })
}

export function endpointOf({ endpoints }: Stage, { victim }: Step): EndpointOnStage {
  return endpoints[Math.floor(victim * endpoints.length)]!
}

function ofEndpoint(stage: Stage, step: Step, work: (endpoint: EndpointOnStage) => Promise<void>): Promise<void> {
  const endpoint = endpointOf(stage, step)
  return stage.inTurn(endpoint.path, async () => {
    if (!endpoint.deleted) await work(endpoint)
  })
}

async function enable(stage: Stage, { id }: EndpointOnStage): Promise<void> {
  await stage.persist(() => stage.webhooks.endpoints.update('default', id, { active: true }))
}

/** Its connection may be lost in the middle: until it has certainly worked, nobody knows. */
export async function changeEndpoint(stage: Stage, endpoint: EndpointOnStage, active: boolean): Promise<void> {
  const from = stage.now()
  await stage.persist(() => stage.webhooks.endpoints.update('default', endpoint.id, { active }))
  endpoint.switches.push({ from, to: stage.now(), active })
}
