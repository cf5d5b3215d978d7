/**
 * What a large backlog costs: the rate at which a worker delivers with 1,000,000 deliveries due and 1,000,000 scheduled for
 * later, next to the rate with only as many as are measured.
 */
import postgres, { type Sql } from 'postgres'
import type { Receiver } from '../processes/receiver.ts'
import { type Child, startChild } from '../support/child-process.ts'
import { drainTogether, rateBetween } from '../support/draining-workers.ts'
import { createBenchWebhooks, seedEndpoints } from '../support/installation.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'
import { formatSpread, median, spread } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const ENDPOINTS = 1_000
const LARGE = 1_000_000
/** Receipts that are measured, after the first ones, in which a worker only begins. */
const MEASURED = 60_000
const SKIPPED = 10_000

interface Round {
  backlog: number
  round: number
  perSecond: number
  workerCpuPerThousand: number
  postgresCpuPerThousand: number
  peakMemoryMb: number
}

export const backlog: Scenario = {
  name: 'backlog',
  describe: 'deliveries per second with a million due and a million scheduled, next to a small backlog',
  async run(context) {
    const scale = context.quick ? 10 : 1
    const small = (SKIPPED + MEASURED) / scale
    const sizes = [small, LARGE / scale]
    const failures: string[] = []
    const rounds: Round[] = []
    const receiver = await startChild<Receiver>(new URL('../processes/receiver.ts', import.meta.url))
    try {
      const port = await receiver.call.listen()
      for (let round = 1; round <= context.rounds; round++) {
        for (const size of sizes) {
          const measured = await run(context, receiver, port, size, small, round, failures)
          rounds.push(measured)
          context.progress(
            `backlog of ${size.toLocaleString('en')}, round ${round}: ${measured.perSecond.toFixed(0)}/s, ` +
              `peak ${measured.peakMemoryMb.toFixed(0)} MB`,
          )
        }
      }
    } finally {
      await receiver.stop()
    }
    const smallRates = rounds.filter((one) => one.backlog === small).map((one) => one.perSecond)
    const rows = sizes.map((size) => {
      const of = rounds.filter((one) => one.backlog === size)
      return [
        `${size.toLocaleString('en')}${size === small ? '' : ' due, as many scheduled'}`,
        formatSpread(spread(of.map((one) => one.perSecond)), 0),
        formatSpread(spread(of.map((one, index) => one.perSecond / (smallRates[index] as number)))),
        (1000 * median(of.map((one) => one.workerCpuPerThousand))).toFixed(0),
        (1000 * median(of.map((one) => one.postgresCpuPerThousand))).toFixed(0),
        Math.max(...of.map((one) => one.peakMemoryMb)).toFixed(0),
      ]
    })
    const head = [
      'backlog',
      'per second',
      'to the small one',
      'CPU ms per 1,000: worker',
      'Postgres',
      'worker MB, peak',
    ]
    return { tables: [{ title: backlog.describe, text: formatTable(head, rows) }], data: rounds, failures }
  },
}

async function run(
  context: BenchContext,
  receiver: Child<Receiver>,
  port: number,
  size: number,
  small: number,
  round: number,
  failures: string[],
): Promise<Round> {
  const database = await context.postgres.createDatabase()
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  const emitter = createBenchWebhooks(database.url)
  try {
    await emitter.migrate()
    await seedEndpoints(sql, port, ENDPOINTS)
    if (size !== small) await schedule(sql, size)
    await emitted(sql, size)
    await sql.unsafe(
      'analyze posthaste.events; analyze posthaste.deliveries; analyze posthaste.retries; analyze posthaste.attempts',
    )
    const { received, workerCpu, postgresCpu, peakMemoryMb, came } = await drainTogether({
      context,
      receiver: receiver.call,
      url: database.url,
      workers: 1,
      count: small,
      timeoutMs: 180_000,
    })
    const name = `backlog of ${size}, round ${round}`
    if (!came) failures.push(`${name}: ${received.keys.length} of ${small} arrived.`)
    const again = received.keys.length - new Set(received.keys).size
    if (again > 0) failures.push(`${name}: ${again} arrived twice.`)
    return {
      backlog: size,
      round,
      perSecond: rateBetween(received.times, small - (small * MEASURED) / (SKIPPED + MEASURED), small - 1),
      workerCpuPerThousand: (workerCpu / small) * 1_000,
      postgresCpuPerThousand: (postgresCpu / small) * 1_000,
      peakMemoryMb,
    }
  } finally {
    await emitter.stop()
    await sql.end({ timeout: 5 })
    await database.drop()
  }
}

/** Events of the accounts in turn, as emit writes them, in transactions of 10,000. */
async function emitted(sql: Sql, count: number): Promise<void> {
  for (let from = 1; from <= count; from += 10_000) {
    await sql`insert into posthaste.events (account, type, data)
      select 'account-' || (1 + n % ${ENDPOINTS}::int), ${EVENT_TYPE}, ${JSON.stringify(sampleData(1))}
      from generate_series(${from}::int, ${Math.min(count, from + 9_999)}::int) n`
  }
}

/** Deliveries of older events that failed once and are to be tried again in an hour, as a worker leaves them. */
async function schedule(sql: Sql, count: number): Promise<void> {
  await emitted(sql, count)
  await sql`insert into posthaste.deliveries (id, seq, event_id, endpoint)
    select posthaste.delivery_id(e.id, e.no, 0), e.seq, e.id, e.no from (
      select id, substr(account, 9)::int no, row_number() over (order by id) seq from posthaste.events) e`
  await sql`insert into posthaste.attempts (delivery_id, number, endpoint, seq, outcome, final, step, status, at, total_ms, error)
    select id, 1, endpoint, seq, 2, false, 0, 503, clock_timestamp(), 20, 'HTTP_503' from posthaste.deliveries`
  await sql`insert into posthaste.retries (delivery_id, step, endpoint, lane, seq, event_id, number, due_at)
    select id, 1, endpoint, endpoint % 64, seq, event_id, 2, clock_timestamp() + interval '1 hour' + seq * interval '1 millisecond'
    from posthaste.deliveries`
  // All of it lies before what the dispatcher finds: these transactions are visible to its first position.
  await sql`update posthaste.dispatches set last_seq = ${count}::bigint, snap = pg_current_snapshot() where n = 0`
}
