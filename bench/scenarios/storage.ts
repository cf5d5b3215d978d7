/**
 * Beside a transaction that keeps vacuum from working: a steady load in a window at the start, and in another after many other
 * events have gone through. Ours, one graphile-worker job per delivery, and an ordinary table with FOR UPDATE SKIP LOCKED.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { EmittedAt, HostApplication, SteadyLoad } from '../processes/host-application.ts'
import type { OtherQueue, QueueKind } from '../processes/other-queue.ts'
import type { Receiver } from '../processes/receiver.ts'
import type { BenchDatabase } from '../support/bench-database.ts'
import { type Child, startChild } from '../support/child-process.ts'
import { accountOf, createBenchWebhooks, seedEndpoints } from '../support/installation.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'
import { percentile } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const ENDPOINTS = 1_000
/** About half of what two cores do when host, worker, receiver and Postgres share them. */
const PER_SECOND = 500
const BULK = 1_000
/** Events that are emitted and have not arrived, while the others go through. */
const MOST_AHEAD = 20_000
const SIZES = {
  quick: { windowSeconds: 3, between: 3_000, limitSeconds: 20 },
  default: { windowSeconds: 30, between: 300_000, limitSeconds: 180 },
  full: { windowSeconds: 120, between: 2_000_000, limitSeconds: 1_200 },
}

type Engine = 'posthaste' | QueueKind
type Holder = 'snapshot' | 'write transaction'

/** What delivers, and how it is told. */
interface Contender {
  emitSteadily(load: SteadyLoad): Promise<EmittedAt[]>
  emitInBulk(count: number): Promise<void>
  stop(): Promise<void>
}

interface Window {
  perSecond: number
  p50: number
  p99: number
  /** Cores that Postgres used. */
  cpu: number
}

interface Round {
  engine: Engine
  holder: Holder
  first: Window
  between: number
  /** Null: the others had not gone through within the time. */
  second: Window | null
}

export const storage: Scenario = {
  name: 'storage',
  describe:
    'a steady load before and after many events, beside a transaction that holds vacuum back; --full: hours, 2,000,000 events',
  async run(context) {
    const size = context.quick ? SIZES.quick : context.full ? SIZES.full : SIZES.default
    const rounds: Round[] = []
    const failures: string[] = []
    for (const holder of ['snapshot', 'write transaction'] as const) {
      for (const engine of ['posthaste', 'graphile-worker', 'skip locked'] as const) {
        if (!`${engine}, ${holder}`.startsWith(context.only ?? '')) continue
        rounds.push(await runOne(context, engine, holder, size, failures))
      }
    }
    const ratio = (one: number, other: number) => (one === 0 ? '–' : (other / one).toFixed(2))
    const rows = rounds.map(({ engine, holder, first, second, between }) => [
      `${engine}, ${holder}`,
      ...(['perSecond', 'p50', 'p99', 'cpu'] as const).flatMap((figure) => {
        const digits = figure === 'perSecond' ? 0 : figure === 'cpu' ? 2 : 1
        if (second === null) return [first[figure].toFixed(digits), 'gave up', '–']
        return [first[figure].toFixed(digits), second[figure].toFixed(digits), ratio(first[figure], second[figure])]
      }),
      between.toLocaleString('en'),
    ])
    const head = [
      '',
      'per s',
      'then',
      'ratio',
      'p50 ms',
      'then',
      'ratio',
      'p99 ms',
      'then',
      'ratio',
      'cores',
      'then',
      'ratio',
      'events between',
    ]
    const title = `${PER_SECOND}/s to ${ENDPOINTS.toLocaleString('en')} endpoints, windows of ${size.windowSeconds} s; given up after ${size.limitSeconds} s`
    return { tables: [{ title, text: formatTable(head, rows) }], data: { size, rounds }, failures }
  },
}

async function runOne(
  context: BenchContext,
  engine: Engine,
  holder: Holder,
  size: (typeof SIZES)['default'],
  failures: string[],
): Promise<Round> {
  const name = `${engine}, ${holder}`
  const database = await context.postgres.createDatabase()
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  const receiver = await startChild<Receiver>(new URL('../processes/receiver.ts', import.meta.url))
  const holding = postgres(database.url, { max: 1, onnotice: () => {} })
  let contender: Contender | null = null
  try {
    const port = await receiver.call.listen()
    await sql.unsafe(`create table conversions (id bigint generated always as identity primary key, affiliate_id int not null,
      order_id int not null, amount numeric(12, 2) not null, created_at timestamptz not null default now())`)
    contender = engine === 'posthaste' ? await startOurs(sql, database, port) : await startOther(engine, database, port)
    const held = await holding.reserve()
    await held.unsafe(holder === 'snapshot' ? 'begin isolation level repeatable read' : 'begin')
    await held.unsafe(
      holder === 'snapshot'
        ? 'select count(*) from conversions'
        : 'insert into conversions (affiliate_id, order_id, amount) values (1, 1, 1)',
    )
    await window(context, receiver, contender, Math.min(3, size.windowSeconds), name, failures)
    const first = await window(context, receiver, contender, size.windowSeconds, name, failures)
    const passed = await letThrough(receiver, contender, size)
    context.progress(
      `storage ${name}: ${first.perSecond.toFixed(0)}/s, p50 ${first.p50.toFixed(1)} ms; ${passed} others went through`,
    )
    const second =
      passed < size.between ? null : await window(context, receiver, contender, size.windowSeconds, name, failures)
    await held.unsafe('rollback')
    held.release()
    return { engine, holder, first, between: passed, second }
  } finally {
    await contender?.stop()
    await receiver.stop()
    await holding.end({ timeout: 5 })
    await sql.end({ timeout: 5 })
    await database.drop()
  }
}

