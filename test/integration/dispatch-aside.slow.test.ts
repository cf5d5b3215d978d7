/** The rest of a large transaction is laid aside: nobody waits until it is read, each account's events keep their order, nothing is lost. */
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eraseEvents } from '../../packages/core/src/privacy/erase-events.ts'
import { eraseTurns } from '../../packages/core/src/privacy/erase-turns.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { migrate } from '../../packages/core/src/storage/migrate.ts'
import { HELD_TAG } from '../../packages/core/src/storage/migrations/0008-turns.ts'
import * as looks from '../support/looks.ts'
import { OpenTransactions } from '../support/open-transactions.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'

const ENDPOINTS: Record<string, number[]> = {
  shop: [1, 2],
  mall: [3],
  wide: [11, 12, 13, 14, 15, 16],
  small: [4],
  nobody: [],
}

let database: TestDatabase
let sql: Sql
let transactions: OpenTransactions

beforeAll(async () => {
  database = await createTestDatabase()
  sql = connect(database.url, 8)
  transactions = new OpenTransactions(database.url)
  await migrate(sql, 'posthaste', 'test')
})
afterAll(async () => {
  await transactions.close()
  await sql.end({ timeout: 5 })
  await database.drop()
})
beforeEach(startAnew)

async function startAnew(): Promise<void> {
  await dispatchAll()
  await sql`truncate posthaste.events, posthaste.deliveries, posthaste.subscriptions, posthaste.idempotency_keys,
    posthaste.duplicates, posthaste.turns`
  for (const [account, endpoints] of Object.entries(ENDPOINTS))
    await sql`insert into posthaste.subscriptions select ${account}, '*', unnest(${endpoints}::int[])`
}

interface Run {
  account: string
  count: number
  key?: string | null
}

/** Commits runs of events of one account each, in one transaction. */
async function commit(...runs: Run[]): Promise<void> {
  await sql.begin(async (tx) => {
    for (const { account, count, key = null } of runs)
      await tx`insert into posthaste.events (account, type, data, idempotency_key)
        select ${account}, 'a.b', '{}', ${key} from generate_series(1, ${count}::int)`
  })
}

const look = (maxEvents = 10, maxMatches = 20) => looks.look(sql, maxEvents, maxMatches)
const dispatchAll = (maxEvents = 10, maxMatches = 20) => looks.dispatchAll(sql, maxEvents, maxMatches)

interface Position {
  aside: number | null
  until: string | null
  waiting: number
  held: number
}

async function position(): Promise<Position> {
  const [row] = await sql`select cardinality(aside_xids) aside, held_until::text until, turns_open waiting,
      (select count(*)::int from posthaste.turns where tag >= ${HELD_TAG}::bigint) held
    from posthaste.dispatches order by n desc limit 1`
  return row as unknown as Position
}

/** Looks until there is what is waited for. @throws Error where it takes more than `atMost` looks */
async function lookUntil(what: string, atMost: number, condition: () => Promise<boolean>): Promise<void> {
  for (let looked = 0; !(await condition()); looked++) {
    if (looked >= atMost) throw new Error(`After ${atMost} looks there is not yet: ${what}`)
    await look()
  }
}

const untilAside = () => lookUntil('a transaction aside', 20, async () => (await position()).aside !== null)
const untilHeld = () => lookUntil('something held', 20, async () => (await position()).held > 0)
/** @param atMost how many looks it may take */
const untilDispatched = (endpoint: number, atMost: number) =>
  lookUntil(`a delivery to endpoint ${endpoint}`, atMost, async () => (await dispatched(endpoint)) > 0)

/** How many deliveries an endpoint has. */
async function dispatched(endpoint: number): Promise<number> {
  const [row] = await sql`select count(*)::int n from posthaste.deliveries where endpoint = ${endpoint}`
  return row!.n as number
}

async function expectExactlyOnceInOrder(): Promise<void> {
  await looks.expectExactlyOnceInOrder(sql)
  expect(await position()).toEqual({ aside: null, until: null, waiting: 0, held: 0 })
}

test('what others commit behind a large transaction comes with the next pages, whatever its size', async () => {
  await commit({ account: 'shop', count: 10_000 })
  await commit({ account: 'mall', count: 1 })
  await untilDispatched(3, 6)
  expect((await position()).aside).not.toBeNull()
  for (let n = 2; n < 8; n++) {
    await commit({ account: 'mall', count: 1 })
    await look()
    await look()
    expect(await dispatched(3)).toBe(n)
  }
  await dispatchAll(1_000, 2_000)
  await expectExactlyOnceInOrder()
})

