/** Faults of processes: workers, hosts, and deploys. */
import { setTimeout as sleep } from 'node:timers/promises'
import { lockTable } from './database-faults.ts'
import type { FaultName, Step } from './schedule.ts'
import type { Stage } from './stage.ts'
import type { WorkerSlot } from './stage-workers.ts'

export type Fault = (stage: Stage, step: Step) => Promise<void>

export function victimOf<T>(from: readonly T[], { victim }: Step): T {
  return from[Math.floor(victim * from.length)] as T
}

export const processFaults = {
  /** At any moment; half of the time right after an answer to it has left, before it can have recorded that. */
  'worker-killed': (stage, step) =>
    inTurnOf(stage, step, async (slot) => {
      if (step.choice < 0.5) await killAfterAnswer(stage, slot)
      else await stage.workers.kill(slot)
      await sleep(step.forMs)
      await stage.workers.start(slot)
    }),

  /** While it cannot record what was answered. */
  'worker-killed-unrecorded': (stage, step) =>
    inTurnOf(stage, step, async (slot) => {
      await stage.chronicle.disturb('attempts locked', async () => {
        const unlock = await lockTable(stage, 'attempts')
        await sleep(step.forMs)
        await stage.workers.kill(slot)
        await unlock()
      })
      await stage.workers.start(slot)
    }),

  'worker-frozen': (stage, step) =>
    inTurnOf(stage, step, async (slot) => {
      const { process } = slot
      if (process === null) return
      const from = stage.now()
      process.signal('SIGSTOP')
      await sleep(step.forMs)
      process.signal('SIGCONT')
      stage.workers.lose(slot, 'frozen', from)
    }),

  'worker-stopped': (stage, step) =>
    inTurnOf(stage, step, async (slot) => {
      await stage.workers.stop(slot)
      await sleep(step.forMs)
      await stage.workers.start(slot)
    }),

  /** One worker after the other is replaced by one of the other version, hosts emitting all the while. */
  deploy: (stage) =>
    stage.inTurn('deploy', async () => {
      for (const [index, slot] of stage.workers.slots.entries()) {
        await stage.inTurn(`worker ${index}`, async () => {
          const now = stage.libraries.indexOf(slot.library)
          slot.library = stage.libraries[(now + 1) % stage.libraries.length]!
          await stage.workers.stop(slot)
          await stage.workers.start(slot)
        })
      }
    }),

  /** In the middle of whatever transactions it has. */
  'host-killed': (stage, step) => {
    const index = Math.floor(step.victim * stage.hosts.length)
    return stage.inTurn(`host ${index}`, async () => {
      await stage.hosts[index]!.process?.kill()
      await sleep(step.forMs)
      await stage.startHost(index)
    })
  },

  'host-commits-late': async (stage, step) => {
    await victimOf(stage.hosts, step)
      .process?.order({ do: 'late', forMs: step.forMs })
      .catch(() => {})
  },
} satisfies Partial<Record<FaultName, Fault>>

function inTurnOf(stage: Stage, step: Step, work: (slot: WorkerSlot) => Promise<void>): Promise<void> {
  const slot = victimOf(stage.workers.slots, step)
  return stage.inTurn(`worker ${stage.workers.slots.indexOf(slot)}`, () => work(slot))
}

export async function killAfterAnswer(stage: Stage, slot: WorkerSlot): Promise<void> {
  const { process, address } = slot
  if (process === null) return
  await stage.receivers.tell({ do: 'kill-after-answer', address, pid: process.pid })
  const from = stage.now()
  // Where nothing is sent to it for a while it dies all the same.
  for (let waited = 0; process.running && waited < 1_000; waited += 20) await sleep(20)
  slot.process = null
  await process.kill()
  stage.workers.lose(slot, 'killed after an answer', Math.max(from, stage.now() - 1_000))
}
