/** One account has far more than the others: do these notice? */
import { setTimeout as sleep } from 'node:timers/promises'
import { accountOf } from '../support/installation.ts'
import { type Latency, latencyOf, withWorker } from '../support/running-worker.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'
import { median } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const ENDPOINTS = 1_000
const PER_SECOND = 50

interface Measured extends Latency {
  case: string
  round: number
  /** What the one account's endpoint was sent meanwhile. */
  toTheOne: number
}

export const bursts: Scenario = {
  name: 'bursts',
  describe:
    'ms from COMMIT to receipt for 999 accounts at 50 events/s, while one account has a million events or a stream',
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
        middle((m) => m.toTheOne),
      ]
    })
    const head = ['meanwhile', 'p50', 'p99', 'max', 'sent to the one']
    return { tables: [{ title: bursts.describe, text: formatTable(head, rows) }], data: measured, failures }
  },
}

async function runRound(context: BenchContext, round: number, failures: string[]): Promise<Measured[]> {
  const seconds = context.quick ? 5 : 30
  const burst = Math.round((context.quick ? 50_000 : 1_000_000) * context.scale)
  return await withWorker(context, ENDPOINTS, async ({ sql, worker, host, receiver }) => {
    const measured: Measured[] = []
    await receiver.call.behave({ hang: 0, apart: 1 })
    await worker.call.start()
    await sleep(2_000)
    const measure = async (name: string, meanwhile: () => Promise<unknown>) => {
      await receiver.call.reset()
      // The measured load comes from the host's process, the stream from the worker's.
      const [emitted] = await Promise.all([
        host.call.emitSteadily({ perSecond: PER_SECOND, seconds, endpoints: ENDPOINTS - 1, from: 2 }),
        meanwhile(),
      ])
      const latency = await latencyOf(receiver, emitted, () => true)
      const { atAside } = await receiver.call.leftOut()
      measured.push({ case: name, round, toTheOne: atAside, ...latency })
      if (latency.lost > 0)
        failures.push(`bursts ${name}, round ${round}: ${latency.lost} of ${latency.events} did not arrive.`)
      context.progress(
        `bursts ${name}, round ${round}: p50 ${latency.p50.toFixed(0)}, p99 ${latency.p99.toFixed(0)} ms`,
      )
    }
    await measure('nothing', async () => {})
    await measure('100,000 events a minute of one account', () =>
      worker.call.emitInBulk({ endpoint: 1, perSecond: 100_000 / 60, seconds, size: 50 }),
    )
    await measure(`${burst.toLocaleString('en')} events of one account in one transaction`, async () => {
      await sql`insert into posthaste.events (account, type, data)
        select ${accountOf(1)}, ${EVENT_TYPE}, ${JSON.stringify(sampleData(1))} from generate_series(1, ${burst}::int)`
      context.progress(`bursts: ${burst.toLocaleString('en')} committed`)
    })
    await measure('the rest of them', async () => {})
    return measured
  })
}