test('an account that has something in there, and one that laid it aside, keep their order', async () => {
  await commit({ account: 'shop', count: 600 }, { account: 'mall', count: 3 }, { account: 'shop', count: 300 })
  await commit({ account: 'mall', count: 2 }, { account: 'shop', count: 5 }, { account: 'small', count: 1 })
  await untilAside()
  await look()
  await look()
  expect(await dispatched(4)).toBe(1)
  expect(await dispatched(3)).toBe(0)
  expect((await position()).held).toBeGreaterThanOrEqual(2)
  // What comes later joins what is held.
  await commit({ account: 'mall', count: 2 })
  await look()
  await look()
  expect(await dispatched(3)).toBe(0)
  await dispatchAll()
  await expectExactlyOnceInOrder()
})

test('what is held is not dispatched before what is aside, also where nothing else waits', async () => {
  await commit({ account: 'shop', count: 300 }, { account: 'mall', count: 2 })
  await commit({ account: 'mall', count: 2 })
  await untilAside()
  while ((await position()).aside !== null) {
    // Pages that read what is aside are small, those that do not make deliveries of all that waits.
    const [newest] = await sql`select max(n)::int n from posthaste.dispatches`
    await ((newest!.n as number) % 2 === 0 ? look(1, 20) : look(1_000, 2_000))
  }
  await dispatchAll()
  await expectExactlyOnceInOrder()
})

test('several large transactions are aside at once, and nobody waits for any of them', async () => {
  await commit({ account: 'shop', count: 800 })
  await commit({ account: 'wide', count: 400 }, { account: 'mall', count: 2 })
  await commit({ account: 'shop', count: 400 })
  await commit({ account: 'small', count: 1 }, { account: 'mall', count: 1 })
  await untilDispatched(4, 15)
  expect(await position()).toMatchObject({ aside: 3, held: 1 })
  expect(await dispatched(3)).toBe(0)
  await dispatchAll()
  await expectExactlyOnceInOrder()
})

test('large transactions that were open at the same time keep nobody waiting, nor lose their order', async () => {
  const [one, other] = [await transactions.begin(), await transactions.begin()]
  // More of the second account than is looked through for something that is aside: it is taken for granted.
  for (let n = 0; n < 10; n++) {
    await one.tx`insert into posthaste.events (account, type, data) select 'shop', 'a.b', '{}' from generate_series(1, 50)`
    await other.tx`insert into posthaste.events (account, type, data) select 'mall', 'a.b', '{}' from generate_series(1, 50)`
  }
  await one.commit()
  await other.commit()
  await commit({ account: 'small', count: 1 })
  await untilDispatched(4, 12)
  expect(await position()).toMatchObject({ aside: 2, held: 0 })
  expect(await dispatched(3)).toBe(0)
  await dispatchAll()
  await expectExactlyOnceInOrder()
})

test('a large transaction with something of an account of which something is held is read in its place', async () => {
  await commit({ account: 'shop', count: 800 })
  await commit({ account: 'shop', count: 1 }, { account: 'small', count: 1 })
  await commit({ account: 'wide', count: 400 }, { account: 'shop', count: 1 })
  await commit({ account: 'small', count: 1 })
  let most = 0
  for (let pages = 0; (await dispatched(4)) < 2; pages++) {
    expect(pages).toBeLessThan(60)
    await look()
    most = Math.max(most, (await position()).aside ?? 0)
  }
  expect(most).toBe(1)
  await dispatchAll()
  await expectExactlyOnceInOrder()
})

test('an idempotency key of what is aside holds against what is committed later', async () => {
  await commit({ account: 'shop', count: 500 }, { account: 'mall', count: 1, key: 'once' })
  await commit({ account: 'mall', count: 1, key: 'once' })
  await untilAside()
  await dispatchAll()
  await expectExactlyOnceInOrder()
  const [key] = await sql`select e.xid = (select min(x.xid::text::int)::text::xid8 from posthaste.events x) first
    from posthaste.idempotency_keys k join posthaste.events e on e.id = k.event_id`
  expect(key).toEqual({ first: true })
})

