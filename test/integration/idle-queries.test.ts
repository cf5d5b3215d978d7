/** What a worker asks of the database while nothing happens. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { underTest } from '../support/webhooks-under-test.ts'

/** The contract's bound, per worker. */
const MOST_PER_SECOND = 25

test('fewer than 25 statements a second', async () => {
  const host = await underTest({ worker: { jobEngine: true } })
  try {
    await host.webhooks.start()
    const counts = async () => {
      const [row] = await host.sql`select clock_timestamp() at, xact_commit + xact_rollback n
        from pg_stat_database where datname = current_database()`
      return { at: (row!.at as Date).getTime(), n: Number(row!.n) }
    }
    // Each connection hands its counts in about once a second: over fifteen of them that is a few per cent.
    await sleep(3_000)
    const before = await counts()
    await sleep(15_000)
    const after = await counts()
    const seconds = (after.at - before.at) / 1_000
    // It does look: 60 ms are its pause.
    expect((after.n - before.n) / seconds).toBeGreaterThan(1)
    expect((after.n - before.n) / seconds).toBeLessThan(MOST_PER_SECOND)
  } finally {
    await host.stop()
  }
}, 60_000)
