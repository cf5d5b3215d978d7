/** A fresh database with endpoints, a worker process and another process of the host on it, and a receiver: for one measurement. */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { EmittedAt, HostApplication } from '../processes/host-application.ts'
import type { Receiver } from '../processes/receiver.ts'
import type { BenchContext } from '../scenarios/scenario.ts'
import { type Child, startChild } from './child-process.ts'
import { CONVERSIONS_TABLE, createBenchWebhooks, seedEndpoints } from './installation.ts'
import { percentile } from './statistics.ts'

export interface RunningWorker {
  sql: postgres.Sql
  url: string
  worker: Child<HostApplication>
  /** Another process of the host, which emits. */
  host: Child<HostApplication>
  receiver: Child<Receiver>
  port: number
}

export async function withWorker<T>(
  context: BenchContext,
  endpoints: number,
  measure: (running: RunningWorker) => Promise<T>,
): Promise<T> {
  const file = new URL('../processes/host-application.ts', import.meta.url)
  const database = await context.postgres.createDatabase()
  const sql = postgres(database.url, { max: 5, onnotice: () => {} })
  const setup = createBenchWebhooks(database.url)
  const children: Child<never>[] = []
  try {
    await setup.migrate()
    await sql.unsafe(CONVERSIONS_TABLE)
    const receiver = await startChild<Receiver>(new URL('../processes/receiver.ts', import.meta.url))
    children.push(receiver as Child<never>)
    const port = await receiver.call.listen()
    await seedEndpoints(sql, port, endpoints)
    const worker = await startChild<HostApplication>(file)
    const host = await startChild<HostApplication>(file)
    children.push(worker as Child<never>, host as Child<never>)
    await worker.call.configure({ url: database.url })
    await host.call.configure({ url: database.url })
    const result = await measure({ sql, url: database.url, worker, host, receiver, port })
    await worker.call.stop()
    await host.call.stop()
    return result
  } finally {
    for (const child of children) await child.stop()
    await setup.stop()
    await sql.end({ timeout: 5 })
    await database.drop()
  }
}

export interface Latency {
  events: number
  lost: number
  p50: number
  p99: number
  max: number
}

/** From COMMIT to receipt, of what was emitted to endpoints `from` and above. */
export async function latencyOf(
  receiver: Child<Receiver>,
  emitted: readonly EmittedAt[],
  isMeasured: (index: number) => boolean,
): Promise<Latency> {
  const measured = emitted.filter((_, index) => isMeasured(index))
  // What is late is waited for; what is lost is told.
  for (let tries = 0; ; tries++) {
    const { keys, times } = await receiver.call.received()
    const at = new Map(keys.map((key, index) => [key.slice(key.indexOf(' ') + 1), times[index] as number]))
    const lost = measured.filter(({ id }) => !at.has(id)).length
    if (lost > 0 && tries < 40) {
      await sleep(500)
      continue
    }
    const ms = measured.map((event) => (at.get(event.id) ?? Number.POSITIVE_INFINITY) - event.at)
    return {
      events: measured.length,
      lost,
      p50: percentile(ms, 0.5),
      p99: percentile(ms, 0.99),
      max: Math.max(...ms),
    }
  }
}
