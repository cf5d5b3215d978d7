/** An installation that moves to another database in the middle of things, and the count of what its receivers got. */
import { createWebhooks } from '@posthaste/core'
import postgres from 'postgres'
import { expect } from 'vitest'
import type { Receiver } from './receiver.ts'
import { until } from './until.ts'
import { QUICK, type TestWebhooks, withTestOptions } from './webhooks-under-test.ts'

const SLOW_MACHINE_MS = 60_000

export interface House {
  endpoints: { ok: string; down: string; held: string; replayed: string }
  paths: { ok: string; down: string; held: string; replayed: string; late: string }
  replay: string
}

let houses = 0

function numbers(from: number, through: number): number[] {
  return Array.from({ length: through - from + 1 }, (_, index) => from + index)
}

/** The installation as it is on the old server and on the new one. */
export function open(url: string, log: string[] = []): TestWebhooks {
  const write = (message: string, fields?: Record<string, unknown>) =>
    void log.push(`${message} ${JSON.stringify(fields)}`)
  return createWebhooks(
    withTestOptions(url, {
      ...QUICK,
      retrySchedule: ['3s', '3s'],
      logger: { debug() {}, info() {}, warn: write, error: write },
    }),
  ) as unknown as TestWebhooks
}

async function emit(webhooks: TestWebhooks, from: number, to: number): Promise<void> {
  for (let n = from; n <= to; n++) await webhooks.emit('test.happened', { n }, { tx: 'own' })
}

/** So many transaction ids are used up. */
export async function burn(url: string, ids: number): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  await sql
    .unsafe(`do $$ begin for i in 1..${ids} loop perform pg_current_xact_id(); commit; end loop; end $$`)
    .simple()
  await sql.end()
}

/**
 * Delivered: 1 to 20. Waiting for a retry: three. Held: 21 to 25 of an inactive endpoint. Dispatched and not sent: the same of
 * the others. Not dispatched: 26 to 30. And a replay of everything to one endpoint has begun.
 */
export async function settleIn(url: string, receiver: Receiver): Promise<House> {
  houses++
  const path = (name: string) => `/house-${houses}/${name}`
  const paths = {
    ok: path('ok'),
    down: path('down'),
    held: path('held'),
    replayed: path('replayed'),
    late: path('late'),
  }
  receiver.answer(paths.down, 503)
  const webhooks = open(url)
  await webhooks.migrate()
  const create = async (to: string, events: string[]) =>
    (await webhooks.endpoints.create('default', { url: receiver.url(to), events: events as ['*'] })).id
  const endpoints = {
    ok: await create(paths.ok, ['test.happened']),
    down: await create(paths.down, ['test.marked']),
    held: await create(paths.held, ['test.happened']),
    replayed: await create(paths.replayed, ['test.happened']),
  }
  await webhooks.start()
  await emit(webhooks, 1, 20)
  for (let n = 1; n <= 3; n++) await webhooks.emit('test.marked', { n }, { tx: 'own' })
  // Heard by nobody then: it has had its moment.
  await webhooks.emit('affiliate.rejected', webhooks.catalog.get('affiliate.rejected').example as never, { tx: 'own' })
  for (const to of [paths.ok, paths.held, paths.replayed]) await receiver.received(to, 20, SLOW_MACHINE_MS)
  await receiver.received(paths.down, 3, SLOW_MACHINE_MS)
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  await until('everything to be recorded', async () => {
    const rows = await sql`select from posthaste.deliveries d
      where not exists (select from posthaste.attempts a where a.delivery_id = d.id)`
    return rows.length === 0
  })
  await webhooks.stop()
  const closing = open(url)
  await emit(closing, 21, 25)
  await sql`select * from posthaste.dispatch(1000, 2000, 'test')`
  await closing.endpoints.update('default', endpoints.held, { active: false })
  await emit(closing, 26, 30)
  const replay = await closing.replays.start('default', endpoints.replayed, {
    since: '2020-01-01T00:00:00Z',
    which: 'all',
  })
  await closing.stop()
  await sql.end()
  return { endpoints, paths, replay: replay.id }
}

/** Numbers of the events that each path received, in rising order. */
export type Received = Record<'ok' | 'down' | 'held' | 'replayed' | 'late', number[]>

/** What `goOn` has to answer, where nothing was lost and nothing came twice. Of 26 to 40 some were dispatched while `held` was inactive. */
export const EACH_ONCE: Omit<Received, 'held'> = {
  ok: numbers(1, 50),
  // Each failed once before.
  down: [1, 1, 2, 2, 3, 3],
  replayed: [...numbers(1, 30), ...numbers(1, 50)].toSorted((a, b) => a - b),
  late: [],
}

/** Goes on in the new place, and answers what was received, before and since. */
export async function goOn(url: string, receiver: Receiver, { endpoints, paths, replay }: House): Promise<Received> {
  receiver.answer(paths.down, 200)
  const log: string[] = []
  const webhooks = open(url, log)
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    await webhooks.migrate()
    // Before anybody dispatches here, and with numbers that are taken unless the sequences were raised.
    await emit(webhooks, 31, 35)
    const { id: late } = await webhooks.endpoints.create('default', {
      url: receiver.url(paths.late),
      events: ['affiliate.*'],
    })
    expect(Object.values(endpoints)).not.toContain(late)
    await webhooks.start()
    await emit(webhooks, 36, 40)
    await webhooks.endpoints.update('default', endpoints.held, { active: true })
    await receiver.received(paths.ok, 40, SLOW_MACHINE_MS)
    await receiver.received(paths.down, 6, SLOW_MACHINE_MS)
    await receiver.received(paths.replayed, 40 + 30, SLOW_MACHINE_MS)
    await until(
      'the replay to end',
      async () => (await webhooks.replays.get('default', replay)).status === 'completed',
      SLOW_MACHINE_MS,
    )
    // The counter comes by the numbers of the old transactions, if it began anew.
    for (let n = 41; n <= 50; n++) {
      await burn(url, 400)
      await emit(webhooks, n, n)
    }
    await receiver.received(paths.ok, 50, SLOW_MACHINE_MS)
    // What was dispatched while it was inactive makes no delivery: some of 26 to 40.
    const held = () => new Set(receiver.requests(paths.held).map(({ data }) => data.n as number))
    const wanted = [...numbers(1, 25), ...numbers(41, 50)]
    await until('what was held, and what came later', () => wanted.every((n) => held().has(n)), SLOW_MACHINE_MS)
    await receiver.received(paths.replayed, 50 + 30, SLOW_MACHINE_MS)
    await until('everything to be recorded', async () => {
      const rows = await sql`select from posthaste.retries
        union all select from posthaste.deliveries d
          where not exists (select from posthaste.attempts a where a.delivery_id = d.id)`
      return rows.length === 0
    })
  } finally {
    await webhooks.stop()
    await sql.end()
  }
  expect(log).toEqual([])
  const to = (path: string) =>
    receiver
      .requests(path)
      .map(({ data }) => data.n as number)
      .toSorted((a, b) => a - b)
  const held = to(paths.held)
  expect(new Set(held).size).toBe(held.length)
  return { ok: to(paths.ok), down: to(paths.down), held, replayed: to(paths.replayed), late: to(paths.late) }
}
