/**
 * The dispatcher after its database has moved. A move is made by rewriting what another cluster would have written: every
 * transaction id in our tables shifted, and every row inserted by a transaction of this cluster.
 */
import fc from 'fast-check'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { connect, type Sql, type TransactionSql } from '../../packages/core/src/storage/connection.ts'
import { migrate } from '../../packages/core/src/storage/migrate.ts'
import { HELD_TAG } from '../../packages/core/src/storage/migrations/0008-turns.ts'
import * as looks from '../support/looks.ts'
import { type OpenTransaction, OpenTransactions } from '../support/open-transactions.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'

const SCHEMA = 'posthaste'
const databases: TestDatabase[] = []
let sql: Sql
let transactions: OpenTransactions

beforeEach(async () => {
  const database = await createTestDatabase()
  databases.push(database)
  sql = connect(database.url, 8)
  transactions = new OpenTransactions(database.url)
  await migrate(sql, SCHEMA, 'test')
  await sql`insert into posthaste.subscriptions values ('default', 'a.b', 1)`
})
afterEach(async () => await Promise.all([transactions.close(), sql.end({ timeout: 5 })]))
afterAll(async () => await Promise.all(databases.map((database) => database.drop())))

async function emit(on: Sql = sql, type = 'a.b', key: string | null = null): Promise<string> {
  const [row] = await on.unsafe(
    `insert into posthaste.events (account, type, data, idempotency_key) values ('default', $1, '{}', $2) returning id::text`,
    [type, key],
  )
  return row!.id as string
}

const step = (maxEvents?: number, maxMatches?: number) => looks.look(sql, maxEvents, maxMatches)
const dispatchAll = (maxEvents?: number, maxMatches?: number) => looks.dispatchAll(sql, maxEvents, maxMatches)

/** Each in a transaction of its own. */
const burn = (ids: number) =>
  sql.unsafe(`do $$ begin for i in 1..${ids} loop perform pg_current_xact_id(); commit; end loop; end $$`).simple()

// No id is below 3: a transaction that another test, on this cluster, has kept open from early on holds snapshots down there.
const moved = (id: string, by: number) => `greatest(3, ${id}::text::numeric + ${by})`
const shifted = (column: string, by: number) => `(${moved(column, by)}::text::xid8)`
const shiftedList = (column: string, by: number) =>
  `(select array_agg(${shifted('x', by)} order by ord) from unnest(${column}) with ordinality u(x, ord))`
const ASIDE_OF_REST = `(select array_agg(x::xid8) from json_array_elements_text(
  case json_typeof(rest -> 'aside_xids') when 'array' then rest -> 'aside_xids' end) x)`
const shiftedSnapshot = (column: string, by: number) => `(
  (select ${moved(`pg_snapshot_xmin(${column})`, by)} || ':' || ${moved(`pg_snapshot_xmax(${column})`, by)} || ':'
    || coalesce((select string_agg(${moved('y', by)}::text, ',' order by y) from pg_snapshot_xip(${column}) y), ''))::pg_snapshot)`

/** As if everything had been written in another cluster whose transaction ids were `by` higher. */
async function move(by: number | 'so that the newest position names this one', cluster = 'another/00000001') {
  await sql.begin(async (tx) => {
    const [chance] =
      await tx`select pg_current_xact_id()::text::int - xid::text::int by from posthaste.dispatches order by n desc limit 1`
    await rewrite(tx, typeof by === 'number' ? by : (chance!.by as number), cluster)
  })
}

async function rewrite(tx: TransactionSql, by: number, cluster: string): Promise<void> {
  await tx.unsafe(`update posthaste.events set xid = ${shifted('xid', by)}`)
  await tx.unsafe(`update posthaste.commands set xid = ${shifted('xid', by)}`)
  await tx.unsafe(`update posthaste.dispatches set life = '${cluster}', xid = ${shifted('xid', by)},
      snap = ${shiftedSnapshot('snap', by)}, win = ${shiftedSnapshot('win', by)}, key_xid = ${shifted('key_xid', by)},
      foreign_xid = ${shifted('foreign_xid', by)}, aside_xids = ${shiftedList('aside_xids', by)}`)
  // What an unfinished move keeps of the life before that is of the same numbers as the events' own.
  const [snap, win] = [`(rest ->> 'snap')::pg_snapshot`, `(rest ->> 'win')::pg_snapshot`]
  await tx.unsafe(`update posthaste.dispatches set rest = (rest::jsonb || jsonb_build_object('snap', ${shiftedSnapshot(snap, by)},
      'win', ${shiftedSnapshot(win, by)}, 'key_xid', ${shifted(`(rest ->> 'key_xid')`, by)}, 'aside_xids', ${shiftedList(ASIDE_OF_REST, by)}))::json where rest is not null`)
  await tx.unsafe(`update posthaste.replays set handed_xid = ${shifted('handed_xid', by)}`)
}

