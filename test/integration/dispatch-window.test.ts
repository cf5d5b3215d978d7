/** The dispatcher's step by itself: every committed event gets exactly its deliveries, whenever and in whatever order it commits. */
import fc from 'fast-check'
import type postgres from 'postgres'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { dispatchOnce } from '../../packages/core/src/dispatch/dispatcher.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { migrate } from '../../packages/core/src/storage/migrate.ts'
import * as looks from '../support/looks.ts'
import { type OpenTransaction, OpenTransactions } from '../support/open-transactions.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'

const SCHEMA = 'posthaste'
let database: TestDatabase
let sql: Sql
let transactions: OpenTransactions

beforeAll(async () => {
  database = await createTestDatabase()
  sql = connect(database.url, 12)
  transactions = new OpenTransactions(database.url)
  await migrate(sql, SCHEMA, 'test')
})
afterAll(async () => {
  await transactions.close()
  await sql.end({ timeout: 5 })
  await database.drop()
})
beforeEach(async () => {
  await dispatchAll()
  await sql`delete from posthaste.subscriptions`
})

type Emitter = Pick<postgres.TransactionSql, 'unsafe'>

async function emit(on: Emitter | Sql, type: string, account = 'default', key: string | null = null): Promise<string> {
  const [row] = await (on as Sql).unsafe(
    `insert into posthaste.events (account, type, data, idempotency_key) values ($1, $2, '{}', $3) returning id::text`,
    [account, type, key],
  )
  return row!.id as string
}

async function subscribe(pattern: string, endpoints: readonly number[], account = 'default'): Promise<void> {
  await sql`insert into posthaste.subscriptions (account, pattern, endpoint)
    select ${account}, ${pattern}, unnest(${endpoints as number[]}::int[])`
}

const step = (maxEvents: number, maxMatches: number) => looks.look(sql, maxEvents, maxMatches)
const dispatchAll = (maxEvents?: number, maxMatches?: number) => looks.dispatchAll(sql, maxEvents, maxMatches)

async function endpointsOf(event: string): Promise<number[]> {
  const rows = await sql`select endpoint from posthaste.deliveries where event_id = ${event} order by endpoint`
  return rows.map((row) => row.endpoint as number)
}

describe('what commits late', () => {
  test('a transaction that emits first and commits after a thousand others', async () => {
    await subscribe('a.b', [1])
    const late = await transactions.begin()
    const first = await emit(late.tx, 'a.b')
    const others: string[] = []
    for (let n = 0; n < 1_000; n++) {
      others.push(await emit(sql, 'a.b'))
      if (n % 100 === 0) await dispatchAll()
    }
    await dispatchAll()
    expect(await endpointsOf(first)).toEqual([])
    await late.commit()
    await dispatchAll()
    expect(await endpointsOf(first)).toEqual([1])
    const [{ n } = { n: 0 }] =
      await sql`select count(*)::int n from posthaste.deliveries where event_id = any (${others}::uuid[])`
    expect(n).toBe(1_000)
  })

  test('is found at the next look, also while an older transaction stays open and none has begun since', async () => {
    await subscribe('a.b', [1])
    const oldest = await transactions.begin()
    await emit(oldest.tx, 'a.b')
    const middle = await transactions.begin()
    const event = await emit(middle.tx, 'a.b')
    await emit(sql, 'a.b')
    await dispatchAll()
    // The snapshot before and after this commit have the same xmin and the same xmax.
    await middle.commit()
    await dispatchAll()
    expect(await endpointsOf(event)).toEqual([1])
    await oldest.rollback()
  })

  test('a prepared transaction', async () => {
    await subscribe('a.b', [1])
    const prepared = await transactions.begin()
    const event = await emit(prepared.tx, 'a.b')
    await prepared.tx.unsafe(`prepare transaction 'two-phase'`)
    await prepared.commit()
    await emit(sql, 'a.b')
    await dispatchAll()
    expect(await endpointsOf(event)).toEqual([])
    await sql`commit prepared 'two-phase'`
    await dispatchAll()
    expect(await endpointsOf(event)).toEqual([1])
  })

  test('200 subtransactions, some of them rolled back', async () => {
    await subscribe('a.b', [1])
    const outer = await transactions.begin()
    const kept: string[] = []
    const dropped: string[] = []
    for (let n = 0; n < 200; n++) {
      await outer.tx.unsafe('savepoint s')
      const event = await emit(outer.tx, 'a.b')
      if (n % 3 === 0) await outer.tx.unsafe('rollback to s')
      ;(n % 3 === 0 ? dropped : kept).push(event)
      if (n % 50 === 0) await dispatchAll()
    }
    await emit(sql, 'a.b')
    await dispatchAll()
    await outer.commit()
    await dispatchAll(7, 2_000)
    const rows = await sql`select event_id::text id from posthaste.deliveries
      where event_id = any (${[...kept, ...dropped]}::uuid[]) order by event_id`
    expect(rows.map((row) => row.id)).toEqual(kept.toSorted())
  })
})

