/** A short form of `pnpm test:faults`: few seeds, many faults. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type RunningPostgres, startPostgres } from '../support/embedded-postgres.ts'
import { prepareLibraries } from './libraries.ts'
import { MAX_CONNECTIONS, oneRun } from './one-run.ts'
import { describeSchedule, type FaultName, makeSchedule } from './schedule.ts'

let server: RunningPostgres
let folder: string
let libraries: string[]
beforeAll(async () => {
  const base = resolve(import.meta.dirname, '..', '..', '.tmp')
  mkdirSync(base, { recursive: true })
  folder = mkdtempSync(join(base, 'faults-'))
  libraries = prepareLibraries(folder)
  server = await startPostgres({ settings: { max_connections: MAX_CONNECTIONS, shared_buffers: '64MB' } })
})
afterAll(async () => {
  await server.stop('immediate')
  rmSync(folder, { recursive: true, force: true })
})

const seeds: [seed: number, only: readonly FaultName[]][] = [
  [1, ['worker-killed', 'worker-killed-unrecorded', 'worker-frozen', 'host-killed', 'deploy']],
  [2, ['postgres-killed', 'connections-cut', 'read-only', 'black-hole', 'worker-stopped']],
  [3, ['receiver-killed', 'receiver-gone', 'dns-fails', 'endpoint-disabled', 'endpoint-deleted', 'clock-back']],
]

test.each(seeds)('seed %i', async (seed, only) => {
  const schedule = makeSchedule({ seed, seconds: 6, only })
  const result = await oneRun({ schedule, server, folder, libraries })
  expect(result.events, describeSchedule(schedule)).toBeGreaterThan(0)
  expect(result.violations, describeSchedule(schedule)).toEqual([])
})
