/** One seeded run from its schedule to its verdict. */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { RunningPostgres } from '../support/embedded-postgres.ts'
import { databaseFaults } from './database-faults.ts'
import { collectEvidence } from './evidence.ts'
import { checkRun, type Evidence, findDuplicates, type Violation } from './invariant.ts'
import { processFaults } from './process-faults.ts'
import { receiverFaults } from './receiver-faults.ts'
import { measureRecovery, type Recovery } from './recovery.ts'
import type { Schedule } from './schedule.ts'
import { settle } from './settle.ts'
import { Stage } from './stage.ts'

const FAULTS = { ...processFaults, ...databaseFaults, ...receiverFaults }

/** The server's limit on connections, low enough to be reached. */
export const MAX_CONNECTIONS = 80

export interface RunResult {
  violations: Violation[]
  /** What took place: for the report. */
  events: number
  deliveries: number
  receipts: number
  duplicates: number
  losses: number
  settleMs: number | null
  recovery: Recovery
  /** Longest `stop()`, in ms; 0 without one. */
  stopMs: number
}

export interface OneRunOptions {
  schedule: Schedule
  server: RunningPostgres
  /** A folder for logs; removed again. */
  folder: string
  libraries: readonly string[]
}

export async function oneRun({ schedule, server, folder, libraries }: OneRunOptions): Promise<RunResult> {
  const database = `faults_${schedule.seed}_${process.pid}_${Date.now()}`
  const logs = join(folder, database)
  mkdirSync(logs, { recursive: true })
  await administer(server, (sql) => sql.unsafe(`create database ${database} template template0`))
  const stage = new Stage({ server, schedule, folder: logs, libraries }, database)
  try {
    await stage.raise()
    const { evidence, settleMs } = await play(stage)
    return {
      violations: checkRun(evidence),
      events: evidence.committed.length,
      deliveries: evidence.deliveries.length,
      receipts: evidence.receipts.length,
      duplicates: findDuplicates(evidence).length,
      losses: evidence.losses.length,
      settleMs,
      recovery: measureRecovery(stage, evidence),
      stopMs: Math.max(0, ...stage.stopMs),
    }
  } finally {
    await stage.strike()
    await administer(server, (sql) => sql.unsafe(`drop database if exists ${database} with (force)`))
    rmSync(logs, { recursive: true, force: true })
  }
}

async function play(stage: Stage): Promise<{ evidence: Evidence; settleMs: number | null }> {
  const { schedule } = stage
  const began = performance.now()
  const steps = schedule.steps.map(async (step) => {
    await sleep(step.atMs)
    await FAULTS[step.fault](stage, step)
  })
  await Promise.all([...steps, sleep(schedule.activeMs)])
  const settleMs = await settle(stage)
  if (settleMs === null)
    stage.overdue.push(`not settled ${Math.round(performance.now() - began)} ms after the beginning`)
  // What is sent once too often would still come.
  await sleep(500)
  await Promise.all(stage.workers.map((slot) => stage.stopWorker(slot)))
  return { evidence: await collectEvidence(stage), settleMs }
}

/** As ever, whatever the last run has done to the server. */
async function administer(server: RunningPostgres, work: (sql: postgres.Sql) => Promise<unknown>): Promise<void> {
  if (server.pid === null) await server.restart()
  const sql = postgres(server.url, { max: 1, onnotice: () => {}, connection: { default_transaction_read_only: false } })
  try {
    await sql.unsafe('alter system reset all')
    await sql.unsafe('select pg_reload_conf()')
    await work(sql)
  } finally {
    await sql.end({ timeout: 2 })
  }
}
