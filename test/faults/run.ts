/**
 * pnpm test:faults [--seed N] [--runs N] [--seconds S] [--parallel N] [--only fault,…] [--alone] [--other <checkout>]
 *
 * Seeded random runs of faults: prints the seed and the schedule of each and what came of it, then a table. Ends with 1 when
 * the invariant of invariant.ts was violated, or a run came to no verdict.
 */
import { availableParallelism, loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { runCampaign } from './campaign.ts'
import type { RunResult } from './one-run.ts'
import { describeSchedule, FAULT_NAMES, type FaultName, makeSchedule, type Schedule } from './schedule.ts'
import { whyNoSmallDisk } from './small-disk.ts'
import { describeResult, summarize } from './summary.ts'
import { VIOLATIONS } from './violations.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    runs: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '12' },
    parallel: { type: 'string', default: '1' },
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
const [runs, seconds, parallel] = [Number(values.runs), Number(values.seconds), Number(values.parallel)]
const firstSeed = values.seed === undefined ? Math.floor(Math.random() * 1e9) : Number(values.seed)
const schedules = Array.from({ length: runs }, (_, index) =>
  makeSchedule({ seed: firstSeed + index, seconds, alone: values.alone, ...(only && { only }) }),
)
const fillsDisks = schedules.some(({ steps }) => steps.some(({ fault }) => fault === 'disk-full'))
const noDisk = fillsDisks ? whyNoSmallDisk() : null
if (noDisk !== null) console.warn(`WARNING: disk-full IS LEFT OUT of these runs: ${noDisk}.`)

const { results, broken } = await runCampaign({
  schedules,
  parallel,
  smallDisk: fillsDisks && noDisk === null,
  other: values.other ?? null,
  onBegin: (schedule) => parallel === 1 && console.log(describeSchedule(schedule)),
  onEnd: (schedule, outcome) => print(schedule, outcome),
})
const options = [
  `--seed ${firstSeed} --runs ${runs} --seconds ${seconds}`,
  ...(parallel > 1 ? [`--parallel ${parallel}`] : []),
  ...(values.only === undefined ? [] : [`--only ${values.only}`]),
  ...(values.alone ? ['--alone'] : []),
]
const machine = `${availableParallelism()} cores, load ${loadavg()[2]!.toFixed(1)} at the end, ${new Date().toISOString().slice(0, 10)}`
console.log(`\n${summarize({ results, broken, command: `pnpm test:faults ${options.join(' ')}`, machine })}`)
process.exitCode = broken.length > 0 || results.some(({ violations }) => violations.length > 0) ? 1 : 0

function print(schedule: Schedule, outcome: RunResult | Error): void {
  if (parallel > 1) console.log(describeSchedule(schedule))
  if (outcome instanceof Error) {
    console.log(`  BROKEN: no verdict: ${outcome.message}`)
    return
  }
  console.log(`  → ${describeResult(outcome)}`)
  for (const note of outcome.notes) console.log(`  ${note}`)
  for (const text of outcome.stalled) console.log(`  NOT JUDGED: ${text}`)
  for (const { kind, detail } of outcome.violations.slice(0, 20)) {
    console.log(`  VIOLATION ${kind} (${VIOLATIONS[kind]}): ${detail}`)
  }
  if (outcome.violations.length > 20) console.log(`  … and ${outcome.violations.length - 20} more`)
}
