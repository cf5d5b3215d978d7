/** Fairness of the dispatcher: one account's backlog waits for its turns, nobody waits behind it, and nothing is lost or doubled. */
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { dispatchOnce } from '../../packages/core/src/dispatch/dispatcher.ts'
import { eraseEvents } from '../../packages/core/src/privacy/erase-events.ts'
import { createLogUpkeep } from '../../packages/core/src/queue/log-upkeep.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { migrate } from '../../packages/core/src/storage/migrate.ts'
import * as looks from '../support/looks.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'

let database: TestDatabase
let sql: Sql

beforeAll(async () => {
  database = await createTestDatabase()
  sql = connect(database.url, 8)
  await migrate(sql, 'posthaste', 'test')
})
afterAll(async () => {
  await sql.end({ timeout: 5 })
  await database.drop()
})
beforeEach(async () => {
  await dispatchAll()
  await sql`truncate posthaste.events, posthaste.deliveries, posthaste.subscriptions, posthaste.idempotency_keys, posthaste.duplicates`
})

const look = (maxEvents?: number, maxMatches?: number) => looks.look(sql, maxEvents, maxMatches)
const dispatchAll = (maxEvents?: number, maxMatches?: number) => looks.dispatchAll(sql, maxEvents, maxMatches)
const expectExactlyOnceInOrder = () => looks.expectExactlyOnceInOrder(sql)

/** `count` committed events of an account, in one statement. */
async function emit(
  account: string,
  count = 1,
  { type = 'a.b', key = null as string | null, on = sql } = {},
): Promise<void> {
  await on.unsafe(
    `insert into posthaste.events (account, type, data, idempotency_key)
      select $1, $2, '{}', $3 from generate_series(1, $4::int)`,
    [account, type, key, count],
  )
}

async function subscribe(account: string, endpoints: readonly number[], pattern = '*'): Promise<void> {
  await sql`insert into posthaste.subscriptions (account, pattern, endpoint)
    select ${account}, ${pattern}, unnest(${endpoints as number[]}::int[])`
}

async function waiting(): Promise<number> {
  const [row] = await sql`select turns_open waiting from posthaste.dispatches order by n desc limit 1`
  return row!.waiting as number
}

/** How many pages it takes until this account's events are dispatched. */
async function pagesUntilDispatched(endpoint: number, count: number): Promise<number> {
  for (let pages = 1; ; pages++) {
    const found = await look()
    const [row] = await sql`select count(*)::int n from posthaste.deliveries where endpoint = ${endpoint}`
    if (row!.n === count) return pages
    if (found !== undefined && !found.more) throw new Error(`after ${pages} pages ${row!.n} of ${count}`)
  }
}

test('others do not wait behind 100,000 events of one account, committed before theirs or after', async () => {
  await subscribe('shop', [1])
  await subscribe('early', [2])
  await subscribe('small', [3])
  await emit('early')
  await emit('shop', 100_000)
  await emit('small')
  // The rest of the shop's transaction is laid aside, and read by every second page.
  expect(await pagesUntilDispatched(3, 1)).toBeLessThanOrEqual(6)
  const [shop] = await sql`select count(*)::int n from posthaste.deliveries where endpoint = 1`
  expect(shop!.n).toBeGreaterThan(1_000)
  expect(shop!.n).toBeLessThan(10_000)
  for (let n = 2; n < 10; n++) {
    await emit('small')
    expect(await pagesUntilDispatched(3, n)).toBeLessThanOrEqual(2)
  }
  await emit('shop', 10)
  const pages = await dispatchAll()
  expect(pages).toBeLessThan(130)
  expect(await waiting()).toBe(0)
  await expectExactlyOnceInOrder()
}, 300_000)