test('a hundred thousand uncommitted rows keep nobody waiting, and are delivered once when they commit', async () => {
  await subscribe('a.b', [1])
  const [{ before } = { before: 0 }] = await sql`select count(*)::int before from posthaste.deliveries`
  const large = await transactions.begin()
  await large.tx.unsafe(
    `insert into posthaste.events (account, type, data) select 'default', 'a.b', '{}' from generate_series(1, 100000)`,
  )
  const small = await emit(sql, 'a.b')
  const startedAt = performance.now()
  await dispatchAll()
  const took = performance.now() - startedAt
  expect(await endpointsOf(small)).toEqual([1])
  // One look at the large transaction's rows takes longer than this; 2 to 5 ms are usual.
  expect(took).toBeLessThan(1_000)
  await large.commit()
  // While it is worked off page by page, others commit.
  const others: string[] = []
  for (let pages = 0; pages < 20; pages++) {
    await step(1_000, 2_000)
    others.push(await emit(sql, 'a.b'))
  }
  await dispatchAll(10_000, 20_000)
  const [{ after } = { after: 0 }] = await sql`select count(*)::int after from posthaste.deliveries`
  expect(after - before).toBe(100_000 + 1 + others.length)
}, 60_000)

describe('pages', () => {
  test('one event with more matches than a page has, between others', async () => {
    const everybody = Array.from({ length: 25 }, (_, index) => index + 1)
    await subscribe('big.event', everybody)
    await subscribe('big.*', [3, 30])
    await subscribe('a.b', [2])
    const before = await emit(sql, 'a.b')
    const big = await emit(sql, 'big.event')
    const after = await emit(sql, 'a.b')
    const firstDispatch = await newest()
    // But for the two that found nothing.
    const steps = (await dispatchAll(1_000, 10)) - 2
    expect(steps).toBeGreaterThanOrEqual(3)
    expect(await endpointsOf(before)).toEqual([2])
    expect(await endpointsOf(big)).toEqual([...everybody, 30])
    expect(await endpointsOf(after)).toEqual([2])
    await expectWakeUpsToMatch(firstDispatch)
  })

  test.each([10, 20])('exactly as many matches as pages hold (%i)', async (count) => {
    const endpoints = Array.from({ length: count }, (_, index) => index + 1)
    await subscribe('big.event', endpoints)
    const events = [await emit(sql, 'big.event'), await emit(sql, 'big.event')]
    await dispatchAll(1_000, 10)
    for (const event of events) expect(await endpointsOf(event)).toEqual(endpoints)
  })

  test('several patterns of one endpoint make one delivery', async () => {
    for (const pattern of ['a.b.c', 'a.b.*', 'a.*', '*']) await subscribe(pattern, [7])
    await subscribe('a.*', [8])
    await subscribe('b.*', [9])
    const event = await emit(sql, 'a.b.c')
    await dispatchAll()
    expect(await endpointsOf(event)).toEqual([7, 8])
  })

  test("another account's endpoints get nothing", async () => {
    await subscribe('*', [1], 'mine')
    await subscribe('*', [2], 'yours')
    const event = await emit(sql, 'a.b', 'mine')
    await dispatchAll()
    expect(await endpointsOf(event)).toEqual([1])
  })
})