async function window(
  context: BenchContext,
  receiver: Child<Receiver>,
  contender: Contender,
  seconds: number,
  name: string,
  failures: string[],
): Promise<Window> {
  await receiver.call.reset()
  const cpuBefore = context.postgres.cpuSeconds()
  const startedAt = performance.now()
  const emitted = await contender.emitSteadily({ perSecond: PER_SECOND, seconds, endpoints: ENDPOINTS, from: 1 })
  const came = await receiver.call.awaitCount({ count: emitted.length, timeoutMs: seconds * 1_000 + 30_000 })
  const tookSeconds = (performance.now() - startedAt) / 1_000
  const cpu = (context.postgres.cpuSeconds() - cpuBefore) / tookSeconds
  const { keys, times } = await receiver.call.received()
  if (!came || keys.length !== emitted.length)
    failures.push(`storage ${name}: ${emitted.length} emitted, ${keys.length} came.`)
  const receivedAt = new Map(keys.map((key, index) => [key.slice(key.indexOf(' ') + 1), times[index] as number]))
  const ms = emitted.map(({ id, at }) => (receivedAt.get(id) ?? Number.POSITIVE_INFINITY) - at)
  return { perSecond: keys.length / tookSeconds, p50: percentile(ms, 0.5), p99: percentile(ms, 0.99), cpu }
}

/** Answers how many arrived. */
async function letThrough(
  receiver: Child<Receiver>,
  contender: Contender,
  size: (typeof SIZES)['default'],
): Promise<number> {
  await receiver.call.reset()
  const until = performance.now() + size.limitSeconds * 1_000
  let passed = 0
  for (let emitted = 0; passed < size.between && performance.now() < until; ) {
    while (emitted < size.between && emitted - passed < MOST_AHEAD) {
      await contender.emitInBulk(BULK)
      emitted += BULK
    }
    passed = await receiver.call.count()
    if (emitted - passed >= MOST_AHEAD || emitted >= size.between) await sleep(50)
  }
  // The last outcomes are still being written.
  await sleep(1_000)
  return passed
}

async function startOurs(sql: postgres.Sql, database: BenchDatabase, port: number): Promise<Contender> {
  const file = new URL('../processes/host-application.ts', import.meta.url)
  const [worker, host] = [await startChild<HostApplication>(file), await startChild<HostApplication>(file)]
  const bulk = createBenchWebhooks(database.url)
  await bulk.migrate()
  await seedEndpoints(sql, port, ENDPOINTS)
  await worker.call.configure({ url: database.url })
  await host.call.configure({ url: database.url })
  await worker.call.start()
  let number = 0
  return {
    emitSteadily: (load) => host.call.emitSteadily(load),
    async emitInBulk(count) {
      const events = Array.from({ length: count }, () => ({
        type: EVENT_TYPE,
        data: sampleData(++number),
        account: accountOf(1 + (number % ENDPOINTS)),
      }))
      await bulk.emitMany(events, { tx: 'own' })
    },
    async stop() {
      await Promise.all([worker.call.stop(), host.call.stop(), bulk.stop()])
      await Promise.all([worker.stop(), host.stop()])
    },
  }
}

async function startOther(kind: QueueKind, database: BenchDatabase, port: number): Promise<Contender> {
  const file = new URL('../processes/other-queue.ts', import.meta.url)
  const [worker, host] = [await startChild<OtherQueue>(file), await startChild<OtherQueue>(file)]
  const options = { url: database.url, kind, port, fast: true }
  await worker.call.configure({ ...options, migrate: true })
  await host.call.configure({ ...options, migrate: false })
  await worker.call.start()
  return {
    emitSteadily: (load) => host.call.emitSteadily(load),
    emitInBulk: (count) => host.call.emitInBulk({ count, endpoints: ENDPOINTS }),
    async stop() {
      await Promise.all([worker.call.stop(), host.call.stop()])
      await Promise.all([worker.stop(), host.stop()])
    },
  }
}
