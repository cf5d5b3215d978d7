/** The queries of the logs and statistics are served by indexes: their cost grows with the answer, not with the log. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { affiliateEvents } from '../../packages/core/src/catalog/affiliate-events.ts'
import { systemClock } from '../../packages/core/src/clock.ts'
import { createDeliveryService, type DeliveryService } from '../../packages/core/src/deliveries/delivery-service.ts'
import { createEventLog, type EventLog } from '../../packages/core/src/event-log/event-log-service.ts'
import { createStatistics, type Statistics } from '../../packages/core/src/stats/stats-service.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { migrate } from '../../packages/core/src/storage/migrate.ts'
import { openStore } from '../../packages/core/src/storage/tables.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const ENDPOINTS = 20
const EVENTS = 6_000

let database: TestDatabase
let sql: Sql
let deliveries: DeliveryService
let eventLog: EventLog
let stats: Statistics
let endpoint: string
/** The partitions that hold the rows; an empty one may be read in any way. */
let filled: string[]
let asked: { query: string; parameters: unknown[] }[] = []

beforeAll(async () => {
  database = await createTestDatabase()
  sql = connect(database.url, 4)
  await migrate(sql, 'posthaste', 'test')
  await sql.unsafe(`set search_path = posthaste, public;
    insert into endpoints (account, url, events, active, secret)
      select 'a', 'https://a.example/', '{*}', true, 's' from generate_series(1, ${ENDPOINTS});
    insert into events (account, type, data) select case when n % 4 = 0 then 'b' else 'a' end,
        case when n % 1000 = 0 then 'payout.processed' else 'commission.approved' end, '{}'
      from generate_series(1, ${EVENTS}) n;
    insert into deliveries (id, seq, event_id, endpoint)
      select delivery_id(e.id, p.no, 0), row_number() over (order by e.id, p.no), e.id, p.no from events e cross join endpoints p;
    insert into attempts (delivery_id, number, endpoint, seq, outcome, final, step, status, at, total_ms)
      select id, 1, endpoint, seq, case when seq % 50 = 0 then 2 else 1 end, true, 0, 200, clock_timestamp(), 20 from deliveries;
    insert into retries (delivery_id, step, endpoint, lane, seq, event_id, number, due_at)
      select id, 1, endpoint, endpoint % 64, seq, event_id, 2, clock_timestamp() from deliveries where seq % 500 = 0;
    insert into dispatches (n, life, snap, last_seq, events, deliveries)
      select n, life(), pg_current_snapshot(), n * 100, 5, 100 from generate_series(1, ${(EVENTS * ENDPOINTS) / 100}) n;
    update lanes set position = ${(EVENTS * ENDPOINTS) / 100};
    analyze events; analyze deliveries; analyze attempts; analyze retries; analyze endpoints; analyze dispatches`)
  const [row] = await sql.unsafe(`select replace(id::text, '-', '') id from posthaste.endpoints where no = 3`)
  endpoint = `ep_${row?.id}`
  const sizes = await sql.unsafe(`select relname from pg_class where relkind = 'r' and reltuples > 0
    and relnamespace = 'posthaste'::regnamespace and relname ~ '^(events|deliveries|attempts)_'`)
  filled = sizes.map(({ relname }) => String(relname))
  const store = openStore(recording(sql), 'posthaste')
  const unused = async () => {
    throw new Error('nothing is sent here')
  }
  deliveries = createDeliveryService({
    store,
    catalog: affiliateEvents,
    keyring: { open: (sealed) => sealed },
    test: {
      catalog: affiliateEvents,
      configs: { load: unused },
      transport: { send: unused, close: unused },
      clock: systemClock,
      userAgent: '',
      deadlineMs: 1,
      ed25519Keys: [],
      envelope: 0,
    },
    requireInstallation: unused,
  })
  eventLog = createEventLog(store)
  stats = createStatistics(store, systemClock)
}, 120_000)
afterAll(async () => {
  await sql.end()
  await database.drop()
})

/** The client, remembering what it was asked. */
function recording(client: Sql): Sql {
  return new Proxy(client, {
    get(target, name, receiver) {
      if (name !== 'unsafe') return Reflect.get(target, name, receiver)
      return (query: string, parameters: unknown[] = [], ...rest: unknown[]) => {
        asked.push({ query, parameters })
        return (target.unsafe as (...args: unknown[]) => unknown)(query, parameters, ...rest)
      }
    },
  })
}

