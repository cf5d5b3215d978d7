/** One account, or a few, have far more than the others: do these notice? */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Sql } from 'postgres'
import { accountOf } from '../support/installation.ts'
import { type Latency, latencyOf, type RunningWorker, withWorker } from '../support/running-worker.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'
import { median } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const ENDPOINTS = 1_000
const PER_SECOND = 50

interface Measured extends Latency {
  case: string
  round: number
  /** What the endpoints with bursts were sent meanwhile. */
  toThose: number
}

export const bursts: Scenario = {
  name: 'bursts',
  describe: 'ms from COMMIT to receipt for 1,000 accounts at 50 events/s, while some of them have very many events',
  async run(context) {
    const failures: string[] = []
    const measured: Measured[] = []
    for (let round = 1; round <= context.shortRounds; round++)
      measured.push(...(await runRound(context, round, failures)))
    const rows = [...new Set(measured.map((one) => one.case))].map((name) => {
      const of = measured.filter((one) => one.case === name)
      const middle = (pick: (one: Measured) => number) => median(of.map(pick)).toFixed(0)
      return [
        name,
        ...[(m: Measured) => m.p50, (m: Measured) => m.p99, (m: Measured) => m.max].map(middle),
        middle((m) => m.toThose),
      ]
    })
    const head = ['meanwhile', 'p50', 'p99', 'max', 'sent to those']
    return { tables: [{ title: bursts.describe, text: formatTable(head, rows) }], data: measured, failures }
  },
}

async function runRound(context: BenchContext, round: number, failures: string[]): Promise<Measured[]> {
  const burst = Math.round((context.quick ? 50_000 : 1_000_000) * context.scale)
  const each = Math.round(burst / 10)
  const one = await withWorker(context, ENDPOINTS, async (running) => {
    const { measured, measure } = await begin(context, round, failures, 1, running)
    await measure('nothing', async () => {})
    // The measured load comes from the host's process, the stream from the worker's.
    await measure('100,000 events a minute of one account', () =>
      running.worker.call.emitInBulk({ endpoint: 1, perSecond: 100_000 / 60, seconds: secondsOf(context), size: 50 }),
    )
    await measure(`${burst.toLocaleString('en')} events of one account in one transaction`, async () => {
      await insertAtOnce(running.sql, 1, burst)
      context.progress(`bursts: ${burst.toLocaleString('en')} committed`)
    })
    await measure('the rest of them', async () => {})
    return measured
  })
  const several = await withWorker(context, ENDPOINTS, async (running) => {
    const { measured, measure } = await begin(context, round, failures, 5, running)
    await measure(`${each.toLocaleString('en')} events of each of five accounts, at the same moment`, async () => {
      await Promise.all([1, 2, 3, 4, 5].map((endpoint) => insertAtOnce(running.sql, endpoint, each)))
    })
    return measured
  })
  return [...one, ...several]
}

const secondsOf = (context: BenchContext) => (context.quick ? 5 : 30)

async function insertAtOnce(sql: Sql, endpoint: number, count: number): Promise<void> {
  await sql`insert into posthaste.events (account, type, data)
    select ${accountOf(endpoint)}, ${EVENT_TYPE}, ${JSON.stringify(sampleData(1))} from generate_series(1, ${count}::int)`
}

/** Starts the worker; of the endpoints the first `apart` have the bursts, and the others are measured. */
async function begin(context: BenchContext, round: number, failures: string[], apart: number, running: RunningWorker) {
  const { worker, host, receiver } = running
  const measured: Measured[] = []
  await receiver.call.behave({ hang: 0, apart })
  await worker.call.start()
  await sleep(2_000)
  const measure = async (name: string, meanwhile: () => Promise<unknown>) => {
    await receiver.call.reset()
    const [emitted] = await Promise.all([
      host.call.emitSteadily({
        perSecond: PER_SECOND,
        seconds: secondsOf(context),
        endpoints: ENDPOINTS - apart,
        from: 1 + apart,
      }),
      meanwhile(),
    ])
    const latency = await latencyOf(receiver, emitted, () => true)
    const { atAside } = await receiver.call.leftOut()
    measured.push({ case: name, round, toThose: atAside, ...latency })
    if (latency.lost > 0)
      failures.push(`bursts ${name}, round ${round}: ${latency.lost} of ${latency.events} did not arrive.`)
    context.progress(`bursts ${name}, round ${round}: p50 ${latency.p50.toFixed(0)}, p99 ${latency.p99.toFixed(0)} ms`)
  }
  return { measured, measure }
}
