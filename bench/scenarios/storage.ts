/**
 * Beside a transaction that keeps vacuum from working: a steady load in a window at the start, and in another after many other
 * events have gone through, and once more after a checkpoint. Ours, one graphile-worker job per delivery, and an ordinary table
 * with FOR UPDATE SKIP LOCKED.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { Receiver } from '../processes/receiver.ts'
import { type Child, startChild } from '../support/child-process.ts'
import { CONVERSIONS_TABLE } from '../support/installation.ts'
import { type Contender, type Engine, startContender } from '../support/queue-contenders.ts'
import { percentile } from '../support/statistics.ts'
import { formatTable } from '../support/table.ts'
import type { BenchContext, Scenario } from './scenario.ts'

const ENDPOINTS = 1_000
/** About half of what two cores do when host, worker, receiver and Postgres share them. */
const PER_SECOND = 500
const BULK = 1_000
/** Events that are emitted and have not arrived, while the others go through. */
const MOST_AHEAD = 10_000
/** What a contender that was given up has taken on may still arrive for so long. */
const DRAIN_SECONDS = 30
/** Ours has to get through; a run that goes wrong has to end all the same. */
const OUR_LIMIT_SECONDS = 1_200
const STRAGGLERS_MS = 30_000
/** Others than ours are given up after `limitSeconds` of passing events on. */
const SIZES = {
  quick: { windowSeconds: 3, between: 3_000, limitSeconds: 10 },
  default: { windowSeconds: 30, between: 300_000, limitSeconds: 60 },
  full: { windowSeconds: 120, between: 2_000_000, limitSeconds: 60 },
}
type Size = (typeof SIZES)['full']

type Holder = 'snapshot' | 'write transaction'

interface Window {
  emitted: number
  arrived: number
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
  /** That went through between the windows, and how long that took. */
  between: number
  betweenSeconds: number
  /** Its time was over before all of them had, so its second window comes after fewer. */
  gaveUp: boolean
  /** Null: what it had taken on had not arrived after half a minute, so there was no steady state to measure. */
  second: Window | null
  /** Once more when what the many events left in memory has been written out. Null where nothing more was to be measured. */
  settled: Window | null
}

export const storage: Scenario = {
  name: 'storage',
  describe: 'a steady load before and after many events, beside a transaction that holds vacuum back',
  async run(context) {
    const chosen = context.quick ? SIZES.quick : context.full ? SIZES.full : SIZES.default
    const size = { ...chosen, windowSeconds: context.windowSeconds ?? chosen.windowSeconds }
    const rounds: Round[] = []
    const failures: string[] = []
    // Ours first: whoever has to end the run early keeps the figures that no other tool has.
    for (const engine of ['posthaste', 'graphile-worker', 'skip locked'] as const) {
      for (const holder of ['snapshot', 'write transaction'] as const) {
        if (!`${engine}, ${holder}`.startsWith(context.only ?? '')) continue
        const round = await runOne(context, engine, holder, size, failures)
        rounds.push(round)
        context.progress(`storage\n${formatTable(HEAD, rowsOf(round))}`)
        context.save({ size, rounds })
      }
    }
    const title =
      `${PER_SECOND}/s to ${ENDPOINTS.toLocaleString('en')} endpoints, windows of ${size.windowSeconds} s, ` +
      `${size.between.toLocaleString('en')} events in between; * given up after ${size.limitSeconds} s of them`
    return { tables: [{ title, text: formatTable(HEAD, rounds.flatMap(rowsOf)) }], data: { size, rounds }, failures }
  },
}

const HEAD = [
  '',
  ...['per s', 'p50 ms', 'p99 ms', 'cores'].flatMap((figure) => [figure, 'then', 'ratio']),
  'events between',
  'per s',
]

function rowsOf({ engine, holder, first, second, settled, between, betweenSeconds, gaveUp }: Round): string[][] {
  const name = `${engine}, ${holder}`
  const went = [`${between.toLocaleString('en')}${gaveUp ? ' *' : ''}`, (between / betweenSeconds).toFixed(0)]
  const rows = [[name, ...compared(first, second), ...went]]
  if (settled !== null) rows.push([`${name}, after a checkpoint`, ...compared(first, settled), '', ''])
  return rows
}

