/** What endpoints that do not answer, or refuse connections, cost those that do. */
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Receiver } from '../processes/receiver.ts'
import { type Child, startChild } from '../support/child-process.ts'
import { accountOf } from '../support/installation.ts'
import { type Curve, drawCurves } from '../support/plot.ts'
import { type Latency, latencyOf, type RunningWorker, withWorker } from '../support/running-worker.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'
import { formatSpread, median, spread } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const TIMEOUT_MS = 60_000
const PER_SECOND = 50
const BUCKET_MS = 250
/** Nothing listens there. */
const CLOSED_PORT = 1
const PLOT = 'throughput-with-hanging-endpoints.svg'

interface Case {
  name: string
  endpoints: number
  /** The first so many of them. */
  failing: number
  how: 'hang' | 'refuse'
}

const CASES: readonly Case[] = [
  { name: '10 of 100 hang', endpoints: 100, failing: 10, how: 'hang' },
  { name: '50 of 100 hang', endpoints: 100, failing: 50, how: 'hang' },
  { name: '500 of 1,000 refuse connections', endpoints: 1_000, failing: 500, how: 'refuse' },
]

interface Measured {
  case: string
  round: number
  /** Deliveries a second to those that answer: with work for them alone, … */
  alone: number
  /** … with as much for each of the others, which answer, too, … */
  among: number
  /** … and with the others failing. */
  beside: number
  latency: Latency
  /** Deliveries a second in each quarter of a second. */
  overTime: { alone: number[]; beside: number[] }
}

export const hanging: Scenario = {
  name: 'hanging',
  describe:
    'those that answer, beside endpoints that hang or refuse: drain rate, and ms from COMMIT to receipt at 50 events/s',
  async run(context) {
    const failures: string[] = []
    const measured: Measured[] = []
    for (let round = 1; round <= context.shortRounds; round++) {
      for (const one of CASES) {
        if (!one.name.startsWith(context.only ?? '')) continue
        measured.push(await runCase(context, one, round, failures))
      }
    }
    const rows = [...new Set(measured.map((one) => one.case))].map((name) => {
      const of = measured.filter((one) => one.case === name)
      return [
        name,
        median(of.map(({ alone }) => alone)).toFixed(0),
        median(of.map(({ among }) => among)).toFixed(0),
        median(of.map(({ beside }) => beside)).toFixed(0),
        formatSpread(spread(of.map(({ among, beside }) => beside / among))),
        formatSpread(spread(of.map(({ alone, beside }) => beside / alone))),
        median(of.map(({ latency }) => latency.p50)).toFixed(0),
        median(of.map(({ latency }) => latency.p99)).toFixed(0),
      ]
    })
    const first = measured.filter(({ round, case: name }) => round === 1 && name.endsWith('hang'))
    // Figures that mean nothing are not drawn over those in the docs.
    if (!context.quick && first.length > 0) {
      const curves: Curve[] = [
        { name: 'none hangs', values: first[0]!.overTime.alone },
        ...first.map(({ case: name, overTime }) => ({ name, values: overTime.beside })),
      ]
      const file = join(resolve(import.meta.dirname, '..', '..'), 'docs', PLOT)
      writeFileSync(file, drawCurves('deliveries/s to the endpoints that answer', curves, BUCKET_MS / 1000))
      context.progress(`hanging: drawn into ${file}`)
    }
    const head = ['case', 'alone, /s', 'none fails, /s', 'they fail, /s', 'to none fails', 'to alone', 'p50', 'p99']
    return { tables: [{ title: hanging.describe, text: formatTable(head, rows) }], data: measured, failures }
  },
}

