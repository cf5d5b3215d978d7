/**
 * pnpm test:faults [--seed N] [--runs N] [--seconds S] [--only fault,…] [--alone] [--other <checkout>]
 *
 * Seeded random runs of faults: prints the seed and the schedule of each, then what came of it. Ends with 1 when the invariant
 * of invariant.ts was violated.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { startPostgres } from '../support/embedded-postgres.ts'
import { VIOLATIONS } from './invariant.ts'
import { prepareLibraries } from './libraries.ts'
import { MAX_CONNECTIONS, oneRun, type RunResult } from './one-run.ts'
import { describeSchedule, FAULT_NAMES, type FaultName, makeSchedule } from './schedule.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    runs: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '12' },
    only: { type: 'string' },
    alone: { type: 'boolean', default: false },
    other: { type: 'string' },
  },
})

const only = values.only?.split(',').map((name) => {
  if (!FAULT_NAMES.includes(name as FaultName))
    throw new Error(`No fault ${name}. There are: ${FAULT_NAMES.join(', ')}`)
  return name as FaultName
})
const firstSeed = values.seed === undefined ? Math.floor(Math.random() * 1e9) : Number(values.seed)
const base = resolve(import.meta.dirname, '..', '..', '.tmp')
mkdirSync(base, { recursive: true })
const folder = mkdtempSync(join(base, 'faults-'))
const server = await startPostgres({ settings: { max_connections: MAX_CONNECTIONS, shared_buffers: '64MB' } })
const results: RunResult[] = []
const failed: number[] = []
try {
  const libraries = prepareLibraries(folder, values.other)
  for (let seed = firstSeed; seed < firstSeed + Number(values.runs); seed++) {
    const schedule = makeSchedule({ seed, seconds: Number(values.seconds), alone: values.alone, ...(only && { only }) })
    console.log(describeSchedule(schedule))
    const result = await oneRun({ schedule, server, folder, libraries })
    results.push(result)
    console.log(`  → ${describeResult(result)}`)
    if (result.violations.length > 0) failed.push(seed)
    for (const { kind, detail } of result.violations.slice(0, 20)) {
      console.log(`  VIOLATION ${kind} (${VIOLATIONS[kind]}): ${detail}`)
    }
    if (result.violations.length > 20) console.log(`  … and ${result.violations.length - 20} more`)
  }
} finally {
  await server.stop('immediate')
  rmSync(folder, { recursive: true, force: true })
}
console.log(summary())
process.exitCode = failed.length > 0 ? 1 : 0

function describeResult(result: RunResult): string {
  const { events, deliveries, receipts, duplicates, losses, settleMs, recovery, stopMs } = result
  const parts = [
    `${events} events`,
    `${deliveries} deliveries`,
    `${receipts} requests`,
    `${duplicates} duplicates`,
    `${losses} losses`,
    settleMs === null ? 'not settled' : `settled in ${(settleMs / 1000).toFixed(1)} s`,
  ]
  if (stopMs > 0) parts.push(`stop ${(stopMs / 1000).toFixed(1)} s`)
  if (recovery.workerMs !== null) parts.push(`recovery of a dead worker ${(recovery.workerMs / 1000).toFixed(1)} s`)
  if (recovery.postgresMs !== null) parts.push(`resumed ${(recovery.postgresMs / 1000).toFixed(2)} s after Postgres`)
  return parts.join(', ')
}

function summary(): string {
  const sum = (of: (result: RunResult) => number) => results.reduce((total, result) => total + of(result), 0)
  const lines = [
    `${results.length} runs from seed ${firstSeed}: ${sum((r) => r.events)} events, ${sum((r) => r.deliveries)} deliveries, ` +
      `${sum((r) => r.receipts)} requests, ${sum((r) => r.duplicates)} duplicates, ${sum((r) => r.losses)} losses`,
    spread(
      'recovery of a dead worker',
      results.map(({ recovery }) => recovery.workerMs),
    ),
    spread(
      'resumed after Postgres',
      results.map(({ recovery }) => recovery.postgresMs),
    ),
    spread(
      'longest stop()',
      results.map(({ stopMs }) => stopMs || null),
    ),
    failed.length === 0 ? 'no violation' : `violations in seeds ${failed.join(', ')}`,
  ]
  return lines.filter((line) => line !== null).join('\n')
}

function spread(what: string, values: readonly (number | null)[]): string | null {
  const known = values.filter((value) => value !== null).toSorted((a, b) => a - b)
  if (known.length === 0) return null
  const at = (part: number) =>
    `${((known[Math.min(known.length - 1, Math.floor(known.length * part))] as number) / 1000).toFixed(2)} s`
  return `${what}: median ${at(0.5)}, max ${at(1)} of ${known.length}`
}
