import { expect, test } from 'vitest'
import { removeBesideOthers } from '../support/removal-beside-others.ts'

test('a week of 1,000,000 events, deliveries and attempts is removed beside an open emitter and a backup', async () => {
  const { emitted, longestWaitMs } = await removeBesideOthers(1_000_000)
  console.log(`${emitted} emits meanwhile; the longest wait of one for a lock: ${longestWaitMs.toFixed(0)} ms`)
  expect(emitted).toBeGreaterThan(1_000)
}, 600_000)