async function runCase(context: BenchContext, one: Case, round: number, failures: string[]): Promise<Measured> {
  const drain = (others: Others) => drainOnce(context, one, others, round, failures)
  const [alone, among, beside] = [await drain('idle'), await drain('answering'), await drain('failing')]
  const latency = await withFailing(context, one, async (running, others) => {
    const { worker, host, receiver } = running
    await worker.call.start()
    await sleep(2_000)
    const seconds = context.quick ? 5 : 25
    // A hundred of them, as many of which fail as of all.
    const share = (100 * one.failing) / one.endpoints
    const emitting = host.call.emitSteadily({
      perSecond: PER_SECOND,
      seconds,
      endpoints: 100,
      from: one.failing - share + 1,
    })
    // They begin in the middle of the load.
    await sleep(1_000)
    await fail(one, running, others)
    return await latencyOf(receiver, await emitting, (index) => index % 100 >= share)
  })
  if (latency.lost > 0)
    failures.push(`hanging ${one.name}, round ${round}: ${latency.lost} of ${latency.events} did not arrive.`)
  context.progress(
    `hanging ${one.name}, round ${round}: ${alone.perSecond.toFixed(0)}/s alone, ` +
      `${among.perSecond.toFixed(0)}/s where none fails, ${beside.perSecond.toFixed(0)}/s where they do, ` +
      `p99 ${latency.p99.toFixed(0)} ms`,
  )
  return {
    case: one.name,
    round,
    alone: alone.perSecond,
    among: among.perSecond,
    beside: beside.perSecond,
    latency,
    overTime: { alone: alone.overTime, beside: beside.overTime },
  }
}

/** What those endpoints do that fail in the end: nothing is emitted for them, or as much as for each of the others. */
type Others = 'idle' | 'answering' | 'failing'

/** The rate is of those that never fail, and over when they have everything. */
async function drainOnce(context: BenchContext, one: Case, their: Others, round: number, failures: string[]) {
  const answering = one.endpoints - one.failing
  const each = Math.round((context.quick ? 4_000 : 40_000) / answering)
  return await withFailing(context, one, async (running, others) => {
    const { sql, worker, receiver } = running
    if (their === 'failing') await fail(one, running, others)
    await sql`insert into posthaste.events (account, type, data)
      select ${accountOf(0).slice(0, -1)} || e, ${EVENT_TYPE}, ${JSON.stringify(sampleData(1))}
      from generate_series(1, ${each}::int) n cross join generate_series(${their === 'idle' ? one.failing + 1 : 1}::int, ${one.endpoints}::int) e`
    const startedAt = await worker.call.start()
    const came = await receiver.call.awaitCount({ count: answering * each, timeoutMs: TIMEOUT_MS })
    const { keys, times } = await receiver.call.received()
    if (!came || new Set(keys).size !== answering * each) {
      failures.push(`hanging ${one.name}, round ${round}: ${new Set(keys).size} of ${answering * each} arrived.`)
    }
    const overTime: number[] = []
    for (const time of times) {
      const bucket = Math.max(0, Math.floor((time - startedAt) / BUCKET_MS))
      while (overTime.length <= bucket) overTime.push(0)
      overTime[bucket]! += 1000 / BUCKET_MS
    }
    return { perSecond: times.length / (((times.at(-1) as number) - startedAt) / 1000), overTime }
  })
}

/** Those that are going to fail are on an origin of their own: else they hold the connections that the others want. */
async function withFailing<T>(
  context: BenchContext,
  { endpoints, failing }: Case,
  measure: (running: RunningWorker, others: Child<Receiver>) => Promise<T>,
): Promise<T> {
  const others = await startChild<Receiver>(new URL('../processes/receiver.ts', import.meta.url))
  try {
    const port = await others.call.listen()
    return await withWorker(context, endpoints, async (running) => {
      await moveTo(port, failing, running)
      return await measure(running, others)
    })
  } finally {
    await others.stop()
  }
}

async function moveTo(port: number, failing: number, { sql }: RunningWorker): Promise<void> {
  await sql`update posthaste.endpoints set url = ${`http://127.0.0.1:${port}/e/`} || no, version = version + 1 where no <= ${failing}`
}

async function fail({ failing, how }: Case, running: RunningWorker, others: Child<Receiver>): Promise<void> {
  if (how === 'hang') {
    await others.call.behave({ hang: failing, apart: 0 })
    return
  }
  await moveTo(CLOSED_PORT, failing, running)
  // As the API would: whoever serves them reads their configuration anew.
  await running.sql`insert into posthaste.commands (kind, endpoint)
    select 'config', no from posthaste.endpoints where no <= ${failing}`
}
