/** Faults of processes: workers, hosts, and deploys. */
import { setTimeout as sleep } from 'node:timers/promises'
import { lockTable } from './database-faults.ts'
import type { FaultName, Step } from './schedule.ts'
import type { Stage, WorkerSlot } from './stage.ts'

export type Fault = (stage: Stage, step: Step) => Promise<void>

export function victimOf<T>(from: readonly T[], { victim }: Step): T {
  return from[Math.floor(victim * from.length)] as T
}

export const processFaults = {
  /** At any moment; half of the time right after an answer to it has left, before it can have recorded that. */
  'worker-killed': (stage, step) =>
    inTurnOf(stage, step, async (slot) => {
      if (step.choice < 0.5) await killAfterAnswer(stage, slot)
      else await stage.killWorker(slot)
      await sleep(step.forMs)
      await stage.startWorker(slot)
    }),

  /** While it cannot record what was answered. */
  'worker-killed-unrecorded': (stage, step) =>
    inTurnOf(stage, step, async (slot) => {
      await stage.disturb('attempts locked', async () => {
        const unlock = await lockTable(stage, 'attempts')
        await sleep(step.forMs)
        await stage.killWorker(slot)
        await unlock()
      })
      await stage.startWorker(slot)
    }),

  'worker-frozen': (stage, step) =>
    inTurnOf(stage, step, async (slot) => {
      const { process } = slot
      if (process === null) return
      const from = stage.now()
      slot.frozen = true
      process.signal('SIGSTOP')
      await sleep(step.forMs)
      process.signal('SIGCONT')
      slot.frozen = false
      stage.lose(slot, 'frozen', from)
    }),

  'worker-stopped': (stage, step) =>
    inTurnOf(stage, step, async (slot) => {
      await stage.stopWorker(slot)
      await sleep(step.forMs)
      await stage.startWorker(slot)
    }),

  /** One worker after the other is replaced by one of the other version, hosts emitting all the while. */
  deploy: (stage) =>
    stage.inTurn('deploy', async () => {
      for (const [index, slot] of stage.workers.entries()) {
        await stage.inTurn(`worker ${index}`, async () => {
          const now = stage.libraries.indexOf(slot.library)
          slot.library = stage.libraries[(now + 1) % stage.libraries.length]!
          await stage.stopWorker(slot)
          await stage.startWorker(slot)
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
  const slot = victimOf(stage.workers, step)
  return stage.inTurn(`worker ${stage.workers.indexOf(slot)}`, () => work(slot))
}

async function killAfterAnswer(stage: Stage, slot: WorkerSlot): Promise<void> {
  const { process, address } = slot
  if (process === null) return
  for (const receiver of stage.receivers) {
    await receiver.process?.order({ do: 'kill-after-answer', address, pid: process.pid }).catch(() => {})
  }
  const from = stage.now()
  // Where nothing is sent to it for a while it dies all the same.
  for (let waited = 0; process.running && waited < 1_000; waited += 20) await sleep(20)
  slot.process = null
  await process.kill()
  stage.lose(slot, 'killed after an answer', Math.max(from, stage.now() - 1_000))
}