async function deliveriesOf(events: readonly string[], endpoint = 1): Promise<number> {
  const [row] = await sql`select count(*)::int n from posthaste.deliveries
    where event_id = any (${events as string[]}::uuid[]) and endpoint = ${endpoint}`
  return row!.n as number
}

/** The pages since `n` that woke endpoint 1, and through which sequence numbers: what an owner would be told. */
async function wokenSince(n: number): Promise<number> {
  const [row] =
    await sql`select count(*)::int n from posthaste.dispatches d, unnest(d.endpoints) e where d.n > ${n} and e = 1`
  return row!.n as number
}

const newestPage = async () => (await sql`select max(n) n from posthaste.dispatches`)[0]!.n as number

// Below the counter, a little above it (so that it is passed in the test), and far above.
describe.each([-400, 300, 5_000_000])('transaction ids that were %i higher', (by) => {
  test('what was dispatched stays so; what was not, and what was emitted since, is dispatched once', async () => {
    await burn(500)
    const done = [await emit(), await emit()]
    const unheard = await emit(sql, 'x.y')
    await dispatchAll()
    const left = [await emit(), await emit()]
    await move(by)
    // Before anybody dispatches here; in a savepoint too, whose rows are inserted by another transaction than they name.
    const since = [await emit()]
    await sql.begin(async (tx) => {
      await tx.savepoint(async (inner) => void since.push(await emit(inner as unknown as Sql)))
    })
    const open = await transactions.begin()
    const late = await emit(open.tx)
    const before = await newestPage()
    await dispatchAll()
    expect(await deliveriesOf([...left, ...since])).toBe(4)
    expect(await deliveriesOf(done)).toBe(2)
    await open.commit()
    const after = [await emit(), late]
    await dispatchAll()
    expect(await deliveriesOf(after)).toBe(2)
    expect(await wokenSince(before)).toBeLessThanOrEqual(3)

    // Somebody subscribes to what nobody had heard: it has had its moment, also when the counter comes by its old number.
    await sql`insert into posthaste.subscriptions values ('default', 'x.y', 2), ('default', 'a.b', 2)`
    for (let n = 0; n < 8; n++) {
      await burn(50)
      await dispatchAll()
    }
    expect(await deliveriesOf([unheard, ...done, ...left, ...since, ...after], 2)).toBe(0)
    const last = await emit(sql, 'x.y')
    await dispatchAll()
    expect(await deliveriesOf([last], 2)).toBe(1)
  })

  test('in the middle of a window, and of an event with more matches than a page', async () => {
    await sql`insert into posthaste.subscriptions select 'default', 'a.b', n from generate_series(2, 7) n`
    const events: string[] = []
    for (let n = 0; n < 5; n++) events.push(await emit())
    await step(2, 3)
    const [row] =
      await sql`select key_endpoint, win, turns_open waiting from posthaste.dispatches order by n desc limit 1`
    expect(row).toEqual({ key_endpoint: 3, win: expect.any(String), waiting: expect.any(Number) })
    expect(row!.waiting).toBeGreaterThan(0)
    await move(by)
    events.push(await emit())
    await dispatchAll(2, 3)
    for (let endpoint = 1; endpoint <= 7; endpoint++) expect(await deliveriesOf(events, endpoint)).toBe(6)
    const [seqs] = await sql`select count(distinct seq)::int different, count(*)::int n from posthaste.deliveries`
    expect(seqs).toEqual({ different: 42, n: 42 })
  })

  test('a backlog that waits for its turns goes on, in its order, and nobody waits behind it', async () => {
    await sql`insert into posthaste.subscriptions values ('small', 'a.b', 2)`
    const emitMany = (account: string, n: number) => sql`insert into posthaste.events (account, type, data)
      select ${account}, 'a.b', '{}' from generate_series(1, ${n}::int)`
    await burn(500)
    await emitMany('default', 200)
    for (let n = 0; n < 5; n++) await step(10, 20)
    await move(by)
    await emitMany('default', 150)
    await emitMany('small', 1)
    const waiting = async () =>
      (await sql`select turns_open waiting, rest from posthaste.dispatches order by n desc limit 1`)[0]!
    expect((await waiting()).waiting).toBeGreaterThan(0)
    let pages = 0
    const small = async () => (await sql`select from posthaste.deliveries where endpoint = 2`).length
    for (; (await small()) === 0; pages++) await step(10, 20)
    expect(pages).toBeLessThan(8)
    expect((await waiting()).waiting).toBeGreaterThan(0)
    await emitMany('default', 20)
    await dispatchAll(10, 20)
    expect(await waiting()).toEqual({ waiting: 0, rest: null })
    const [made] =
      await sql`select count(*)::int n, count(distinct event_id)::int events, count(distinct seq)::int seqs,
      (select count(*)::int from (select d.seq, lag(d.seq) over (order by d.event_id) before from posthaste.deliveries d
        where d.endpoint = 1) x where x.seq < x.before) out_of_order from posthaste.deliveries`
    expect(made).toEqual({ n: 371, events: 371, seqs: 371, out_of_order: 0 })
  })

  test('what was laid aside is dispatched before what is held for it, and all of it once', async () => {
    await burn(500)
    await sql`insert into posthaste.subscriptions values ('small', 'a.b', 2)`
    const emitMany = (account: string, n: number, on = sql) => on`insert into posthaste.events (account, type, data)
      select ${account}, 'a.b', '{}' from generate_series(1, ${n}::int)`
    await sql.begin(async (tx) => {
      await emitMany('default', 300, tx as never)
      await emitMany('small', 2, tx as never)
    })
    await emitMany('small', 2)
    const position = async () =>
      (
        await sql`select aside_ids is not null aside, rest is not null rest, (select count(*)::int from posthaste.turns t
        where t.tag >= ${HELD_TAG}::bigint) held from posthaste.dispatches order by n desc limit 1`
      )[0]!
    for (let pages = 0; (await position()).held === 0; pages++) {
      expect(pages).toBeLessThan(20)
      await step(5, 10)
    }
    expect(await position()).toMatchObject({ aside: true, rest: false })
    await move(by)
    await emitMany('small', 2)
    await emitMany('default', 30)
    await step(5, 10)
    expect(await position()).toMatchObject({ aside: false, rest: true, held: 2 })
    await dispatchAll(5, 10)
    expect(await position()).toEqual({ aside: false, rest: false, held: 0 })
    const [made] =
      await sql`select count(*)::int n, count(distinct event_id)::int events, count(distinct seq)::int seqs,
      (select count(*)::int from (select d.seq, lag(d.seq) over (partition by d.endpoint order by d.event_id) before
        from posthaste.deliveries d) x where x.seq < x.before) out_of_order from posthaste.deliveries`
    expect(made).toEqual({ n: 336, events: 336, seqs: 336, out_of_order: 0 })
  })

  test('twice, the second time before the rest of the first was dispatched', async () => {
    await burn(500)
    const events = [await emit()]
    await dispatchAll()
    for (let n = 0; n < 6; n++) events.push(await emit())
    await move(by)
    for (let n = 0; n < 6; n++) events.push(await emit())
    await step(2, 2)
    await step(2, 2)
    expect((await sql`select rest from posthaste.dispatches order by n desc limit 1`)[0]!.rest).not.toBeNull()
    events.push(await emit())
    await move(by, 'third/00000001')
    events.push(await emit())
    await dispatchAll(2, 2)
    expect(await deliveriesOf(events)).toBe(15)
  })

  test('commands that were not dispatched, and a running replay, go on', async () => {
    const event = await emit()
    await sql`insert into posthaste.endpoints (account, url, events, active, secret) values ('default', 'https://a.example', '{*}', true, '-')`
    await dispatchAll()
    await sql`insert into posthaste.replays (account, endpoint, which, since, until, through)
      values ('default', 1, 'all', now() - interval '1 hour', now() + interval '1 hour', '00000000-0000-0000-0000-000000000000')`
    await sql`insert into posthaste.commands (kind, endpoint, payload)
      values ('replay', 1, ${JSON.stringify({ generation: 1, events: [event] })}), ('config', 1, null)`
    await move(by)
    await dispatchAll()
    const [page] =
      await sql`select commands from posthaste.dispatches where commands is not null order by n desc limit 1`
    expect(JSON.parse(page!.commands as string)).toMatchObject([{ kind: 'config', endpoint: 1 }])
    expect(await deliveriesOf([event])).toBe(2)
    const [answer] = await sql`select posthaste.replay_step(1, 100) answer`
    expect(answer!.answer).toBe('more')
  })

  test('what a transaction of half an hour had emitted at its start is dispatched, the first event too', async () => {
    await burn(500)
    await emit()
    await dispatchAll()
    const old = await sql`insert into posthaste.events (id, account, type, data)
      select posthaste.id_floor(clock_timestamp() - interval '1 minute' * (30 - n)), 'default', 'a.b', '{}'
      from generate_series(0, 2) n returning id::text`
    await move(by)
    await dispatchAll(2, 2)
    expect(await deliveriesOf(old.map((row) => row.id as string))).toBe(3)
  })

  test('an idempotency key of before still holds', async () => {
    const first = await emit(sql, 'a.b', 'once')
    await dispatchAll()
    await move(by)
    const again = await emit(sql, 'a.b', 'once')
    await dispatchAll()
    expect([await deliveriesOf([first]), await deliveriesOf([again])]).toEqual([1, 0])
    expect(await sql`select * from posthaste.duplicates`).toHaveLength(1)
  })
})

