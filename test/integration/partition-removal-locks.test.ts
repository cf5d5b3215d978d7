import { expect, test } from 'vitest'
import { removeBesideOthers } from '../support/removal-beside-others.ts'

test('beside an open transaction that has emitted, and beside a backup, a week waits, and no emit waits for it', async () => {
  const { emitted } = await removeBesideOthers(5_000)
  expect(emitted).toBeGreaterThan(100)
}, 120_000)
