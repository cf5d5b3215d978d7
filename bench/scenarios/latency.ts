/**
 * From a host's COMMIT to the receipt: while all is idle, and under a steady load of many endpoints with one event each. Next to
 * that load, in the same run, what it costs to give each delivery a graphile-worker job.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { EmittedAt, HostApplication, SteadyLoad } from '../processes/host-application.ts'
import type { OtherQueue } from '../processes/other-queue.ts'
import type { Receiver } from '../processes/receiver.ts'
import { type Child, startChild } from '../support/child-process.ts'
import { CONVERSIONS_TABLE, createBenchWebhooks, seedEndpoints } from '../support/installation.ts'
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
        const running = { context, receiver, port, round, failures, rounds }
        await runOurs(running)
        await runJobs(running)
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

interface Running {
  context: BenchContext
  receiver: Child<Receiver>
  port: number
  round: number
  failures: string[]
  rounds: Round[]
}

interface Measurement {
  name: string
  workerPid: number
  emit(): Promise<EmittedAt[]>
  /** Null where CPU means nothing, since most of the time nothing happens. */
  emitCpuPerThousand: number | null
}

async function measure(running: Running, measurement: Measurement): Promise<void> {
  const { context, receiver, round, failures, rounds } = running
  const { name, workerPid, emit, emitCpuPerThousand } = measurement
  await receiver.call.reset()
  const usage = () => ({ worker: cpuSeconds(workerPid), postgres: context.postgres.cpuSeconds() })
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

/** What the emits of the steady load cost Postgres by themselves, before a worker runs: CPU ms per 1,000. */
async function emitCost(context: BenchContext, emit: (load: SteadyLoad) => Promise<unknown>, from: number) {
  const seconds = context.quick ? 3 : 5
  const before = context.postgres.cpuSeconds()
  await emit({ perSecond: PER_SECOND, seconds, endpoints: 1, from })
  return ((context.postgres.cpuSeconds() - before) / (PER_SECOND * seconds)) * 1e6
}

function steadyLoad(context: BenchContext): SteadyLoad {
  return {
    perSecond: PER_SECOND,
    seconds: context.quick ? 3 : STEADY_SECONDS,
    endpoints: STEADY_ENDPOINTS,
    from: 1,
  }
}

async function runOurs(running: Running): Promise<void> {
  const { context, port, round } = running
  const database = await context.postgres.createDatabase()
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  const setup = createBenchWebhooks(database.url)
  const file = new URL('../processes/host-application.ts', import.meta.url)
  const worker = await startChild<HostApplication>(file, profileOptions(context, `worker latency ${round}`))
  const other = await startChild<HostApplication>(file)
  try {
    await setup.migrate()
    await sql.unsafe(CONVERSIONS_TABLE)
    await seedEndpoints(sql, port, STEADY_ENDPOINTS)
    await worker.call.configure({ url: database.url })
    await other.call.configure({ url: database.url })
    // To an account that nobody listens to.
    const emitCpu = await emitCost(context, other.call.emitSteadily, STEADY_ENDPOINTS + 1)
    await worker.call.start()
    await sleep(2_000)

    const emitters = [
      ['in the worker process', worker],
      ['in another process', other],
    ] as const
    const now = { count: context.quick ? 20 : 100, pauseMs: 150, endpoint: 1 }
    for (const [where, emitter] of emitters) {
      await measure(running, {
        name: `idle, emitted ${where}`,
        workerPid: worker.pid,
        emit: () => emitter.call.emitNowAndThen(now),
        emitCpuPerThousand: null,
      })
    }
    for (const [where, emitter] of emitters) {
      await measure(running, {
        name: `${PER_SECOND}/s to ${STEADY_ENDPOINTS.toLocaleString('en')}, ${where}`,
        workerPid: worker.pid,
        emit: () => emitter.call.emitSteadily(steadyLoad(context)),
        emitCpuPerThousand: emitCpu,
      })
    }
    await worker.call.stop()
    await other.call.stop()
  } finally {
    await worker.stop()
    await other.stop()
    await setup.stop()
    await sql.end({ timeout: 5 })
    await database.drop()
  }
}

/** The same load from another process, with a job for each delivery: it looks nothing up, signs nothing and keeps no log. */
async function runJobs(running: Running): Promise<void> {
  const { context, port } = running
  for (const fast of [false, true]) {
    const database = await context.postgres.createDatabase()
    const sql = postgres(database.url, { max: 1, onnotice: () => {} })
    const file = new URL('../processes/other-queue.ts', import.meta.url)
    const [worker, host] = [await startChild<OtherQueue>(file), await startChild<OtherQueue>(file)]
    try {
      await sql.unsafe(CONVERSIONS_TABLE)
      const options = { url: database.url, kind: 'graphile-worker' as const, port, fast }
      await worker.call.configure({ ...options, migrate: true })
      await host.call.configure({ ...options, migrate: false })
      const emitCpu = await emitCost(context, host.call.emitSteadily, 1)
      await sql`truncate graphile_worker._private_jobs`
      await worker.call.start()
      await sleep(2_000)
      await measure(running, {
        name: `${PER_SECOND}/s, a graphile-worker job each, ${fast ? 'its fastest settings' : 'its defaults'}`,
        workerPid: worker.pid,
        emit: () => host.call.emitSteadily(steadyLoad(context)),
        emitCpuPerThousand: emitCpu,
      })
      await worker.call.stop()
      await host.call.stop()
    } finally {
      await worker.stop()
      await host.stop()
      await sql.end({ timeout: 5 })
      await database.drop()
    }
  }
}