test('a position that was copied by a transaction with the number that it names is told by the one before it', async () => {
  await burn(500)
  await emit()
  await dispatchAll()
  await emit()
  await dispatchAll()
  await burn(500)
  const left = [await emit(), await emit()]
  await move('so that the newest position names this one')
  await dispatchAll()
  expect(await deliveriesOf(left)).toBe(2)
})

test('any interleaving of emits, open transactions, looks and moves: every event once', {
  timeout: PROPERTY_TIMEOUT,
}, async () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant('emit' as const), n: fc.integer({ min: 1, max: 12 }) }),
    fc.record({ do: fc.constant('bulk' as const), n: fc.integer({ min: 10, max: 80 }) }),
    fc.record({ do: fc.constant('open' as const) }),
    fc.record({ do: fc.constant('end' as const), how: fc.constantFrom('commit' as const, 'rollback' as const) }),
    fc.record({
      do: fc.constant('look' as const),
      size: fc.integer({ min: 1, max: 5 }),
      pages: fc.integer({ min: 1, max: 8 }),
    }),
    fc.record({ do: fc.constant('burn' as const), n: fc.integer({ min: 1, max: 60 }) }),
    fc.record({ do: fc.constant('move' as const), by: fc.constantFrom(-300, 30, 150, 1_000_000) }),
  )
  await burn(1_500)
  let sawWaiting = 0
  let sawAside = 0
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 25 }), async (actions) => {
      await dispatchAll(100, 100)
      await sql`truncate posthaste.events, posthaste.deliveries, posthaste.turns`
      // Nothing of another life is left, so nothing need be told apart from it.
      await sql`insert into posthaste.dispatches (n, life, snap, last_seq, events, deliveries, turn_tag, turn_n, turns_made)
        select n + 1, posthaste.life(), pg_current_snapshot(), last_seq, 0, 0, turn_tag, turn_n, turns_made
        from posthaste.dispatches order by n desc limit 1`
      const expected: string[] = []
      let open: (OpenTransaction & { ids: string[] })[] = []
      for (const one of actions) {
        if (one.do === 'emit') for (let n = 0; n < one.n; n++) expected.push(await emit())
        else if (one.do === 'bulk') {
          const bulk = await sql`insert into posthaste.events (account, type, data)
            select 'default', 'a.b', '{}' from generate_series(1, ${one.n}::int) returning id::text`
          expected.push(...bulk.map((row) => row.id as string))
        } else if (one.do === 'burn') await burn(one.n)
        else if (one.do === 'look') for (let page = 0; page < one.pages; page++) await step(one.size, one.size)
        else if (one.do === 'open' && open.length < 3) {
          const opened = await transactions.begin()
          open.push({ ...opened, ids: [await emit(opened.tx)] })
        } else if (one.do === 'end' && open.length > 0) {
          const [ended] = open.splice(0, 1)
          await ended![one.how]()
          if (one.how === 'commit') expected.push(...ended!.ids)
        } else if (one.do === 'move') {
          // Nothing that was open at the time exists in the copy.
          for (const lost of open) await lost.rollback()
          open = []
          const [row] =
            await sql`select turns_open waiting, (aside_ids is not null)::int aside from posthaste.dispatches order by n desc limit 1`
          sawWaiting += row!.waiting as number
          sawAside += row!.aside as number
          await move(one.by)
        }
      }
      for (const ended of open) {
        await ended.commit()
        expected.push(...ended.ids)
      }
      await dispatchAll(100, 100)
      expect(await deliveriesOf(expected)).toBe(expected.length)
      const [doubled] = await sql`select count(*)::int - count(distinct seq)::int n from posthaste.deliveries`
      expect(doubled!.n).toBe(0)
    }),
    { ...propertyRuns(60), endOnFailure: true },
  )
  expect(sawWaiting).toBeGreaterThan(0)
  expect(sawAside).toBeGreaterThan(0)
})
