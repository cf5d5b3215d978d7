/**
 * What one emit adds to a host's transaction, next to the same transaction with one plain insert of the same payload. No
 * worker runs. The variants take turns in short slices, in another order each time, so that whatever else the machine
 * does hits all of them.
 */
import type { affiliateEvents, EventData } from '@posthaste/core'
import postgres from 'postgres'
import { type BenchWebhooks, CONVERSIONS_TABLE, createBenchWebhooks } from '../support/installation.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'
import { formatSpread, median, spread } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { Scenario } from './scenario.ts'

const ACCOUNT = 'account-1'
const SLICE_MS = 150
const SLICES = 21
const BULK_EVENTS = 1_000
const BULK_TRANSACTIONS = 21

/** The business part of each transaction, and two tables of a host that keeps its own outbox: floor and control. */
const HOST_TABLES = `
  ${CONVERSIONS_TABLE};
  create table outbox_floor (id uuid primary key default uuidv7(), account text not null, type text not null, data text not null,
    occurred_at timestamptz not null default clock_timestamp());
  create table outbox_control (like outbox_floor including all);`

type Host = { sql: postgres.Sql; webhooks: BenchWebhooks }
type Variant = (host: Host, number: number) => Promise<unknown>

const plainInsert =
  (table: string): Variant =>
  ({ sql }, number) =>
    sql.begin(async (tx) => {
      await business(tx, number)
      await tx`insert into ${tx(table)} (account, type, data)
        values (${ACCOUNT}, ${EVENT_TYPE}, ${JSON.stringify(sampleData(number))}) returning id::text`
    })

const SINGLE: Record<'floor' | 'emit' | 'control', Variant> = {
  floor: plainInsert('outbox_floor'),
  emit: ({ sql, webhooks }, number) =>
    sql.begin(async (tx) => {
      await business(tx, number)
      await webhooks.emit(EVENT_TYPE, sampleData(number), { tx, account: ACCOUNT })
    }),
  control: plainInsert('outbox_control'),
}

const bulkInsert =
  (table: string): Variant =>
  ({ sql }, number) =>
    sql.begin(async (tx) => {
      await business(tx, number)
      const rows = bulkNumbers(number).map((each) => ({
        account: ACCOUNT,
        type: EVENT_TYPE,
        data: JSON.stringify(sampleData(each)),
      }))
      await tx`insert into ${tx(table)} ${tx(rows)} returning id::text`
    })

const BULK: Record<'floor' | 'emit' | 'control', Variant> = {
  floor: bulkInsert('outbox_floor'),
  emit: ({ sql, webhooks }, number) =>
    sql.begin(async (tx) => {
      await business(tx, number)
      const events = bulkNumbers(number).map((each) => ({
        type: EVENT_TYPE,
        data: sampleData(each),
        account: ACCOUNT,
      }))
      await webhooks.emitMany(events, { tx })
    }),
  control: bulkInsert('outbox_control'),
}

/** Of a type that is stored only while somebody subscribes, and nobody does: a look, and no row. Next to the least there is. */
const UNHEARD_STATEMENTS = 200
const manyInOne =
  (one: (tx: postgres.TransactionSql, host: Host) => Promise<unknown>): Variant =>
  (host, number) =>
    host.sql.begin(async (tx) => {
      await business(tx, number)
      for (let done = 0; done < UNHEARD_STATEMENTS; done++) await one(tx, host)
    })

type Click = EventData<typeof affiliateEvents, 'link.clicked'>
const click = (webhooks: BenchWebhooks) => webhooks.catalog.get('link.clicked').example as Click

const UNHEARD: Record<'floor' | 'emit' | 'control', Variant> = {
  floor: manyInOne((tx) => tx`select 1`),
  emit: manyInOne((tx, { webhooks }) => webhooks.emit('link.clicked', click(webhooks), { tx, account: ACCOUNT })),
  control: manyInOne((tx) => tx`select 1`),
}

async function business(tx: postgres.TransactionSql, number: number): Promise<void> {
  await tx`insert into conversions (affiliate_id, order_id, amount) values (${456}, ${number}, ${85.5})`
}

function bulkNumbers(number: number): number[] {
  return Array.from({ length: BULK_EVENTS }, (_, index) => number * BULK_EVENTS + index)
}

interface Round {
  case: string
  round: number
  /** Milliseconds of one transaction: a slice's time over its transactions, times the concurrency; the median slice. */
  floorMs: number
  emitMs: number
  controlMs: number
}

