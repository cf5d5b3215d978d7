/**
 * How fast one worker process empties a backlog, next to a bare undici loop that sends the same signed requests from memory.
 * Each worker runs between two loops, whose quotient shows the noise; each has a fresh process, and the worker a fresh
 * database, so that rounds are alike.
 */
import { availableParallelism } from 'node:os'
import postgres from 'postgres'
import type { HostApplication } from '../processes/host-application.ts'
import type { Receiver } from '../processes/receiver.ts'
import type { UndiciLoop } from '../processes/undici-loop.ts'
import { type Child, startChild } from '../support/child-process.ts'
import { awaitRecorded } from '../support/draining-workers.ts'
import { createBenchWebhooks, emitInAdvance, seedEndpoints } from '../support/installation.ts'
import { cpuSeconds, machineCpuSeconds, memoryMb, peakMemoryMb } from '../support/process-usage.ts'
import { formatSpread, median, spread } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const TIMEOUT_MS = 180_000

interface Shape {
  endpoints: number
  each: number
}

interface Round {
  shape: string
  round: number
  /** The loop right before the worker and right after it: their quotient is the A/A control. */
  before: LoopResult
  worker: WorkerResult
  after: LoopResult
}

interface LoopResult {
  perSecond: number
  cpuPerThousand: number
  receiverBusy: number
}

interface WorkerResult extends LoopResult {
  postgresCpuPerThousand: number
  /** Once dispatching began, before anything was delivered. */
  startMemoryMb: number
  peakMemoryMb: number
  /** CPU seconds of everything else on the machine, as a share of its cores' time. */
  othersBusy: number
  connections: number
}

export const drain: Scenario = {
  name: 'drain',
  describe: 'deliveries per second of one worker emptying a backlog, next to a bare undici loop',
  async run(context) {
    const scale = context.quick ? 10 : 1
    const allShapes: Shape[] = [
      { endpoints: 1, each: 50_000 / scale },
      { endpoints: 100, each: 500 / scale },
      { endpoints: 1_000, each: 50 / scale },
      { endpoints: 50_000 / scale, each: 1 },
    ]
    const shapes = allShapes.filter((shape) => shapeName(shape).startsWith(context.only ?? ''))
    const receiver = await startChild<Receiver>(new URL('../processes/receiver.ts', import.meta.url))
    const failures: string[] = []
    const rounds: Round[] = []
    try {
      const port = await receiver.call.listen()
      for (let round = 1; round <= context.rounds; round++) {
        for (const shape of shapes) {
          const name = shapeName(shape)
          const label = `${name}, round ${round}`
          const before = await runLoop(context, receiver, port, shape, label)
          const worker = await runWorker(context, receiver, port, shape, label, failures)
          const after = await runLoop(context, receiver, port, shape, `${label}, after`)
          const measured = { shape: name, round, before, worker, after }
          rounds.push(measured)
          context.progress(
            `drain ${label}: loop ${before.perSecond.toFixed(0)}/s and ${after.perSecond.toFixed(0)}/s, ` +
              `worker ${worker.perSecond.toFixed(0)}/s, ratio ${ratioOf(measured).toFixed(2)}`,
          )
        }
      }
    } finally {
      await receiver.stop()
    }
    const rows = shapes.map((shape) => {
      const of = rounds.filter((round) => round.shape === shapeName(shape))
      const ms = (seconds: number) => (seconds * 1000).toFixed(0)
      return [
        shapeName(shape),
        median(of.flatMap(({ before, after }) => [before.perSecond, after.perSecond])).toFixed(0),
        median(of.map(({ worker }) => worker.perSecond)).toFixed(0),
        formatSpread(spread(of.map(ratioOf))),
        formatSpread(spread(of.map(({ before, after }) => after.perSecond / before.perSecond))),
        ms(median(of.flatMap(({ before, after }) => [before.cpuPerThousand, after.cpuPerThousand]))),
        ms(median(of.map(({ worker }) => worker.cpuPerThousand))),
        ms(median(of.map(({ worker }) => worker.postgresCpuPerThousand))),
        `${median(of.map(({ worker }) => worker.startMemoryMb)).toFixed(0)} → ${median(of.map(({ worker }) => worker.peakMemoryMb)).toFixed(0)}`,
        `${Math.round(100 * Math.max(...of.flatMap(({ before, after }) => [before.receiverBusy, after.receiverBusy])))} %`,
        `${Math.round(100 * median(of.map(({ worker }) => worker.othersBusy)))} %`,
      ]
    })
    const head = [
      'endpoints × deliveries',
      'loop/s',
      'worker/s',
      'ratio',
      'A/A',
      'CPU ms per 1,000: loop',
      'worker',
      'Postgres',
      'worker MB',
      'receiver ≤',
      'others',
    ]
    return { tables: [{ title: drain.describe, text: formatTable(head, rows) }], data: rounds, failures }
  },
}

/** The worker's rate as a part of the loop's, whose rate is the mean of right before and right after. */
function ratioOf({ before, worker, after }: Round): number {
  return (2 * worker.perSecond) / (before.perSecond + after.perSecond)
}

