/**
 * `pnpm bench [scenario …] [--quick] [--full] [--rounds N] [--window S] [--durable] [--only TEXT] [--profile] [--log-statements]`:
 * measures, prints a table for each scenario, writes `bench/results/<time>.json`, of long scenarios case by case. Exits with 1 where something was lost, sent twice or not recorded.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { backlog } from './scenarios/backlog.ts'
import { bursts } from './scenarios/bursts.ts'
import { drain } from './scenarios/drain.ts'
import { emit } from './scenarios/emit.ts'
import { hanging } from './scenarios/hanging.ts'
import { latency } from './scenarios/latency.ts'
import type { Scenario } from './scenarios/scenario.ts'
import { size } from './scenarios/size.ts'
import { storage } from './scenarios/storage.ts'
import { types } from './scenarios/types.ts'
import { workers } from './scenarios/workers.ts'
import { startBenchPostgres } from './support/bench-database.ts'
import { buildProcesses } from './support/built-processes.ts'
import { canMeasureUsage } from './support/process-usage.ts'

const SCENARIOS: readonly Scenario[] = [emit, drain, latency, workers, backlog, bursts, hanging, types, size, storage]
/** What runs where none is named: minutes, not hours. */
const DEFAULT = ['emit', 'drain', 'latency']

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    full: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    scale: { type: 'string', default: '1' },
    window: { type: 'string' },
    durable: { type: 'boolean', default: false },
    only: { type: 'string' },
    profile: { type: 'boolean', default: false },
    'log-statements': { type: 'boolean', default: false },
    'worker-flags': { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
})

const usage = [
  'pnpm bench [scenario …] [options]',
  '',
  ...SCENARIOS.map(({ name, describe }) => `  ${name.padEnd(18)}${describe}`),
  '',
  '  --quick           a tenth of the work in one round: does it run?',
  '  --full            storage with 2,000,000 events in between and windows of two minutes: half an hour',
  '  --rounds N        rounds of each measurement (default 3; of bursts, hanging and types 1)',
  '  --window S        of storage: seconds of each window (default 30, with --full 120, with --quick 3)',
  '  --scale X         of bursts: how large a part of the million (default 1)',
  '  --durable         fsync and full_page_writes on',
  '  --only TEXT       only the cases of drain or storage whose name begins so: --only "1,000 ×"',
  '  --profile         CPU profiles of the workers, into .tmp/bench-profiles',
  '  --worker-flags F  options of node for the workers of drain, workers and backlog: --worker-flags "--max-old-space-size=192"',
  '  --log-statements  auto_explain of statements over 0.2 ms, into .tmp/bench-statements.log (slow)',
].join('\n')

const chosen = (positionals.length > 0 ? positionals : DEFAULT).map((name) => {
  const scenario = SCENARIOS.find((candidate) => candidate.name === name)
  if (scenario === undefined) fail(`There is no scenario ${name}.\n\n${usage}`)
  return scenario
})
const rounds = values.rounds === undefined ? (values.quick ? 1 : 3) : Number(values.rounds)
if (!Number.isInteger(rounds) || rounds < 1) fail(`--rounds must be a whole number of at least 1.\n\n${usage}`)
const scale = Number(values.scale)
if (!(scale > 0 && scale <= 10)) fail(`--scale must be more than 0 and at most 10.\n\n${usage}`)
const windowSeconds = values.window === undefined ? null : Number(values.window)
if (windowSeconds !== null && !(Number.isInteger(windowSeconds) && windowSeconds > 0))
  fail(`--window must be a whole number of seconds.\n\n${usage}`)
if (values.help) {
  console.log(usage)
  process.exit(0)
}

const checkout = resolve(import.meta.dirname, '..')
const profileFolder = values.profile ? join(checkout, '.tmp', 'bench-profiles') : null
if (profileFolder !== null) mkdirSync(profileFolder, { recursive: true })

await buildProcesses()
const workerFlags = values['worker-flags'].split(' ').filter(Boolean)
const postgres = await startBenchPostgres(values.durable, values['log-statements'])
const machine = {
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: availableParallelism(),
  memoryGb: Math.round(totalmem() / 1e9),
  node: process.version,
  postgres: postgres.version,
  fsync: postgres.durable,
  loadBefore: loadavg()[0],
}
console.log(
  `${machine.cores} × ${machine.cpu}, ${machine.memoryGb} GB, Node ${machine.node}, Postgres ${machine.postgres}, ` +
    `fsync ${machine.fsync ? 'on' : 'off'}, load before ${machine.loadBefore?.toFixed(1)}, rounds ${rounds}` +
    `${values.quick ? ', quick: the figures mean nothing' : ''}${canMeasureUsage ? '' : '; no /proc here, so CPU and memory are missing'}`,
)
const startedAt = new Date().toISOString()
const results: Record<string, unknown> = {}
const failures: string[] = []
const folder = join(import.meta.dirname, 'results')
mkdirSync(folder, { recursive: true })
const file = join(folder, `${startedAt.replaceAll(/[:.]/g, '-')}.json`)
function write(complete: boolean): void {
  const report = { startedAt, complete, machine, workerFlags, rounds, quick: values.quick, results, failures }
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`)
}
try {
  for (const scenario of chosen) {
    const result = await scenario.run({
      postgres,
      rounds,
      shortRounds: values.rounds === undefined ? 1 : rounds,
      scale,
      quick: values.quick,
      full: values.full,
      only: values.only ?? null,
      profileFolder,
      workerFlags,
      windowSeconds,
      save: (data) => {
        results[scenario.name] = data
        write(false)
      },
      progress: (text) => console.error(`  ${text}`),
    })
    results[scenario.name] = result.data
    failures.push(...result.failures)
    write(false)
    for (const { title, text } of result.tables) console.log(`\n${scenario.name}: ${title}\n${text}`)
  }
} finally {
  if (values['log-statements']) {
    const log = join(checkout, '.tmp', 'bench-statements.log')
    writeFileSync(log, readFileSync(join(postgres.server.dataDir, '..', 'postgres.log')))
    console.log(`\nStatements: ${log}`)
  }
  await postgres.stop()
}
write(true)
console.log(`\nWritten to ${file}`)
for (const failure of failures) console.error(`FAILED ${failure}`)
process.exitCode = failures.length > 0 ? 1 : 0

function fail(message: string): never {
  console.error(message)
  process.exit(1)
}