/** What is read whole of a filled partition, and for how many rows, while `work` runs. */
async function sequentialScans(work: () => Promise<unknown>): Promise<string[]> {
  asked = []
  await work()
  expect(asked.length).toBeGreaterThan(0)
  const scans: string[] = []
  for (const { query, parameters } of asked) {
    const plan = await sql.unsafe(`explain ${query}`, parameters as never[])
    const text = plan.map((line) => String(line['QUERY PLAN'])).join('\n')
    for (const [, table = ''] of text.matchAll(/Seq Scan on (\w+)/g))
      if (filled.includes(table)) scans.push(`${table} in\n${text}`)
  }
  return scans
}

const LONG_AGO = '2020-01-01T00:00:00Z'

describe('no filled partition is read whole', () => {
  test.each([
    ['the list', {}],
    ['with a cursor', { cursor: 'next' }],
    ['of those that failed', { status: 'failed' }],
    ['of those that succeeded', { status: 'succeeded' }],
    ['of those that are pending', { status: 'pending' }],
    ['of those that are retrying', { status: 'retrying' }],
    ['of a rare type', { event: 'payout.*' }],
    ['of a range', { since: LONG_AGO, until: '9999-01-01T00:00:00Z' }],
  ] as const)('of the delivery log: %s', async (_, query) => {
    const cursor = 'cursor' in query ? (await deliveries.list('a', endpoint, { limit: 5 })).next_cursor : undefined
    const given = { limit: 10, ...query, ...(cursor == null ? {} : { cursor }) }
    expect(await sequentialScans(() => deliveries.list('a', endpoint, given))).toEqual([])
  })

  test('of the delivery log: one delivery', async () => {
    const { data } = await deliveries.list('a', endpoint, { limit: 1 })
    expect(await sequentialScans(() => deliveries.get('a', data[0]?.id ?? ''))).toEqual([])
  })

  test('of the event log', async () => {
    const { data, next_cursor } = await eventLog.list('a', { limit: 5 })
    for (const query of [{}, { limit: 5, cursor: next_cursor as string }, { since: LONG_AGO }, { event: 'payout.*' }]) {
      expect(await sequentialScans(() => eventLog.list('a', query))).toEqual([])
    }
    expect(await sequentialScans(() => eventLog.get('a', data[0]?.id ?? ''))).toEqual([])
  })

  test('of a step of a replay, which runs inside of a function', async () => {
    for (const which of ['failed', 'missing', 'all']) {
      await sql.begin(async (tx) => {
        await tx`insert into posthaste.replays (account, endpoint, which, since, until, through)
          values ('a', 10, ${which}, '2020-01-01', '2100-01-01', '00000000-0000-0000-0000-000000000000')`
        const [chunk] =
          await tx`select c.* from posthaste.replays r, posthaste.replay_chunk(r, '{*}', 1000) c where r.status = 'running'`
        expect([which, chunk?.chosen.length > 0]).toEqual([which, which !== 'missing'])
        const [scanned] = await tx`select coalesce(sum(seq_tup_read), 0)::int n from pg_stat_xact_user_tables
          where schemaname = 'posthaste' and relname ~ '^(events|deliveries|attempts)_'`
        expect([which, scanned?.n]).toEqual([which, 0])
        await tx`delete from posthaste.replays`
      })
    }
  })

  test('of the statistics', async () => {
    expect(await sequentialScans(() => stats.get('a', endpoint))).toEqual([])
  })
})

test('the answers are right', async () => {
  const failed = await deliveries.list('a', endpoint, { status: 'failed', limit: 100 })
  const retrying = await deliveries.list('a', endpoint, { status: 'retrying', limit: 100 })
  // Endpoint 3 has the numbers 3, 23, 43, …: none of them is divisible by 50.
  expect([failed.data.length, retrying.data.length]).toEqual([0, 0])
  const { data, next_cursor } = await deliveries.list('a', endpoint, { event: 'payout.*', limit: 100 })
  expect(data).toHaveLength(5)
  expect(next_cursor).not.toBeNull()
  const rest = await deliveries.list('a', endpoint, { event: 'payout.*', limit: 100, cursor: next_cursor as string })
  expect([rest.data.length, rest.next_cursor]).toEqual([1, null])
})
