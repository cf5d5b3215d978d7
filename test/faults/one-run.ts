/** One seeded run from its schedule to its verdict. */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { RunningPostgres } from '../support/embedded-postgres.ts'
import { askedFaults } from './asked-faults.ts'
import { databaseFaults } from './database-faults.ts'
import { countReasons, findDuplicates } from './duplicates.ts'
import { collectEvidence } from './evidence.ts'
import { checkRun, findStalled } from './invariant.ts'
import { processFaults } from './process-faults.ts'
import { receiverFaults } from './receiver-faults.ts'
import { measureRecovery, type Recovery, recoveryBounds } from './recovery.ts'
import type { Schedule } from './schedule.ts'
import { SETTLED_WITHIN_MS, settle } from './settle.ts'
import type { SmallDisk } from './small-disk.ts'
import { Stage } from './stage.ts'
import { startStallMeter } from './stall-meter.ts'
import type { Evidence, Stall } from './testimony.ts'
import type { Violation } from './violations.ts'

const FAULTS = { ...processFaults, ...databaseFaults, ...receiverFaults, ...askedFaults }

/** The server's limit on connections, low enough to be reached. */
export const MAX_CONNECTIONS = 80

export interface RunResult {
  seed: number
  violations: Violation[]
  /** Time bounds that were missed because the machine stood still: not judged. */
  stalled: string[]
  /** How long it stood still in all, in ms. */
  stalledMs: number
  notes: string[]
  /** What took place: for the report. */
  events: number
  deliveries: number
  receipts: number
  duplicates: number
  /** How many of them each kind of loss explains. */
  reasons: Record<string, number>
  replays: number
  /** Attempts asked for by hand. */
  retries: number
  losses: number
  settleMs: number | null
  recovery: Recovery
  /** Longest `stop()`, in ms; 0 without one. */
  stopMs: number
}

export interface OneRunOptions {
  schedule: Schedule
  server: RunningPostgres
  disk: SmallDisk | null
  /** For receivers. */
  ports: readonly number[]
  /** A folder for logs; removed again. */
  folder: string
  libraries: readonly string[]
}

export async function oneRun({ schedule, server, disk, ports, folder, libraries }: OneRunOptions): Promise<RunResult> {
  const database = `faults_${schedule.seed}_${process.pid}_${Date.now()}`
  const logs = join(folder, database)
  mkdirSync(logs, { recursive: true })
  await administer(server, (sql) => sql.unsafe(`create database ${database} template template0`))
  const stage = new Stage({ server, disk, schedule, folder: logs, ports, libraries }, database)
  const meter = startStallMeter(() => stage.workers.pids())
  try {
    await stage.raise()
    const { evidence, settleMs } = await play(stage, meter.stalls)
    const recovery = measureRecovery(stage, evidence)
    stage.chronicle.bounds.push(...recoveryBounds(stage, recovery))
    return {
      seed: schedule.seed,
      violations: checkRun(evidence),
      stalled: findStalled(evidence),
      stalledMs: evidence.stalls.reduce((total, { ms }) => total + ms, 0),
      notes: stage.chronicle.notes,
      events: evidence.committed.length,
      deliveries: evidence.deliveries.length,
      receipts: evidence.receipts.length,
      duplicates: findDuplicates(evidence).length,
      reasons: countReasons(evidence),
      replays: evidence.replays.length,
      retries: evidence.retryAsks.filter(({ attempts }) => attempts !== null).length,
      losses: evidence.losses.length,
      settleMs,
      recovery,
      stopMs: Math.max(0, ...stage.chronicle.stopMs),
    }
  } finally {
    meter.stop()
    await disk?.empty()
    await stage.strike()
    await administer(server, (sql) => sql.unsafe(`drop database if exists ${database} with (force)`))
    rmSync(logs, { recursive: true, force: true })
  }
}

async function play(stage: Stage, stalls: readonly Stall[]): Promise<{ evidence: Evidence; settleMs: number | null }> {
  const { schedule, chronicle } = stage
  const steps = schedule.steps.map(async (step) => {
    await sleep(step.atMs)
    await FAULTS[step.fault](stage, step)
  })
  await Promise.all([...steps, sleep(schedule.activeMs)])
  const from = stage.now()
  const settleMs = await settle(stage, stalls)
  chronicle.bounds.push({ what: 'settling', from, to: stage.now(), withinMs: SETTLED_WITHIN_MS })
  // What is sent once too often would still come.
  await sleep(500)
  await Promise.all(stage.workers.slots.map((slot) => stage.workers.stop(slot)))
  return { evidence: await collectEvidence(stage, stalls), settleMs }
}

/** As ever, whatever the last run has done to the server. */
async function administer(server: RunningPostgres, work: (sql: postgres.Sql) => Promise<unknown>): Promise<void> {
  if (server.pid === null) await server.restart()
  const sql = postgres(server.url, {
    max: 1,
    onnotice: () => {},
    // A run that broke in the middle of a fault leaves its timeout behind.
    connection: { default_transaction_read_only: false, statement_timeout: 0, lock_timeout: 0 },
  })
  try {
    await sql.unsafe('alter system reset all')
    await sql.unsafe('select pg_reload_conf()')
    await work(sql)
  } finally {
    await sql.end({ timeout: 2 })
  }
}
