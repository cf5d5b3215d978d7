/**
 * A backend that emits in transactions of its own: committed, rolled back, in savepoints, committed late. Beside each event it
 * writes a row of its own in the same transaction, so that what was committed is known exactly, whatever became of the answer.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { createWebhooks, defineEvents } from '@posthaste/core'
import { type ClientBase, Pool } from 'pg'
import * as z from 'zod'
import { serve } from '../ipc.ts'
import { seededRandom } from '../random.ts'

export interface HostSettings {
  database: string
  /** Of its events: from `index * 1,000,000`. */
  index: number
  seed: number
  secretKeys: { current: string; keys: Record<string, string> }
}

export type HostOrder = { do: 'emit' } | { do: 'quiet' } | { do: 'late'; forMs: number }

serve<HostSettings, HostOrder, never>(async ({ database, index, seed, secretKeys }) => {
  const random = seededRandom(seed * 31 + index)
  const webhooks = createWebhooks({
    database,
    installation: 'faults',
    secretKeys,
    events: defineEvents({
      'test.happened': {
        schema: z.object({ n: z.int() }),
        description: 'Something happened',
        trigger: 'A test',
        example: { n: 1 },
      },
    }),
  })
  const pool = new Pool({ connectionString: database, max: 6, connectionTimeoutMillis: 2_000, query_timeout: 8_000 })
  pool.on('error', () => {})
  pool.on('connect', (client) => void client.on('error', () => {}))
  let n = index * 1_000_000
  let emitting = false
  const underWay = new Set<Promise<void>>()

  async function emit(tx: ClientBase): Promise<void> {
    n++
    const number = n
    await tx.query('insert into orders (n) values ($1)', [number])
    await webhooks.emit('test.happened', { n: number }, { tx })
  }

  async function transaction(work: (tx: ClientBase) => Promise<'commit' | 'rollback'>): Promise<void> {
    const tx = await pool.connect()
    try {
      await tx.query('begin')
      await tx.query(await work(tx))
      tx.release()
    } catch (error) {
      tx.release(error as Error)
    }
  }

  /** One transaction as backends make them. */
  async function once(): Promise<void> {
    const kind = random.next()
    const holdMs = random.between(0, 20)
    await transaction(async (tx) => {
      await emit(tx)
      if (kind < 0.12) return 'rollback'
      if (kind < 0.24) {
        await tx.query('savepoint a')
        await emit(tx)
        await tx.query('rollback to savepoint a')
        await emit(tx)
      } else if (kind < 0.32) {
        await tx.query('savepoint a')
        await emit(tx)
        await tx.query('release savepoint a')
      }
      await sleep(holdMs)
      return 'commit'
    })
  }

  async function late(forMs: number): Promise<void> {
    await transaction(async (tx) => {
      await emit(tx)
      await sleep(forMs)
      return 'commit'
    })
  }

  function track(work: Promise<void>): void {
    const tracked = work.catch(() => {}).finally(() => underWay.delete(tracked))
    underWay.add(tracked)
  }

  async function loop(): Promise<void> {
    while (emitting) {
      if (underWay.size < 4) track(once())
      await sleep(random.between(25, 90))
    }
  }

  return async (order) => {
    if (order.do === 'late') track(late(order.forMs))
    else if (order.do === 'emit') {
      emitting = true
      void loop()
    } else {
      emitting = false
      await Promise.all(underWay)
    }
  }
})
