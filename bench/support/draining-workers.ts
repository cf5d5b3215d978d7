/** Worker processes that empty a backlog together, watched from the moment they begin. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Sql } from 'postgres'
import type { HostApplication } from '../processes/host-application.ts'
import type { Received, ReceiverCalls } from '../processes/receiver.ts'
import type { BenchContext } from '../scenarios/scenario.ts'
import { startChild } from './child-process.ts'
import { cpuSeconds, peakMemoryMb } from './process-usage.ts'

export interface Draining {
  received: Received
  /** Wall clock in ms when the first of them was asked to begin. */
  startedAt: number
  /** CPU seconds of all of them, and of Postgres, until the awaited count had come. */
  workerCpu: number
  postgresCpu: number
  peakMemoryMb: number
  came: boolean
}

export interface DrainingOptions {
  context: BenchContext
  receiver: ReceiverCalls
  url: string
  workers: number
  /** Receipts to wait for. */
  count: number
  timeoutMs: number
  /** Called before the workers stop. */
  settled?(): Promise<void>
}

export async function drainTogether(options: DrainingOptions): Promise<Draining> {
  const { context, receiver, url, workers, count, timeoutMs, settled } = options
  const file = new URL('../processes/host-application.ts', import.meta.url)
  const start = () => startChild<HostApplication>(file, context.workerFlags)
  const children = await Promise.all(Array.from({ length: workers }, start))
  try {
    for (const child of children) await child.call.configure({ url })
    await receiver.reset()
    const cpu = () => children.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0)
    const before = { workers: cpu(), postgres: context.postgres.cpuSeconds() }
    const startedAt = performance.timeOrigin + performance.now()
    const started = children.map((child) => child.call.start())
    const came = await receiver.awaitCount({ count, timeoutMs })
    const workerCpu = cpu() - before.workers
    const postgresCpu = context.postgres.cpuSeconds() - before.postgres
    await Promise.all(started)
    await settled?.()
    const peak = Math.max(...children.map(({ pid }) => peakMemoryMb(pid)))
    const received = await receiver.received()
    await Promise.all(children.map((child) => child.call.stop()))
    return { received, startedAt, workerCpu, postgresCpu, peakMemoryMb: peak, came }
  } finally {
    await Promise.all(children.map((child) => child.stop()))
  }
}

/** Receipts a second between receipt number `from` and number `to`, so that starting and stopping are no part of it. */
export function rateBetween(times: Float64Array, from: number, to: number): number {
  const [first, last] = [times[from] as number, times[to] as number]
  return ((to - from) / (last - first)) * 1_000
}

/** Waits until so many successes are recorded; answers how many there are after at most five seconds. */
export async function awaitRecorded(sql: Sql, total: number): Promise<number> {
  for (let tries = 0; ; tries++) {
    const [row] = await sql`select count(*)::int n from posthaste.attempts where outcome = 1 and final`
    if (row?.n === total || tries >= 50) return row?.n as number
    await sleep(100)
  }
}
