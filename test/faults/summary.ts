/** What came of many runs, as a table that docs/reliability.md can take as it is. */
import type { Campaign } from './campaign.ts'
import type { RunResult } from './one-run.ts'

export function describeResult(result: RunResult): string {
  const { events, deliveries, receipts, duplicates, losses, settleMs, recovery, stopMs, replays, retries } = result
  const parts = [
    `${events} events`,
    `${deliveries} deliveries`,
    `${receipts} requests`,
    `${duplicates} duplicates`,
    `${losses} losses`,
    settleMs === null ? 'not settled' : `settled in ${seconds(settleMs, 1)}`,
  ]
  if (replays > 0) parts.push(`${replays} replays`)
  if (retries > 0) parts.push(`${retries} retries by hand`)
  if (stopMs > 0) parts.push(`stop ${seconds(stopMs, 1)}`)
  if (recovery.workerMs !== null) parts.push(`recovery of a dead worker ${seconds(recovery.workerMs, 1)}`)
  if (recovery.postgresMs !== null) parts.push(`resumed ${seconds(recovery.postgresMs)} after Postgres`)
  if (result.stalledMs >= 1_000) parts.push(`machine stalled ${seconds(result.stalledMs, 1)}`)
  return parts.join(', ')
}

export interface SummaryOptions extends Campaign {
  /** As on the command line. */
  command: string
  machine: string
}

export function summarize({ results, broken, command, machine }: SummaryOptions): string {
  const sum = (of: (result: RunResult) => number) => results.reduce((total, result) => total + of(result), 0)
  const count = (of: (result: RunResult) => number) => sum(of).toLocaleString('en-US')
  const violated = results.filter(({ violations }) => violations.length > 0)
  const stalled = results.filter((result) => result.stalled.length > 0)
  const rows: [string, string][] = [
    ['run with', `\`${command}\``],
    ['machine', machine],
    ['runs', `${results.length}${broken.length > 0 ? `, and ${broken.length} without a verdict` : ''}`],
    ['seeds', ranges(results.map(({ seed }) => seed))],
    ['violations', violated.length === 0 ? 'none' : violated.map(describeViolations).join('; ')],
    [
      'time bounds not judged, because the machine stalled',
      stalled.length === 0
        ? 'none'
        : stalled.map((result) => `seed ${result.seed}: ${result.stalled.join('; ')}`).join('; '),
    ],
    [
      'events, deliveries, requests',
      `${count((r) => r.events)}, ${count((r) => r.deliveries)}, ${count((r) => r.receipts)}`,
    ],
    ['replays, retries by hand', `${count((r) => r.replays)}, ${count((r) => r.retries)}`],
    ['duplicates', `${count((r) => r.duplicates)} after ${count((r) => r.losses)} losses${describeReasons(results)}`],
    ['from the death of a worker to the last delivery that waited for it', spread(results, (r) => r.recovery.workerMs)],
    ['from Postgres being ready again to the next delivery', spread(results, (r) => r.recovery.postgresMs)],
    ['longest `stop()` of a run', spread(results, (r) => r.stopMs || null)],
    ['from the last fault until everything was final', spread(results, (r) => r.settleMs)],
  ]
  return ['| | |', '| --- | --- |', ...rows.map(([what, value]) => `| ${what} | ${value} |`)].join('\n')
}

function describeViolations({ seed, violations }: RunResult): string {
  const counts = new Map<string, number>()
  for (const { kind } of violations) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  return `seed ${seed}: ${[...counts].map(([kind, times]) => `${times} × ${kind}`).join(', ')}`
}

function describeReasons(results: readonly RunResult[]): string {
  const counts = new Map<string, number>()
  for (const { reasons } of results) {
    for (const [name, times] of Object.entries(reasons)) counts.set(name, (counts.get(name) ?? 0) + times)
  }
  const parts = [...counts].toSorted(([, a], [, b]) => b - a).map(([name, times]) => `${name}: ${times}`)
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`
}

/** Seeds in turn as one range. */
export function ranges(seeds: readonly number[]): string {
  const parts: [first: number, last: number][] = []
  for (const seed of seeds.toSorted((a, b) => a - b)) {
    const current = parts.at(-1)
    if (current !== undefined && current[1] + 1 === seed) current[1] = seed
    else parts.push([seed, seed])
  }
  return parts.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(', ')
}

function spread(results: readonly RunResult[], of: (result: RunResult) => number | null): string {
  const known = results
    .map(of)
    .filter((value) => value !== null)
    .toSorted((a, b) => a - b)
  if (known.length === 0) return 'not measured'
  return `median ${seconds(known[Math.floor(known.length / 2)]!)}, at most ${seconds(known.at(-1)!)} of ${known.length} runs`
}

function seconds(ms: number, digits = 2): string {
  return `${(ms / 1000).toFixed(digits)} s`
}