describe('idempotency keys', () => {
  test('a repeated key is dispatched once within an account, in one window or in several', async () => {
    await subscribe('*', [1])
    await subscribe('*', [2], 'other')
    const first = await emit(sql, 'a.b', 'default', 'key')
    const sameWindow = await emit(sql, 'a.b', 'default', 'key')
    const elsewhere = await emit(sql, 'a.b', 'other', 'key')
    const without = await emit(sql, 'a.b')
    await dispatchAll()
    const later = await emit(sql, 'a.b', 'default', 'key')
    await dispatchAll()
    expect([await endpointsOf(first), await endpointsOf(sameWindow), await endpointsOf(later)]).toEqual([[1], [], []])
    expect([await endpointsOf(elsewhere), await endpointsOf(without)]).toEqual([[2], [1]])
    // The duplicates are still there to be seen, and which event they repeat.
    const rows = await sql`select e.id::text id, k.event_id::text original from posthaste.events e
      join posthaste.idempotency_keys k on k.account = e.account and k.key = e.idempotency_key
      where e.id = any (${[first, sameWindow, later]}::uuid[]) order by e.id`
    expect(rows.map((row) => row.original)).toEqual([first, first, first])
  })

  test('pages of one event each, with duplicates among them', async () => {
    await subscribe('*', [1])
    const events: string[] = []
    for (let n = 0; n < 12; n++) events.push(await emit(sql, 'a.b', 'default', `page-${n % 4}`))
    await dispatchAll(1, 1)
    const sent = await Promise.all(events.map(async (event) => (await endpointsOf(event)).length))
    expect(sent).toEqual([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
  })

  test('a key may be used again after seven days', async () => {
    await subscribe('*', [1])
    await emit(sql, 'a.b', 'default', 'weekly')
    await dispatchAll()
    await sql`update posthaste.idempotency_keys set at = at - interval '6 days 23 hours' where key = 'weekly'`
    const early = await emit(sql, 'a.b', 'default', 'weekly')
    await dispatchAll()
    expect(await endpointsOf(early)).toEqual([])
    await sql`update posthaste.idempotency_keys set at = at - interval '2 hours' where key = 'weekly'`
    const again = await emit(sql, 'a.b', 'default', 'weekly')
    await dispatchAll()
    expect(await endpointsOf(again)).toEqual([1])
  })
})

describe('several dispatchers at once', () => {
  test('thousands of events over many connections: each is dispatched once', async () => {
    await subscribe('a.b', [1, 2])
    const from = await newest()
    let emitting = true
    const events: string[] = []
    const emitters = Array.from({ length: 4 }, async () => {
      for (let n = 0; n < 60; n++) {
        await sql.begin(async (tx) => {
          for (let m = 0; m < 10; m++) events.push(await emit(tx as never, 'a.b'))
        })
      }
    })
    const dispatchers = Array.from({ length: 5 }, async () => {
      while (emitting) await dispatchOnce(sql, SCHEMA, 'test')
    })
    await Promise.all(emitters)
    emitting = false
    await Promise.all(dispatchers)
    await dispatchAll()
    const rows = await sql`select count(*)::int n, count(distinct (event_id, endpoint))::int pairs
      from posthaste.deliveries where event_id = any (${events}::uuid[])`
    expect(rows[0]).toEqual({ n: 4_800, pairs: 4_800 })
    await expectWakeUpsToMatch(from)
  }, 60_000)

  test('one that was killed in the middle leaves nothing behind, and the next one does it all', async () => {
    await subscribe('a.b', [1])
    const event = await emit(sql, 'a.b')
    const dying = await transactions.begin()
    await dying.tx`select * from posthaste.dispatch(1000, 2000)`
    expect(await step(1_000, 2_000)).toBeUndefined()
    const [backend] = await dying.tx`select pg_backend_pid() pid`
    await sql`select pg_terminate_backend(${backend!.pid as number})`
    await dying.commit().catch(() => {})
    await expect.poll(async () => await step(1_000, 2_000)).toBeDefined()
    await dispatchAll()
    expect(await endpointsOf(event)).toEqual([1])
  })
})

async function newest(): Promise<{ n: number; seq: number }> {
  const [row] = await sql`select n, last_seq seq from posthaste.dispatches order by n desc limit 1`
  return row as unknown as { n: number; seq: number }
}

/** The log of dispatches says exactly what was dispatched: who was woken, with which range, and nothing is numbered twice. */
async function expectWakeUpsToMatch(after: { n: number; seq: number }): Promise<void> {
  const pages = await sql`select n, last_seq, oldest::text, endpoints, firsts, lasts from posthaste.dispatches
    where n > ${after.n} order by n`
  const deliveries = await sql`select seq, endpoint, event_id::text event, id::text id from posthaste.deliveries
    where seq > ${after.seq} order by seq`
  // Rising without a gap.
  expect(deliveries.map((row) => row.seq)).toEqual(deliveries.map((_, index) => after.seq + index + 1))
  let previous = after
  for (const page of pages) {
    const made = deliveries.filter((row) => row.seq > previous.seq && row.seq <= page.last_seq)
    const ranges = new Map<number, [first: number, last: number]>()
    for (const { endpoint, seq } of made) {
      const range = ranges.get(endpoint as number) ?? [seq as number, seq as number]
      ranges.set(endpoint as number, [range[0], seq as number])
    }
    // An endpoint may be named twice, the second time with higher numbers.
    const woken = new Map<number, [first: number, last: number]>()
    for (const [index, endpoint] of ((page.endpoints ?? []) as number[]).entries()) {
      const [first, last] = woken.get(endpoint) ?? [page.firsts[index], page.firsts[index] - 1]
      expect(page.firsts[index]).toBeGreaterThan(last)
      woken.set(endpoint, [first, page.lasts[index]])
    }
    expect(woken).toEqual(ranges)
    for (const { event, id } of made) {
      expect(page.oldest <= event).toBe(true)
      // A delivery lies in the partition of its event's time.
      expect((id as string).slice(0, 13)).toBe((event as string).slice(0, 13))
    }
    expect(page.n).toBe(previous.n + 1)
    previous = { n: page.n as number, seq: page.last_seq as number }
  }
}

describe('any interleaving', () => {
  const SLOTS = 4
  const command = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('emit' as const),
        slot: fc.nat(SLOTS - 1),
        type: fc.constantFrom('a.x', 'a.y', 'b.z', 'none.such'),
        count: fc.integer({ min: 1, max: 4 }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('commit' as const), slot: fc.nat(SLOTS - 1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rollback' as const), slot: fc.nat(SLOTS - 1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('savepoint' as const), slot: fc.nat(SLOTS - 1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rollback to' as const), slot: fc.nat(SLOTS - 1) }) },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('dispatch' as const),
        maxEvents: fc.integer({ min: 1, max: 6 }),
        maxMatches: fc.integer({ min: 1, max: 6 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('idle' as const) }) },
  )

  const SUBSCRIBERS = { 'a.x': [1, 2, 3, 4, 5], 'a.y': [1, 2, 6, 7, 8, 9, 10, 11], 'b.z': [3], 'none.such': [] }

  test('of open, committed and rolled back transactions with looks of any page size', {
    timeout: PROPERTY_TIMEOUT,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 60, maxLength: 120 }), async (commands) => {
        await dispatchAll()
        await sql`delete from posthaste.subscriptions`
        for (const [pattern, endpoints] of Object.entries(SUBSCRIBERS)) await subscribe(pattern, endpoints)
        const from = await newest()
        interface Slot {
          open: OpenTransaction
          events: [id: string, type: keyof typeof SUBSCRIBERS][]
          /** How many events there were at the savepoint, where one was made. */
          saved: number | null
        }
        const slots: (Slot | null)[] = Array.from({ length: SLOTS }, () => null)
        const committed: Slot['events'] = []
        const aborted: Slot['events'] = []
        try {
          for (const each of commands) {
            if (each.do === 'dispatch') await step(each.maxEvents, each.maxMatches)
            // Transactions of the host that have nothing to do with us move the counter, too.
            else if (each.do === 'idle') await sql`select pg_current_xact_id()`
            else if (each.do === 'emit') {
              slots[each.slot] ??= { open: await transactions.begin(), events: [], saved: null }
              const { open, events } = slots[each.slot]!
              for (let n = 0; n < each.count; n++) events.push([await emit(open.tx, each.type), each.type])
            } else {
              const slot = slots[each.slot]
              if (slot == null) continue
              if (each.do === 'savepoint') {
                await slot.open.tx.unsafe('savepoint s')
                slot.saved = slot.events.length
              } else if (each.do === 'rollback to') {
                if (slot.saved === null) continue
                await slot.open.tx.unsafe('rollback to s')
                aborted.push(...slot.events.splice(slot.saved))
              } else {
                await slot.open[each.do]()
                ;(each.do === 'commit' ? committed : aborted).push(...slot.events)
                slots[each.slot] = null
              }
            }
          }
        } finally {
          for (const slot of slots) await slot?.open.rollback()
        }
        for (const slot of slots) aborted.push(...(slot?.events ?? []))
        await dispatchAll(3, 4)
        const made = await sql`select event_id::text event, array_agg(endpoint order by endpoint) endpoints
          from posthaste.deliveries where seq > ${from.seq} group by event_id`
        const expected = new Map(
          committed.filter(([, type]) => SUBSCRIBERS[type].length > 0).map(([id, type]) => [id, SUBSCRIBERS[type]]),
        )
        expect(new Map(made.map((row) => [row.event, row.endpoints]))).toEqual(expected)
        expect(aborted.filter(([id]) => expected.has(id))).toEqual([])
        await expectWakeUpsToMatch(from)
      }),
      { ...propertyRuns(30), endOnFailure: true },
    )
  })
})