export const emit: Scenario = {
  name: 'emit',
  describe: 'a host transaction with one emit, next to the same with one plain insert; no worker runs',
  async run(context) {
    const database = await context.postgres.createDatabase()
    const webhooks = createBenchWebhooks(database.url)
    const rounds: Round[] = []
    const failures: string[] = []
    let clicksStored = 0
    try {
      await webhooks.migrate()
      for (const concurrency of [1, 8, 32]) {
        const sql = postgres(database.url, { max: concurrency, onnotice: () => {} })
        try {
          if (concurrency === 1) await sql.unsafe(HOST_TABLES)
          const host = { sql, webhooks }
          await sliceInTurn(host, SINGLE, concurrency, 3)
          for (let round = 1; round <= context.rounds; round++) {
            const ms = await sliceInTurn(host, SINGLE, concurrency, context.quick ? 3 : SLICES)
            rounds.push({ case: `1 event, ${concurrency} at once`, round, ...ms })
            context.progress(
              `emit ${concurrency} at once, round ${round}: ratio ${(ms.emitMs / ms.floorMs).toFixed(2)}`,
            )
          }
          if (concurrency > 1) continue
          await bulkInTurn(host, BULK, 2)
          for (let round = 1; round <= context.rounds; round++) {
            const ms = await bulkInTurn(host, BULK, context.quick ? 2 : BULK_TRANSACTIONS)
            rounds.push({ case: `${BULK_EVENTS.toLocaleString('en')} events, 1 at once`, round, ...ms })
            const unheard = await bulkInTurn(host, UNHEARD, context.quick ? 2 : BULK_TRANSACTIONS)
            rounds.push({ case: `${UNHEARD_STATEMENTS} × unheard click, next to select 1`, round, ...unheard })
            context.progress(`emit bulk, round ${round}: ratio ${(ms.emitMs / ms.floorMs).toFixed(2)}`)
          }
          const [stored] = await sql`select count(*)::int n from posthaste.events where type = 'link.clicked'`
          clicksStored = stored?.n as number
        } finally {
          await sql.end({ timeout: 5 })
        }
      }
    } finally {
      await webhooks.stop()
      await database.drop()
    }
    if (clicksStored > 0) failures.push(`emit: ${clicksStored} clicks that nobody subscribes to were stored.`)
    const rows = [...new Set(rounds.map((round) => round.case))].map((name) => {
      const of = rounds.filter((round) => round.case === name)
      return [
        name,
        formatSpread(spread(of.map(({ floorMs }) => floorMs))),
        formatSpread(spread(of.map(({ emitMs }) => emitMs))),
        formatSpread(spread(of.map(({ emitMs, floorMs }) => emitMs / floorMs))),
        formatSpread(spread(of.map(({ controlMs, floorMs }) => controlMs / floorMs))),
      ]
    })
    const head = ['transactions', 'insert ms', 'emit ms', 'ratio', 'A/A']
    return { tables: [{ title: emit.describe, text: formatTable(head, rows) }], data: rounds, failures }
  },
}

type Times = Pick<Round, 'floorMs' | 'emitMs' | 'controlMs'>
const NAMES = ['floor', 'emit', 'control'] as const

let number = 0

/** Each variant in slices of time, as many transactions as fit. The median slice counts: a burst of others hits few of them. */
async function sliceInTurn(host: Host, variants: typeof SINGLE, concurrency: number, slices: number): Promise<Times> {
  const ms: Record<(typeof NAMES)[number], number[]> = { floor: [], emit: [], control: [] }
  for (let slice = 0; slice < slices; slice++) {
    for (const name of rotated(slice)) {
      const startedAt = performance.now()
      const until = startedAt + SLICE_MS
      let done = 0
      await Promise.all(
        Array.from({ length: concurrency }, async () => {
          while (performance.now() < until) {
            await variants[name](host, number++)
            done++
          }
        }),
      )
      ms[name].push(((performance.now() - startedAt) / done) * concurrency)
    }
  }
  return { floorMs: median(ms.floor), emitMs: median(ms.emit), controlMs: median(ms.control) }
}

async function bulkInTurn(host: Host, variants: typeof BULK, transactions: number): Promise<Times> {
  const ms: Record<(typeof NAMES)[number], number[]> = { floor: [], emit: [], control: [] }
  for (let turn = 0; turn < transactions; turn++) {
    for (const name of rotated(turn)) {
      const startedAt = performance.now()
      await variants[name](host, number++)
      ms[name].push(performance.now() - startedAt)
    }
  }
  return { floorMs: median(ms.floor), emitMs: median(ms.emit), controlMs: median(ms.control) }
}

function rotated(turn: number): ('floor' | 'emit' | 'control')[] {
  const from = turn % NAMES.length
  return [...NAMES.slice(from), ...NAMES.slice(0, from)]
}
