/** Does it cost anything to have endpoints beside one that did not subscribe? */
import postgres from 'postgres'
import { accountOf } from '../support/installation.ts'
import { withWorker } from '../support/running-worker.ts'
import { sampleData } from '../support/sample-event.ts'
import { formatSpread, median, spread } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const ENDPOINTS = 100
const TIMEOUT_MS = 120_000

interface Measured {
  types: number
  round: number
  perSecond: number
  deliveries: number
  /** Transactions of the database meanwhile, of which each statement of a worker is one. */
  statements: number
}

export const types: Scenario = {
  name: 'types',
  describe: 'drain of 100 endpoints of one account, each on an event type of its own, next to all on one type',
  async run(context) {
    const failures: string[] = []
    const measured: Measured[] = []
    // In turns, as each is the other's floor.
    for (let round = 1; round <= Math.max(2, context.shortRounds); round++) {
      for (const count of round % 2 === 0 ? [1, ENDPOINTS] : [ENDPOINTS, 1])
        measured.push(await runOnce(context, count, round, failures))
      if (context.quick) break
    }
    const of = (count: number) => measured.filter((one) => one.types === count)
    const ratios = of(ENDPOINTS).map((one) => one.perSecond / of(1).find(({ round }) => round === one.round)!.perSecond)
    const rows = [1, ENDPOINTS].map((count) => [
      count === 1 ? 'all on one type' : 'each on its own',
      median(of(count).map((one) => one.perSecond)).toFixed(0),
      count === 1 ? '' : formatSpread(spread(ratios)),
      median(of(count).map((one) => one.deliveries)).toFixed(0),
      median(of(count).map((one) => one.statements)).toFixed(0),
    ])
    const head = ['100 endpoints', 'deliveries/s', 'ratio', 'rows of deliveries', 'statements']
    return { tables: [{ title: types.describe, text: formatTable(head, rows) }], data: measured, failures }
  },
}

async function runOnce(context: BenchContext, count: number, round: number, failures: string[]): Promise<Measured> {
  const total = context.quick ? 5_000 : 50_000
  return await withWorker(context, ENDPOINTS, async ({ sql, url, worker, receiver }) => {
    await sql`update posthaste.endpoints set account = ${accountOf(1)}`
    await sql`delete from posthaste.subscriptions`
    await sql`insert into posthaste.subscriptions (account, pattern, endpoint)
      select account, 'bench.t' || (no % ${count}::int), no from posthaste.endpoints`
    // As many deliveries either way: an event on the one type is a hundred.
    await sql`insert into posthaste.events (account, type, data)
      select ${accountOf(1)}, 'bench.t' || (n % ${count}::int), ${JSON.stringify(sampleData(1))}
      from generate_series(1, ${(total * count) / ENDPOINTS}::int) n`
    await sql.unsafe('analyze posthaste.endpoints; analyze posthaste.subscriptions')
    const before = await transactions(url)
    const startedAt = await worker.call.start()
    const came = await receiver.call.awaitCount({ count: total, timeoutMs: TIMEOUT_MS })
    const { keys, times } = await receiver.call.received()
    if (!came || new Set(keys).size !== total)
      failures.push(`types ${count}, round ${round}: ${keys.length} of ${total} came.`)
    const perSecond = total / (((times.at(-1) as number) - startedAt) / 1000)
    await worker.call.stop()
    const [row] = await sql`select count(*)::int n from posthaste.deliveries`
    const after = await transactions(url)
    context.progress(`types: ${count} types, round ${round}: ${perSecond.toFixed(0)}/s`)
    return { types: count, round, perSecond, deliveries: row?.n as number, statements: after - before }
  })
}

/** By a connection of its own, whose end makes the server write its counts; those of the worker are written when it stops. */
async function transactions(url: string): Promise<number> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  const [row] = await sql`select xact_commit::int n from pg_stat_database where datname = current_database()`
  await sql.end()
  return row?.n as number
}
