/**
 * When the machine gave us no time: how late a timer of this process is, and how long the kernel had processes of the run wait
 * for a core that were ready to run. A bound that was missed then says something about the machine. Neither can be caused by
 * what is judged waiting, hanging or looping: a process that loops runs.
 */
import { readFileSync } from 'node:fs'
import type { Stall } from './testimony.ts'

const EVERY_MS = 100
/** Less than this of one interval is a busy machine; with this there is next to nothing left. */
const LEAST_MS = 80

export interface StallMeter {
  readonly stalls: readonly Stall[]
  stop(): void
}

/** `pids`: whose waiting counts, at any time. */
export function startStallMeter(pids: () => readonly number[]): StallMeter {
  const stalls: Stall[] = []
  let waited = new Map<number, number>()
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    const took = now - last
    last = now
    const worst = { ms: took - EVERY_MS, who: 'the judge' }
    const before = waited
    waited = new Map()
    for (const pid of pids()) {
      const total = waitedForCore(pid)
      if (total === null) continue
      waited.set(pid, total)
      const ms = total - (before.get(pid) ?? total)
      if (ms > worst.ms) Object.assign(worst, { ms, who: `worker process ${pid}` })
    }
    const ms = Math.min(worst.ms, took)
    const to = Date.now()
    if (ms >= LEAST_MS) stalls.push({ from: to - took, to, ms, who: worst.who })
  }, EVERY_MS)
  return { stalls, stop: () => clearInterval(timer) }
}

/** In ms, since it started; null where the system does not tell. Of its main thread, in which JavaScript runs. */
function waitedForCore(pid: number): number | null {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6
  } catch {
    return null
  }
}