/** `then`: null where there was nothing to measure. */
function compared(first: Window, then: Window | null): string[] {
  const ratio = (one: number, other: number) => (one > 0 && Number.isFinite(other) ? (other / one).toFixed(2) : '–')
  const shown = (value: number, digits: number) => (Number.isFinite(value) ? value.toFixed(digits) : 'never')
  return (['perSecond', 'p50', 'p99', 'cpu'] as const).flatMap((figure) => {
    const digits = figure === 'perSecond' ? 0 : figure === 'cpu' ? 2 : 1
    if (then === null) return [shown(first[figure], digits), 'stuck', '–']
    return [shown(first[figure], digits), shown(then[figure], digits), ratio(first[figure], then[figure])]
  })
}

async function runOne(
  context: BenchContext,
  engine: Engine,
  holder: Holder,
  size: Size,
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
    await sql.unsafe(CONVERSIONS_TABLE)
    contender = await startContender(engine, database, port, ENDPOINTS)
    const held = await holding.reserve()
    await held.unsafe(holder === 'snapshot' ? 'begin isolation level repeatable read' : 'begin')
    await held.unsafe(
      holder === 'snapshot'
        ? 'select count(*) from conversions'
        : 'insert into conversions (affiliate_id, order_id, amount) values (1, 1, 1)',
    )
    const measure = (seconds: number) => window(context, receiver, contender as Contender, seconds)
    const check = (measured: Window) => {
      if (measured.arrived !== measured.emitted)
        failures.push(`storage ${name}: ${measured.emitted} emitted, ${measured.arrived} came.`)
      return measured
    }
    check(await measure(Math.min(3, size.windowSeconds)))
    const first = check(await measure(size.windowSeconds))
    context.progress(`storage ${name}: ${first.perSecond.toFixed(0)}/s, p50 ${first.p50.toFixed(1)} ms; now the others`)
    const went = await letThrough(receiver, contender, size, engine === 'posthaste')
    if (went.gaveUp && engine === 'posthaste') failures.push(`storage ${name}: only ${went.between} went through.`)
    // Of a contender that cannot keep up any more, that is the result.
    const second = went.drained ? await measure(size.windowSeconds) : null
    let settled: Window | null = null
    if (second !== null && !went.gaveUp) {
      check(second)
      await context.postgres.checkpoint()
      settled = check(await measure(size.windowSeconds))
    }
    await held.unsafe('rollback')
    held.release()
    const { between, betweenSeconds, gaveUp } = went
    return { engine, holder, first, between, betweenSeconds, gaveUp, second, settled }
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
): Promise<Window> {
  await receiver.call.reset()
  const cpuBefore = context.postgres.cpuSeconds()
  const startedAt = performance.now()
  const emitted = await contender.emitSteadily({ perSecond: PER_SECOND, seconds, endpoints: ENDPOINTS, from: 1 })
  await receiver.call.awaitCount({ count: emitted.length, timeoutMs: STRAGGLERS_MS })
  const tookSeconds = (performance.now() - startedAt) / 1_000
  const cpu = (context.postgres.cpuSeconds() - cpuBefore) / tookSeconds
  const { keys, times } = await receiver.call.received()
  const receivedAt = new Map(keys.map((key, index) => [key.slice(key.indexOf(' ') + 1), times[index] as number]))
  const ms = emitted.map(({ id, at }) => (receivedAt.get(id) ?? Number.POSITIVE_INFINITY) - at)
  return {
    emitted: emitted.length,
    arrived: ms.filter(Number.isFinite).length,
    perSecond: keys.length / tookSeconds,
    p50: percentile(ms, 0.5),
    p99: percentile(ms, 0.99),
    cpu,
  }
}

async function letThrough(
  receiver: Child<Receiver>,
  contender: Contender,
  size: Size,
  ours: boolean,
): Promise<{ between: number; betweenSeconds: number; gaveUp: boolean; drained: boolean }> {
  await receiver.call.reset()
  const startedAt = performance.now()
  const seconds = () => (performance.now() - startedAt) / 1_000
  let passed = 0
  let emitted = 0
  let gaveUp = false
  while (passed < size.between && !gaveUp) {
    while (emitted < size.between && emitted - passed < MOST_AHEAD) {
      await contender.emitInBulk(BULK)
      emitted += BULK
    }
    passed += await receiver.call.forget()
    gaveUp = passed < size.between && seconds() > (ours ? OUR_LIMIT_SECONDS : size.limitSeconds)
    if (emitted - passed >= MOST_AHEAD || emitted >= size.between) await sleep(50)
  }
  const betweenSeconds = seconds()
  const between = passed
  while (passed < emitted && seconds() < betweenSeconds + DRAIN_SECONDS) {
    await sleep(50)
    passed += await receiver.call.forget()
  }
  // The last outcomes are still being written.
  await sleep(1_000)
  return { between, betweenSeconds, gaveUp, drained: passed >= emitted }
}