test('what is aside is counted as not dispatched', async () => {
  await commit({ account: 'nobody', count: 200 })
  await commit({ account: 'shop', count: 500 })
  await untilAside()
  // Whatever waits for its turn is done; then only what is aside is left to name.
  await sql`update posthaste.turns set oldest = 'ffffffff-ffff-ffff-ffff-ffffffffffff'`
  const [row] = await sql`select posthaste.oldest_undispatched() at, posthaste.id_time((
    select e.id from posthaste.events e, (select * from posthaste.dispatches order by n desc limit 1) d
    where e.xid = d.aside_xids[1] and e.id > d.aside_ids[1] order by e.id limit 1)) expected`
  expect(row!.at).toEqual(row!.expected)
  await dispatchAll()
  await expectExactlyOnceInOrder()
})

test('a position from now on leaves out what is aside', async () => {
  await commit({ account: 'shop', count: 500 })
  await untilAside()
  const before = await dispatched(1)
  await sql`select posthaste.dispatch_from_now()`
  await commit({ account: 'shop', count: 3 })
  await dispatchAll()
  expect(await dispatched(1)).toBe(before + 3)
  expect(await position()).toEqual({ aside: null, until: null, waiting: 0, held: 0 })
})

describe('while it is aside', () => {
  test('all of it may be erased, and what is held goes on', async () => {
    await commit({ account: 'shop', count: 500 }, { account: 'mall', count: 2 })
    await commit({ account: 'mall', count: 2 })
    await untilAside()
    await untilHeld()
    const rows =
      await sql`select e.id::text from posthaste.events e join posthaste.dispatches d on e.xid = d.aside_xids[1]
      where d.n = (select max(n) from posthaste.dispatches) and not exists (select from posthaste.deliveries x where x.event_id = e.id)`
    await eraseEvents(
      sql,
      'posthaste',
      rows.map((row) => row.id as string),
      {
        events: 0,
        deliveries: 0,
        attempts: 0,
        idempotencyKeys: 0,
        notSent: 0,
      },
    )
    await dispatchAll()
    await expectExactlyOnceInOrder()
    expect(await dispatched(3)).toBe(2)
  })

  test('an account of which something is held may be erased', async () => {
    await commit({ account: 'shop', count: 500 }, { account: 'mall', count: 2 })
    await commit({ account: 'mall', count: 2 }, { account: 'shop', count: 2 })
    await untilAside()
    await untilHeld()
    for (const account of ['mall', 'shop']) {
      await sql`update posthaste.installation i set turns_erased = d.turns_made
        from (select turns_made from posthaste.dispatches order by n desc limit 1) d`
      await sql`delete from posthaste.events where account = ${account}`
      await eraseTurns(sql, 'posthaste', account)
    }
    const before = await dispatched(1)
    await commit({ account: 'small', count: 1 })
    await dispatchAll()
    expect([await dispatched(1), await dispatched(3), await dispatched(4)]).toEqual([before, 0, 1])
    expect(await position()).toEqual({ aside: null, until: null, waiting: 0, held: 0 })
  })
})

test('whatever large and small transactions of several accounts, and looks of any page size: each event once, in order', {
  timeout: PROPERTY_TIMEOUT,
}, async () => {
  const run = fc.record({
    account: fc.constantFrom('shop', 'shop', 'mall', 'wide', 'small', 'nobody'),
    count: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 10, max: 120 })),
    key: fc.option(fc.constantFrom('k1', 'k2', 'k3'), { freq: 8 }),
  })
  const command = fc.oneof(
    { weight: 3, arbitrary: fc.array(run, { minLength: 1, maxLength: 4 }) },
    {
      weight: 4,
      arbitrary: fc.record({
        maxEvents: fc.oneof(
          { weight: 5, arbitrary: fc.integer({ min: 1, max: 6 }) },
          { weight: 1, arbitrary: fc.constant(50) },
        ),
        maxMatches: fc.integer({ min: 1, max: 12 }),
      }),
    },
  )
  let sawAside = 0
  let sawSeveral = 0
  let sawHeld = 0
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 15, maxLength: 40 }), async (commands) => {
      await startAnew()
      for (const each of commands) {
        if (Array.isArray(each)) await commit(...each)
        else await look(each.maxEvents, each.maxMatches)
        const { aside, held } = await position()
        sawAside += Number(aside !== null)
        sawSeveral += Number((aside ?? 0) > 1)
        sawHeld += Number(held > 0)
      }
      await dispatchAll(7, 11)
      await expectExactlyOnceInOrder()
    }),
    propertyRuns(25),
  )
  expect(sawAside).toBeGreaterThan(30)
  expect(sawSeveral).toBeGreaterThan(5)
  expect(sawHeld).toBeGreaterThan(5)
})
