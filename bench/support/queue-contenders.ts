/** What delivers in `bench storage`: ours, and the two usual ways, each with a process that emits and one that delivers. */
import postgres from 'postgres'
import type { EmittedAt, HostApplication, SteadyLoad } from '../processes/host-application.ts'
import type { OtherQueue, QueueKind } from '../processes/other-queue.ts'
import type { BenchDatabase } from './bench-database.ts'
import { startChild } from './child-process.ts'
import { accountOf, createBenchWebhooks, seedEndpoints } from './installation.ts'
import { EVENT_TYPE, sampleData } from './sample-event.ts'

export type Engine = 'posthaste' | QueueKind

export interface Contender {
  emitSteadily(load: SteadyLoad): Promise<EmittedAt[]>
  emitInBulk(count: number): Promise<void>
  stop(): Promise<void>
}

/** Delivers from now on to `endpoints` endpoints of a receiver at this port. */
export async function startContender(
  engine: Engine,
  database: BenchDatabase,
  port: number,
  endpoints: number,
): Promise<Contender> {
  return engine === 'posthaste'
    ? await startOurs(database, port, endpoints)
    : await startOther(engine, database, port, endpoints)
}

async function startOurs(database: BenchDatabase, port: number, endpoints: number): Promise<Contender> {
  const file = new URL('../processes/host-application.ts', import.meta.url)
  const [worker, host] = [await startChild<HostApplication>(file), await startChild<HostApplication>(file)]
  const bulk = createBenchWebhooks(database.url)
  await bulk.migrate()
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  await seedEndpoints(sql, port, endpoints)
  await sql.end()
  await worker.call.configure({ url: database.url })
  await host.call.configure({ url: database.url })
  await worker.call.start()
  let number = 0
  return {
    emitSteadily: (load) => host.call.emitSteadily(load),
    async emitInBulk(count) {
      const events = Array.from({ length: count }, () => ({
        type: EVENT_TYPE,
        data: sampleData(++number),
        account: accountOf(1 + (number % endpoints)),
      }))
      await bulk.emitMany(events, { tx: 'own' })
    },
    async stop() {
      await Promise.all([worker.call.stop(), host.call.stop(), bulk.stop()])
      await Promise.all([worker.stop(), host.stop()])
    },
  }
}

async function startOther(
  kind: QueueKind,
  database: BenchDatabase,
  port: number,
  endpoints: number,
): Promise<Contender> {
  const file = new URL('../processes/other-queue.ts', import.meta.url)
  const [worker, host] = [await startChild<OtherQueue>(file), await startChild<OtherQueue>(file)]
  const options = { url: database.url, kind, port, fast: true }
  await worker.call.configure({ ...options, migrate: true })
  await host.call.configure({ ...options, migrate: false })
  await worker.call.start()
  return {
    emitSteadily: (load) => host.call.emitSteadily(load),
    emitInBulk: (count) => host.call.emitInBulk({ count, endpoints }),
    async stop() {
      await Promise.all([worker.call.stop(), host.call.stop()])
      await Promise.all([worker.stop(), host.stop()])
    },
  }
}
