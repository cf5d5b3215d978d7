/** A short form of `pnpm test:faults`: few seeds, many faults. */
import { expect, test } from 'vitest'
import { runCampaign } from './campaign.ts'
import { describeSchedule, type FaultName, makeSchedule } from './schedule.ts'
import { whyNoSmallDisk } from './small-disk.ts'

const noDisk = whyNoSmallDisk()
if (noDisk !== null) console.warn(`WARNING: no run with a full disk: ${noDisk}.`)

const seeds: [seed: number, only: readonly FaultName[]][] = [
  [1, ['worker-killed', 'worker-killed-unrecorded', 'worker-frozen', 'host-killed', 'deploy']],
  [2, ['postgres-killed', 'connections-cut', 'read-only', 'black-hole', 'worker-stopped']],
  [3, ['receiver-killed', 'receiver-gone', 'dns-fails', 'endpoint-disabled', 'endpoint-deleted', 'clock-back']],
  [4, ['replay-failed', 'replay-missing', 'replay-cancelled', 'retried-worker-killed', 'replay-worker-killed']],
]

test.each(seeds)('seed %i', async (seed, only) => {
  const { results, broken, description } = await play(seed, only)
  expect(broken, description).toEqual([])
  expect(results[0]!.events, description).toBeGreaterThan(0)
  expect(results[0]!.violations, description).toEqual([])
})

test.skipIf(noDisk !== null)('seed 9, with a full disk', async () => {
  const { results, broken, description } = await play(9, ['disk-full', 'retried-by-hand', 'replay-all'])
  expect(broken, description).toEqual([])
  expect(results[0]!.notes.join(), description).toContain('disk-full: Postgres')
  expect(results[0]!.violations, description).toEqual([])
})

async function play(seed: number, only: readonly FaultName[]) {
  const schedule = makeSchedule({ seed, seconds: 6, only })
  const smallDisk = schedule.steps.some(({ fault }) => fault === 'disk-full')
  const campaign = await runCampaign({ schedules: [schedule], parallel: 1, smallDisk, other: null })
  return { ...campaign, description: describeSchedule(schedule) }
}
