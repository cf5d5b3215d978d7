/** What several worker processes reach together on the cores of one, in turns with one alone. */
import postgres from 'postgres'
import type { Receiver } from '../processes/receiver.ts'
import { type Child, startChild } from '../support/child-process.ts'
import { awaitRecorded, drainTogether, rateBetween } from '../support/draining-workers.ts'
import { createBenchWebhooks, emitInAdvance, seedEndpoints } from '../support/installation.ts'
import { formatSpread, median, spread } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const ENDPOINTS = 1_000
const TOTAL = 50_000

interface Round {
  workers: number
  round: number
  perSecond: number
  workerCpuPerThousand: number
  postgresCpuPerThousand: number
}

export const workers: Scenario = {
  name: 'workers',
  describe: 'deliveries per second of two workers on the cores of one, next to one',
  async run(context) {
    const total = context.quick ? TOTAL / 10 : TOTAL
    const failures: string[] = []
    const rounds: Round[] = []
    const receiver = await startChild<Receiver>(new URL('../processes/receiver.ts', import.meta.url))
    try {
      const port = await receiver.call.listen()
      for (let round = 1; round <= context.rounds; round++) {
        // One before and one after: their quotient is the A/A control.
        for (const count of [1, 2, 1]) {
          const measured = await run(context, receiver, port, total, count, round, failures)
          rounds.push(measured)
          context.progress(`workers ${count}, round ${round}: ${measured.perSecond.toFixed(0)}/s`)
        }
      }
    } finally {
      await receiver.stop()
    }
    const triples = Array.from({ length: rounds.length / 3 }, (_, index) => rounds.slice(3 * index, 3 * index + 3))
    const ratio = triples.map(([one, two, again]) => (2 * two!.perSecond) / (one!.perSecond + again!.perSecond))
    const control = triples.map(([one, , again]) => again!.perSecond / one!.perSecond)
    const rows = [1, 2].map((count) => {
      const of = rounds.filter(({ workers: number }) => number === count)
      return [
        String(count),
        median(of.map(({ perSecond }) => perSecond)).toFixed(0),
        formatSpread(spread(count === 1 ? control : ratio)),
        (1000 * median(of.map((one) => one.workerCpuPerThousand))).toFixed(0),
        (1000 * median(of.map((one) => one.postgresCpuPerThousand))).toFixed(0),
      ]
    })
    const head = ['workers', 'per second', 'to one (A/A)', 'CPU ms per 1,000: workers', 'Postgres']
    return { tables: [{ title: workers.describe, text: formatTable(head, rows) }], data: rounds, failures }
  },
}

async function run(
  context: BenchContext,
  receiver: Child<Receiver>,
  port: number,
  total: number,
  count: number,
  round: number,
  failures: string[],
): Promise<Round> {
  const database = await context.postgres.createDatabase()
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  const emitter = createBenchWebhooks(database.url)
  try {
    await emitter.migrate()
    await seedEndpoints(sql, port, ENDPOINTS)
    const expected = await emitInAdvance(emitter, ENDPOINTS, total)
    let recorded = 0
    const { received, workerCpu, postgresCpu } = await drainTogether({
      context,
      receiver: receiver.call,
      url: database.url,
      workers: count,
      count: total,
      timeoutMs: 180_000,
      async settled() {
        recorded = await awaitRecorded(sql, total)
      },
    })
    const unique = new Set(received.keys)
    const name = `workers ${count}, round ${round}`
    if (unique.size !== total || received.keys.some((key) => !expected.has(key)))
      failures.push(`${name}: ${unique.size} of ${total} deliveries arrived.`)
    if (received.keys.length !== unique.size)
      failures.push(`${name}: ${received.keys.length - unique.size} arrived twice.`)
    if (recorded !== total) failures.push(`${name}: ${recorded} of ${total} attempts are recorded.`)
    return {
      workers: count,
      round,
      perSecond: rateBetween(received.times, Math.floor(total / 50), received.times.length - 1),
      workerCpuPerThousand: (workerCpu / total) * 1_000,
      postgresCpuPerThousand: (postgresCpu / total) * 1_000,
    }
  } finally {
    await emitter.stop()
    await sql.end({ timeout: 5 })
    await database.drop()
  }
}
