/**
 * `pnpm demo`: a Postgres of its own, the example shop in this process, a receiver in another, and every event of the
 * catalogue on its way from a business transaction to a verified webhook. Exits with 0 only if all of it was exactly as
 * expected.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { affiliateEvents } from '@posthaste/core'
import { startPostgres } from 'posthaste-test/embedded-postgres'
import { createEndpoints } from './demo/endpoints.ts'
import { startReceiver } from './demo/receiver-process.ts'
import { DemoRecord } from './demo/record.ts'
import { printDeliveries, printExample, printSummary } from './demo/report.ts'
import { createScreen } from './demo/screen.ts'
import { startShop } from './demo/shop.ts'
import { tellStory } from './demo/story.ts'

/** All deliveries take about two seconds, most of them the flaky receiver's retries; a slow machine may need more. */
const PATIENCE_MS = 20_000
/** After everything expected has arrived: long enough for what should not come to come. */
const QUIET_MS = 500

const interrupted = new AbortController()
const screen = createScreen(process.stdout)
const startedAt = performance.now()

for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    // Asked twice: Postgres and the receiver notice by themselves when this process is gone.
    if (interrupted.signal.aborted) process.exit(130)
    interrupted.abort()
  })
}

// `pnpm demo | head`: nobody reads on, so there is nothing left to do but to clean up.
process.stdout.on('error', () => interrupted.abort())

try {
  process.exitCode = await demonstrate(interrupted.signal)
} catch (error) {
  if (interrupted.signal.aborted) {
    screen.line('\nInterrupted; everything has been stopped.')
    process.exitCode = 130
  } else {
    console.error(error)
    process.exitCode = 1
  }
}

async function demonstrate(signal: AbortSignal): Promise<number> {
  await using running = new AsyncDisposableStack()
  const record = new DemoRecord()

  screen.heading('Posthaste demo')
  const database = await startPostgres()
  running.defer(() => database.stop('immediate'))
  signal.throwIfAborted()
  screen.line(`  Postgres  127.0.0.1:${database.port}`)
  const receiver = await startReceiver((request) => record.receive(request))
  running.defer(() => receiver.stop())
  signal.throwIfAborted()
  screen.line(`  Receiver  ${receiver.url} (process ${receiver.pid})`)
  const shop = await startShop({
    databaseUrl: database.url,
    onSettled: (outcome, events) => record.settle(outcome, events),
    sender: record.sender,
    log: (error) => record.faults.push(`The shop failed: ${error instanceof Error ? error.message : error}`),
  })
  running.defer(() => shop.stop())
  signal.throwIfAborted()
  screen.line(`  Shop      ${shop.url} (this process)`)

  screen.heading('Endpoints, by POST /api/v1/affiliate/webhooks/')
  const wrongSecret = process.env.POSTHASTE_DEMO_WRONG_SECRET
  await createEndpoints({
    shopUrl: shop.url,
    receiver,
    record,
    screen,
    signal,
    ...(wrongSecret ? { wrongSecret } : {}),
  })

  screen.heading('Business')
  await tellStory({ shopUrl: shop.url, record, screen, signal })

  await record.completed(PATIENCE_MS, signal)
  await sleep(QUIET_MS, undefined, { signal })

  for (const type of affiliateEvents.types) {
    if (!record.committed.some((event) => event.type === type)) record.faults.push(`${type} did not occur.`)
  }
  const faults = record.findFaults()
  printDeliveries(record, screen)
  printExample(record, screen)
  printSummary(record, faults, screen, performance.now() - startedAt)
  return faults.length === 0 ? 0 : 1
}