function shapeName({ endpoints, each }: Shape): string {
  return `${endpoints.toLocaleString('en')} × ${each.toLocaleString('en')}`
}

/** As many connections as the worker has by its defaults: 50 for one endpoint, 100 for one origin. */
function concurrencyOf({ endpoints }: Shape): number {
  return endpoints === 1 ? 50 : 100
}

async function runLoop(
  context: BenchContext,
  receiver: Child<Receiver>,
  port: number,
  shape: Shape,
  name: string,
): Promise<LoopResult> {
  const total = shape.endpoints * shape.each
  await receiver.call.reset()
  const loop = await startChild<UndiciLoop>(
    new URL('../processes/undici-loop.ts', import.meta.url),
    profileOptions(context, `loop ${name}`),
  )
  try {
    const before = { loop: cpuSeconds(loop.pid), receiver: cpuSeconds(receiver.pid) }
    const { startedAt, failed } = await loop.call.run({
      port,
      endpoints: shape.endpoints,
      total,
      concurrency: concurrencyOf(shape),
    })
    const after = { loop: cpuSeconds(loop.pid), receiver: cpuSeconds(receiver.pid) }
    const { times } = await receiver.call.received()
    if (times.length !== total || failed > 0) throw new Error(`The loop sent ${total}, and ${times.length} came.`)
    const seconds = ((times.at(-1) as number) - startedAt) / 1000
    return {
      perSecond: total / seconds,
      cpuPerThousand: ((after.loop - before.loop) / total) * 1000,
      receiverBusy: (after.receiver - before.receiver) / seconds,
    }
  } finally {
    await loop.stop()
  }
}

async function runWorker(
  context: BenchContext,
  receiver: Child<Receiver>,
  port: number,
  shape: Shape,
  name: string,
  failures: string[],
): Promise<WorkerResult> {
  const total = shape.endpoints * shape.each
  const database = await context.postgres.createDatabase()
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  const emitter = createBenchWebhooks(database.url)
  try {
    await emitter.migrate()
    await seedEndpoints(sql, port, shape.endpoints)
    const expected = await emitInAdvance(emitter, shape.endpoints, total)
    await emitter.stop()
    await receiver.call.reset()
    const worker = await startChild<HostApplication>(new URL('../processes/host-application.ts', import.meta.url), [
      ...context.workerFlags,
      ...profileOptions(context, `worker ${name}`),
    ])
    try {
      await worker.call.configure({ url: database.url })
      const usage = () => ({
        worker: cpuSeconds(worker.pid),
        receiver: cpuSeconds(receiver.pid),
        postgres: context.postgres.cpuSeconds(),
        own: process.cpuUsage(),
        machine: machineCpuSeconds(),
      })
      const before = usage()
      const startedAt = await worker.call.start()
      const startMemory = memoryMb(worker.pid)
      const came = await receiver.call.awaitCount({ count: total, timeoutMs: TIMEOUT_MS })
      const after = usage()
      // The last group of results is written after the last receipt.
      const recorded = await awaitRecorded(sql, total)
      const { keys, times, connections } = await receiver.call.received()
      const unique = new Set(keys)
      if (!came || unique.size !== expected.size || [...unique].some((key) => !expected.has(key))) {
        failures.push(`drain ${name}: ${unique.size} of ${total} deliveries arrived.`)
      }
      if (keys.length !== unique.size) failures.push(`drain ${name}: ${keys.length - unique.size} arrived twice.`)
      if (recorded !== total) failures.push(`drain ${name}: ${recorded} of ${total} attempts are recorded.`)
      const seconds = ((times.at(-1) as number) - startedAt) / 1000
      const ours =
        after.worker -
        before.worker +
        after.receiver -
        before.receiver +
        after.postgres -
        before.postgres +
        (after.own.user + after.own.system - before.own.user - before.own.system) / 1e6
      const peak = peakMemoryMb(worker.pid)
      await worker.call.stop()
      return {
        perSecond: total / seconds,
        cpuPerThousand: ((after.worker - before.worker) / total) * 1000,
        postgresCpuPerThousand: ((after.postgres - before.postgres) / total) * 1000,
        receiverBusy: (after.receiver - before.receiver) / seconds,
        startMemoryMb: startMemory,
        peakMemoryMb: peak,
        othersBusy: Math.max(0, after.machine - before.machine - ours) / seconds / availableParallelism(),
        connections,
      }
    } finally {
      await worker.stop()
    }
  } finally {
    await emitter.stop()
    await sql.end({ timeout: 5 })
    await database.drop()
  }
}

export function profileOptions(context: BenchContext, name: string): string[] {
  return context.profileFolder === null
    ? []
    : [
        '--cpu-prof',
        `--cpu-prof-dir=${context.profileFolder}`,
        `--cpu-prof-name=${name.replaceAll(/[^0-9a-z]+/g, '-')}.cpuprofile`,
      ]
}
