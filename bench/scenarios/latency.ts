/** From a host's COMMIT to the receipt: while all is idle, and under a steady load of many endpoints with one event each. */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { EmittedAt, HostApplication } from '../processes/host-application.ts'
import type { Receiver } from '../processes/receiver.ts'
import { type Child, startChild } from '../support/child-process.ts'
import { createBenchWebhooks, seedEndpoints } from '../support/installation.ts'
import { cpuSeconds } from '../support/process-usage.ts'
import { median, percentile } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import { profileOptions } from './drain.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const PER_SECOND = 500
const STEADY_SECONDS = 20
const STEADY_ENDPOINTS = 10_000

interface Round {
  case: string
  round: number
  events: number
  p50: number
  p99: number
  max: number
  workerCpuPerThousand: number | null
  postgresCpuPerThousand: number | null
  /** What the same emits cost Postgres with no worker. */
  emitCpuPerThousand: number | null
}

export const latency: Scenario = {
  name: 'latency',
  describe: 'ms from COMMIT to receipt; CPU ms per 1,000 deliveries under a steady load',
  async run(context) {
    const receiver = await startChild<Receiver>(new URL('../processes/receiver.ts', import.meta.url))
    const failures: string[] = []
    const rounds: Round[] = []
    try {
      const port = await receiver.call.listen()
      for (let round = 1; round <= context.rounds; round++) {
        rounds.push(...(await runRound(context, receiver, port, round, failures)))
      }
    } finally {
      await receiver.stop()
    }
    const rows = [...new Set(rounds.map((round) => round.case))].map((name) => {
      const of = rounds.filter((round) => round.case === name)
      const middle = (pick: (round: Round) => number | null, digits = 0) => {
        const numbers = of.map(pick).filter((number) => number !== null)
        return numbers.length === 0 ? '–' : median(numbers).toFixed(digits)
      }
      return [
        name,
        middle((round) => round.p50, 1),
        middle((round) => round.p99, 1),
        middle((round) => round.max, 1),
        middle((round) => round.workerCpuPerThousand),
        middle((round) => round.postgresCpuPerThousand),
        middle((round) => round.emitCpuPerThousand),
      ]
    })
    const head = ['load', 'p50', 'p99', 'max', 'worker CPU', 'Postgres CPU', 'of it emits']
    return { tables: [{ title: latency.describe, text: formatTable(head, rows) }], data: rounds, failures }
  },
}

async function runRound(
  context: BenchContext,
  receiver: Child<Receiver>,
  port: number,
  round: number,
  failures: string[],
): Promise<Round[]> {
  const database = await context.postgres.createDatabase()
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  const setup = createBenchWebhooks(database.url)
  const file = new URL('../processes/host-application.ts', import.meta.url)
  const worker = await startChild<HostApplication>(file, profileOptions(context, `worker latency ${round}`))
  const other = await startChild<HostApplication>(file)
  const seconds = context.quick ? 3 : STEADY_SECONDS
  const rounds: Round[] = []

  async function measure(name: string, emit: () => Promise<EmittedAt[]>, emitCpuPerThousand: number | null) {
    await receiver.call.reset()
    const usage = () => ({ worker: cpuSeconds(worker.pid), postgres: context.postgres.cpuSeconds() })
    const before = usage()
    const emitted = await emit()
    const came = await receiver.call.awaitCount({ count: emitted.length, timeoutMs: 10_000 })
    const after = usage()
    // Whatever came twice would come by now.
    await sleep(200)
    const { keys, times } = await receiver.call.received()
    const receivedAt = new Map(keys.map((key, index) => [key.slice(key.indexOf(' ') + 1), times[index] as number]))
    if (!came || keys.length !== emitted.length || emitted.some(({ id }) => !receivedAt.has(id))) {
      failures.push(`latency ${name}, round ${round}: ${emitted.length} emitted, ${keys.length} came.`)
    }
    const ms = emitted.map(({ id, at }) => (receivedAt.get(id) ?? Number.POSITIVE_INFINITY) - at)
    const perThousand = (seconds: number) => (emitCpuPerThousand === null ? null : (seconds / emitted.length) * 1e6)
    const result = {
      case: name,
      round,
      events: emitted.length,
      p50: percentile(ms, 0.5),
      p99: percentile(ms, 0.99),
      max: Math.max(...ms),
      workerCpuPerThousand: perThousand(after.worker - before.worker),
      postgresCpuPerThousand: perThousand(after.postgres - before.postgres),
      emitCpuPerThousand,
    }
    rounds.push(result)
    context.progress(`latency ${name}, round ${round}: p50 ${result.p50.toFixed(1)}, p99 ${result.p99.toFixed(1)} ms`)
  }

  try {
    await setup.migrate()
    await sql.unsafe(`create table conversions (id bigint generated always as identity primary key, affiliate_id int not null,
      order_id int not null, amount numeric(12, 2) not null, created_at timestamptz not null default now())`)
    await seedEndpoints(sql, port, STEADY_ENDPOINTS)
    await worker.call.configure({ url: database.url })
    await other.call.configure({ url: database.url })
    // To an account that nobody listens to, before a worker runs.
    const emitSeconds = Math.min(seconds, 5)
    const before = context.postgres.cpuSeconds()
    await other.call.emitSteadily({
      perSecond: PER_SECOND,
      seconds: emitSeconds,
      endpoints: 1,
      from: STEADY_ENDPOINTS + 1,
    })
    const emitCpu = ((context.postgres.cpuSeconds() - before) / (PER_SECOND * emitSeconds)) * 1e6
    await worker.call.start()
    await sleep(2_000)

    const now = { count: context.quick ? 20 : 100, pauseMs: 150, endpoint: 1 }
    const steady = { perSecond: PER_SECOND, seconds, endpoints: STEADY_ENDPOINTS, from: 1 }
    await measure('idle, emitted in the worker process', () => worker.call.emitNowAndThen(now), null)
    await measure('idle, emitted in another process', () => other.call.emitNowAndThen(now), null)
    await measure('500/s to 10,000, in the worker process', () => worker.call.emitSteadily(steady), emitCpu)
    await measure('500/s to 10,000, in another process', () => other.call.emitSteadily(steady), emitCpu)
    await worker.call.stop()
    await other.call.stop()
  } finally {
    await worker.stop()
    await other.stop()
    await setup.stop()
    await sql.end({ timeout: 5 })
    await database.drop()
  }
  return rounds
}
