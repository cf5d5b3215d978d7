/** A host's process: emits in transactions of its own, and, once told to start, dispatches and delivers. */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { serveParent, wallClock } from '../support/child-process.ts'
import { accountOf, type BenchWebhooks, createBenchWebhooks } from '../support/installation.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'

export interface EmittedAt {
  id: string
  /** When the host was about to send COMMIT, wall clock in ms. */
  at: number
}

export interface SteadyLoad {
  perSecond: number
  seconds: number
  endpoints: number
  from: number
}

export interface BulkLoad {
  endpoint: number
  perSecond: number
  seconds: number
  size: number
}

let webhooks: BenchWebhooks | null = null
let sql: postgres.Sql | null = null
let number = 0

async function emitOne(endpoint: number): Promise<EmittedAt> {
  if (webhooks === null || sql === null) throw new Error('configure() was not called')
  const posthaste = webhooks
  return await sql.begin(async (tx) => {
    number++
    await tx`insert into conversions (affiliate_id, order_id, amount) values (${456}, ${number}, ${85.5})`
    const { id } = await posthaste.emit(EVENT_TYPE, sampleData(number), { tx, account: accountOf(endpoint) })
    return { id: id as string, at: wallClock() }
  })
}

const methods = {
  configure({ url }: { url: string }) {
    webhooks = createBenchWebhooks(url)
    sql = postgres(url, { max: 10, onnotice: () => {} })
  },
  /** Answers when dispatching began, wall clock in ms. */
  async start() {
    await webhooks?.start()
    return wallClock()
  },
  async stop() {
    await webhooks?.stop()
    await sql?.end({ timeout: 5 })
  },
  /** One event after the other, with pauses in which everything falls idle. */
  async emitNowAndThen({ count, pauseMs, endpoint }: { count: number; pauseMs: number; endpoint: number }) {
    const emitted: EmittedAt[] = []
    for (let done = 0; done < count; done++) {
      // Uneven, so that it does not fall into step with anyone's pauses.
      await sleep(pauseMs * (0.75 + Math.random() / 2))
      emitted.push(await emitOne(endpoint))
    }
    return emitted
  },
  /** One account's stream, in transactions of `size` events, `perSecond` events a second. Answers how many. */
  async emitInBulk({ endpoint, perSecond, seconds, size }: BulkLoad) {
    if (webhooks === null) throw new Error('configure() was not called')
    const startedAt = performance.now()
    let emitted = 0
    while (performance.now() - startedAt < seconds * 1000) {
      if (emitted > ((performance.now() - startedAt) * perSecond) / 1000) {
        await sleep(5)
        continue
      }
      const events = Array.from({ length: size }, (_, index) => ({
        type: EVENT_TYPE,
        data: sampleData(emitted + index),
        account: accountOf(endpoint),
      }))
      await webhooks.emitMany(events, { tx: 'own' })
      emitted += size
    }
    return emitted
  },
  /** At a fixed rate whatever the answers take, to `endpoints` endpoints from `from` on in turn. */
  async emitSteadily({ perSecond, seconds, endpoints, from }: SteadyLoad) {
    const emitted: Promise<EmittedAt>[] = []
    const startedAt = performance.now()
    const total = perSecond * seconds
    while (emitted.length < total) {
      const due = Math.min(total, Math.floor(((performance.now() - startedAt) * perSecond) / 1000))
      while (emitted.length < due) emitted.push(emitOne(from + (emitted.length % endpoints)))
      await sleep(1)
    }
    return await Promise.all(emitted)
  },
}

export type HostApplication = typeof methods

serveParent(methods as never)