test('those that wait have their turns by the work that there is, whoever came first', async () => {
  await subscribe('first', [1])
  await subscribe('second', [2])
  // Each event of this one is ten deliveries.
  await subscribe('wide', [11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
  await emit('first', 20_000)
  await emit('second', 6_000)
  await emit('wide', 600)
  const made = async () => {
    const [row] =
      await sql`select count(*) filter (where endpoint = 1)::int "first", count(*) filter (where endpoint = 2)::int "second",
      count(*) filter (where endpoint > 10)::int wide from posthaste.deliveries`
    return row as unknown as { first: number; second: number; wide: number }
  }
  while ((await made()).wide === 0) await look()
  const before = await made()
  for (let pages = 0; pages < 8; pages++) await look()
  const after = await made()
  // Of 8 pages with 1,000 to 2,000 deliveries each has a third, give or take the chunks at both ends.
  for (const account of ['first', 'second', 'wide'] as const)
    expect(after[account] - before[account]).toBeGreaterThan(1_800)
  await dispatchAll()
  await expectExactlyOnceInOrder()
}, 60_000)

test('chunks of several windows, with late commits among them, keep the order of their account', async () => {
  await subscribe('shop', [1, 2])
  await subscribe('small', [3])
  const late = await sql.reserve()
  await late`begin`
  await emit('shop', 300, { on: late as unknown as Sql })
  for (let window = 0; window < 5; window++) {
    await emit('shop', 2_500)
    await emit('small')
    for (let pages = 0; pages < 2; pages++) await look()
  }
  await late`commit`
  late.release()
  await emit('shop', 2_500)
  expect(await waiting()).toBeGreaterThan(5)
  await dispatchAll()
  const [wrong] =
    await sql`select count(*)::int deliveries, count(distinct (event_id, endpoint))::int pairs from posthaste.deliveries`
  expect(wrong).toEqual({ deliveries: 2 * (300 + 6 * 2_500) + 5, pairs: 2 * (300 + 6 * 2_500) + 5 })
}, 60_000)

test('an event with more matches than a page has waits for its turn, and goes on where a page ended', async () => {
  await subscribe(
    'wide',
    Array.from({ length: 1_050 }, (_, index) => index + 100),
  )
  await subscribe('small', [1])
  await emit('wide', 4)
  await emit('small')
  expect((await look(100, 200))!.deliveries).toBe(200)
  for (let n = 1; n <= 8; n++) {
    await look(100, 200)
    const [row] = await sql`select count(*)::int n from posthaste.deliveries where endpoint = 1`
    expect(row!.n).toBe(n)
    await emit('small')
  }
  await dispatchAll(100, 200)
  await expectExactlyOnceInOrder()
})

test('an idempotency key that is repeated in a later chunk is dispatched once, the first time', async () => {
  await subscribe('shop', [1])
  await emit('shop', 500)
  await emit('shop', 1, { key: 'order-1' })
  await emit('shop', 2_500)
  await emit('shop', 1, { key: 'order-1' })
  await emit('shop', 1, { key: 'order-2' })
  await look()
  await look()
  expect(await waiting()).toBeGreaterThan(0)
  await emit('shop', 1, { key: 'order-2' })
  await dispatchAll()
  await expectExactlyOnceInOrder()
  const rows =
    await sql`select e.idempotency_key key, e.id = k.event_id first, exists (select from posthaste.deliveries d
      where d.event_id = e.id) dispatched from posthaste.events e join posthaste.idempotency_keys k on k.key = e.idempotency_key
    order by e.xid, e.id`
  expect(rows.map((row) => [row.key, row.first, row.dispatched])).toEqual([
    ['order-1', true, true],
    ['order-1', false, false],
    ['order-2', true, true],
    ['order-2', false, false],
  ])
})

test('chunks that had their turn are removed, those that wait and the one that was begun stay', async () => {
  await sql`truncate posthaste.turns`
  const upkeep = createLogUpkeep(sql, 'posthaste')
  await subscribe('shop', [1])
  await emit('shop', 6_000)
  for (let pages = 0; pages < 4; pages++) await look()
  const chunks = async () => {
    const [row] = await sql`select count(*)::int n from posthaste.turns`
    return row!.n as number
  }
  const before = await chunks()
  await upkeep.run()
  expect(await chunks()).toBeLessThan(before)
  expect(await chunks()).toBeGreaterThanOrEqual(await waiting())
  await dispatchAll()
  await expectExactlyOnceInOrder()
  await upkeep.run()
  expect(await chunks()).toBeLessThanOrEqual(1)
})

test('what a position of the version before leaves half done is finished', async () => {
  await sql`truncate posthaste.turns`
  const endpoints = Array.from({ length: 30 }, (_, index) => index + 1)
  await subscribe('wide', endpoints)
  await subscribe('small', [99])
  await emit('small')
  await emit('wide', 2)
  await emit('small')
  // The first event of 'wide' was made deliveries of for 10 endpoints; the row is as that version wrote it.
  const [first] =
    await sql`select e.id::text, e.xid::text from posthaste.events e where e.account = 'wide' order by e.xid, e.id limit 1`
  const [small] =
    await sql`select e.id::text, e.xid::text from posthaste.events e where e.account = 'small' order by e.xid, e.id limit 1`
  await sql`insert into posthaste.deliveries (id, seq, event_id, endpoint)
    select posthaste.delivery_id(x.event, x.endpoint, 0), d.last_seq + x.ord, x.event, x.endpoint
    from (select * from posthaste.dispatches order by n desc limit 1) d, unnest(
      ${[small!.id, ...Array.from({ length: 10 }, () => first!.id)] as string[]}::uuid[],
      ${[99, ...endpoints.slice(0, 10)]}::int[]) with ordinality x(event, endpoint, ord)`
  await sql`insert into posthaste.dispatches (n, life, snap, win, key_xid, key_id, key_endpoint, last_seq, events, deliveries)
    select n + 1, life, snap, pg_current_snapshot(), ${small!.xid as string}::text::xid8, ${small!.id as string}::uuid, 10,
      last_seq + 11, 1, 11 from posthaste.dispatches order by n desc limit 1`
  await dispatchAll(5, 10)
  await expectExactlyOnceInOrder()
})

describe('in the middle of a backlog', () => {
  const erase = (ids: readonly string[]) =>
    eraseEvents(sql, 'posthaste', ids, { events: 0, deliveries: 0, attempts: 0, idempotencyKeys: 0, notSent: 0 })

  test('events that are erased are passed over, and their keys are free', async () => {
    await subscribe('shop', [1])
    await emit('shop', 2_500)
    await emit('shop', 1, { key: 'once' })
    await emit('shop', 500)
    for (let pages = 0; pages < 2; pages++) await look()
    const rows = await sql`select e.id::text from posthaste.events e
      where (e.idempotency_key is not null or random() < 0.2) and not exists (select from posthaste.deliveries d where d.event_id = e.id)`
    expect(rows.length).toBeGreaterThan(10)
    await erase(rows.map((row) => row.id as string))
    await emit('shop', 1, { key: 'once' })
    await dispatchAll()
    await expectExactlyOnceInOrder()
    const [made] = await sql`select count(*)::int n, count(distinct event_id)::int events from posthaste.deliveries`
    expect(made).toEqual({ n: 3_002 - rows.length, events: 3_002 - rows.length })
    expect(await sql`select from posthaste.duplicates`).toHaveLength(0)
  })

  test('an event that was half worked off and is erased gives way to the next', async () => {
    await subscribe(
      'wide',
      Array.from({ length: 30 }, (_, index) => index + 1),
    )
    await emit('wide', 3)
    await look(5, 10)
    await look(5, 10)
    const [open] = await sql`select key_endpoint from posthaste.dispatches order by n desc limit 1`
    expect(open!.key_endpoint).toBe(20)
    await erase([(await sql`select min(id::text) id from posthaste.events`)[0]!.id as string])
    await dispatchAll(5, 10)
    const [made] = await sql`select count(*)::int n, count(distinct event_id)::int events from posthaste.deliveries`
    expect(made).toEqual({ n: 60, events: 2 })
  })

  test('a position from now on drops what waits, and what comes after it is dispatched', async () => {
    await subscribe('shop', [1])
    await emit('shop', 5_000)
    for (let pages = 0; pages < 3; pages++) await look()
    expect(await waiting()).toBeGreaterThan(0)
    const [before] = await sql`select count(*)::int n from posthaste.deliveries`
    await sql`select posthaste.dispatch_from_now()`
    expect(await waiting()).toBe(0)
    await emit('shop', 3_000)
    await dispatchAll()
    const [after] = await sql`select count(*)::int n, (select count(*)::int from posthaste.deliveries d
      join posthaste.events e on e.id = d.event_id where d.endpoint = 1) made from posthaste.deliveries`
    expect(after).toEqual({ n: (before!.n as number) + 3_000, made: (before!.n as number) + 3_000 })
  })

  test('several dispatchers at once, one of which is killed again and again', async () => {
    await subscribe('shop', [1, 2])
    await subscribe('small', [3])
    await emit('shop', 20_000)
    let over = false
    let killed = 0
    const dispatchers = Array.from({ length: 3 }, async () => {
      while (!over) await dispatchOnce(sql, 'posthaste', 'test')
    })
    const dying = (async () => {
      while (!over) {
        const connection = connect(database.url, 1)
        try {
          const [backend] = await connection`select pg_backend_pid() pid`
          const page =
            connection`begin; select * from posthaste.dispatch(1000, 2000); select pg_sleep(0.02); rollback`.simple()
          const ended = page.then(
            () => {},
            () => killed++,
          )
          await sql`select pg_terminate_backend(${backend!.pid as number}) from (select pg_sleep(0.01)) x`
          await ended
        } finally {
          await connection.end({ timeout: 1 })
        }
      }
    })()
    for (let n = 0; n < 40; n++) await emit('small')
    await dispatchAll()
    over = true
    await Promise.all([...dispatchers, dying])
    await dispatchAll()
    expect(killed).toBeGreaterThan(0)
    await expectExactlyOnceInOrder()
  }, 60_000)
})

describe('any interleaving', () => {
  const ACCOUNTS = { shop: [1, 2], mall: [3], wide: [11, 12, 13, 14, 15, 16, 17, 18], small: [4], nobody: [] }
  const command = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('emit' as const),
        slot: fc.nat(2),
        account: fc.constantFrom('shop', 'mall', 'wide', 'small', 'nobody'),
        count: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 10, max: 60 })),
        key: fc.option(fc.constantFrom('k1', 'k2', 'k3'), { freq: 6 }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('commit' as const), slot: fc.nat(2) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rollback' as const), slot: fc.nat(2) }) },
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('dispatch' as const),
        maxEvents: fc.integer({ min: 1, max: 24 }),
        maxMatches: fc.integer({ min: 1, max: 24 }),
      }),
    },
  )

  test('of backlogs of several accounts, late commits and looks of any page size: each event once, each window in order', {
    timeout: PROPERTY_TIMEOUT,
  }, async () => {
    let sawWaiting = 0
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 40, maxLength: 70 }), async (commands) => {
        await dispatchAll()
        await sql`truncate posthaste.events, posthaste.deliveries, posthaste.subscriptions, posthaste.idempotency_keys,
          posthaste.duplicates`
        for (const [account, endpoints] of Object.entries(ACCOUNTS)) await subscribe(account, endpoints)
        const slots = new Map<number, Awaited<ReturnType<typeof sql.reserve>>>()
        const end = async (slot: number, how: 'commit' | 'rollback') => {
          const tx = slots.get(slot)
          if (tx === undefined) return
          slots.delete(slot)
          await tx.unsafe(how)
          tx.release()
        }
        try {
          for (const each of commands) {
            if (each.do === 'dispatch') {
              await look(each.maxEvents, each.maxMatches)
            } else if (each.do === 'emit') {
              let tx = slots.get(each.slot)
              if (tx === undefined) {
                tx = await sql.reserve()
                await tx`begin`
                slots.set(each.slot, tx)
              }
              await emit(each.account, each.count, { key: each.key, on: tx as unknown as Sql })
            } else await end(each.slot, each.do)
          }
          sawWaiting += await waiting()
          for (const slot of slots.keys()) await end(slot, 'commit')
        } finally {
          for (const slot of slots.keys()) await end(slot, 'rollback')
        }
        await dispatchAll(7, 11)
        expect(await waiting()).toBe(0)
        const [counts] = await sql`
          with expected as (select e.id, s.endpoint from posthaste.events e
            join posthaste.subscriptions s on s.account = e.account
            where not exists (select from posthaste.duplicates u where u.event_id = e.id)),
          made as (select event_id id, endpoint from posthaste.deliveries)
          select (select count(*)::int from (select * from expected except all select * from made) x) missing,
            (select count(*)::int from (select * from made except all select * from expected) x) too_many,
            -- Of each key of an account one event was dispatched.
            (select count(*)::int from (select e.account, e.idempotency_key from posthaste.events e
              where e.idempotency_key is not null and not exists (select from posthaste.duplicates u where u.event_id = e.id)
              group by 1, 2 having count(*) > 1) x) repeated,
            -- Within a transaction, the order is that of the ids.
            (select count(*)::int from (select d.seq, lag(d.seq) over (partition by d.endpoint, e.xid order by e.id) before
              from posthaste.deliveries d join posthaste.events e on e.id = d.event_id) x where x.seq < x.before) out_of_order`
        expect(counts).toEqual({ missing: 0, too_many: 0, repeated: 0, out_of_order: 0 })
      }),
      propertyRuns(15),
    )
    expect(sawWaiting).toBeGreaterThan(0)
  })
})
