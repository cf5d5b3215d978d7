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
    // Each connection hands its counts in about once a second: over eight of them that is some per cent.
    await sleep(3_000)
    let perSecond = Number.POSITIVE_INFINITY
    // On a machine that other tests keep busy its loops miss one another, and ask once more: the bound is that of an idle one.
    for (let tries = 0; tries < 5 && perSecond >= MOST_PER_SECOND; tries++) {
      const before = await counts()
      await sleep(8_000)
      const after = await counts()
      perSecond = (after.n - before.n) / ((after.at - before.at) / 1_000)
    }
    // It does look: 75 ms are its pause.
    expect(perSecond).toBeGreaterThan(1)
    expect(perSecond).toBeLessThan(MOST_PER_SECOND)
  } finally {
    await host.stop()
  }
}, 90_000)
