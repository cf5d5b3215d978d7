/**
 * The statements that dispatching and delivering consist of, each run on a database with 200,000 deliveries, and the plans
 * that Postgres used for them, those inside of functions included (auto_explain).
 */
import postgres from 'postgres'
import { systemClock } from '../../packages/core/src/clock.ts'
import { createDeliveryReader, RETRIES_FROM_START } from '../../packages/core/src/delivery/delivery-reader.ts'
import { createEndpointConfigs } from '../../packages/core/src/delivery/endpoint-config.ts'
import type { EndpointState } from '../../packages/core/src/delivery/endpoint-state.ts'
import type { Outcome } from '../../packages/core/src/delivery/recorded-outcome.ts'
import { createRecorder } from '../../packages/core/src/delivery/recorder.ts'
import { createWakeReader } from '../../packages/core/src/delivery/wake-reader.ts'
import { dispatchOnce } from '../../packages/core/src/dispatch/dispatcher.ts'
import { createLaneStore } from '../../packages/core/src/lanes/lane-store.ts'
import { createLaneOffers } from '../../packages/core/src/queue/lane-offers.ts'
import { plainKeyring } from '../../packages/core/src/signing/keyring.ts'
import type { Sql } from '../../packages/core/src/storage/connection.ts'
import { migrate } from '../../packages/core/src/storage/migrate.ts'

export interface HotQuery {
  name: string
  /** How often it is made. */
  when: string
  /** Plans without costs and times; names of partitions without their week. */
  plans: string[]
}

const ENDPOINTS = 200
const EVENTS = 10_000
const SCHEMA = 'posthaste'
const NIL = '00000000-0000-0000-0000-000000000000'

/** @param url of an empty database, by a superuser */
export async function explainHotQueries(url: string): Promise<HotQuery[]> {
  const plans: string[] = []
  // As `connect()` makes it, but for the ear: that is where auto_explain speaks to.
  const sql = postgres(url, {
    max: 1,
    onnotice: ({ message }) => plans.push(String(message)),
    types: { bigint: { to: 20, from: [20], serialize: String, parse: Number } },
  }) as unknown as Sql
  try {
    await migrate(sql, SCHEMA, 'plans')
    await fill(sql)
    return await explainAll(sql, plans)
  } finally {
    await sql.end({ timeout: 5 })
  }
}

/** Each event goes to 20 of 200 endpoints of ten accounts, and one delivery in five waits for a retry. */
async function fill(sql: Sql): Promise<void> {
  await sql.unsafe(`set search_path = ${SCHEMA}, public;
    insert into endpoints (account, url, events, active, secret)
      select 'a' || n % 10, 'https://a.example/' || n, '{*}', true, 'plain.your_webhook_secret' from generate_series(1, ${ENDPOINTS}) n;
    insert into endpoints (account, url, events, active, secret)
      select 'other' || n, 'https://b.example/' || n, '{*}', true, 'plain.your_webhook_secret' from generate_series(1, 20000) n;
    insert into subscriptions select account, '*', no from endpoints;
    insert into endpoint_health (endpoint) select no from endpoints where no % 2 = 0;
    insert into backlogs (endpoint, lane, cursor_seq, oldest, reason)
      select no, no % 64, 0, new_id(), 'behind' from endpoints where no > 10000;
    insert into commands (xid, kind, endpoint) select (3 + no % 700)::text::xid8, 'config', no from endpoints;
    insert into events (account, type, data) select 'a' || n % 10, 'commission.approved', '{}' from generate_series(1, ${EVENTS}) n;
    insert into deliveries (id, seq, event_id, endpoint)
      select delivery_id(e.id, p.no, 0), row_number() over (order by e.id, p.no), e.id, p.no
      from events e join endpoints p on p.account = e.account;
    insert into attempts (delivery_id, number, endpoint, seq, outcome, final, step, status, at, total_ms)
      select id, 1, endpoint, seq, case when seq % 100 = 0 then 2 else 1 end, seq % 100 <> 0, 0, 200, clock_timestamp(), 20
      from deliveries where seq <= ${EVENTS * 19};
    insert into retries (delivery_id, step, endpoint, lane, seq, event_id, number, due_at)
      select id, 1, endpoint, endpoint % 64, seq, event_id, 2, clock_timestamp() + (seq - 1000) * interval '1 second'
      from deliveries where seq % 5 = 0;
    insert into dispatches (n, life, snap, last_seq, events, deliveries, oldest, endpoints, firsts, lasts)
      select n, life(), pg_current_snapshot(), n * 20, 1, 20, new_id(), '{1}', '{1}', '{1}' from generate_series(1, ${EVENTS}) n;
    update lanes set position = ${EVENTS};
    insert into renewals (token, lanes, positions) select 1, '{1,2}', '{1,2}' from generate_series(1, 5000);
`)
  // Now that all of it is committed, it lies before the dispatcher's position.
  await sql`update posthaste.dispatches set snap = pg_current_snapshot() where n = ${EVENTS}::int`
  await sql.unsafe('vacuum analyze')
}

async function explainAll(sql: Sql, plans: string[]): Promise<HotQuery[]> {
  await sql.unsafe(`load 'auto_explain'; set auto_explain.log_level = notice; set auto_explain.log_nested_statements = on;
    set auto_explain.log_analyze = on; set auto_explain.log_timing = off; set auto_explain.log_buffers = off;
    set auto_explain.log_min_duration = 0`)
  const queries: HotQuery[] = []
  const explain = async (name: string, when: string, work: () => Promise<unknown>) => {
    plans.length = 0
    await work()
    queries.push({ name, when, plans: [...new Set(plans.filter((plan) => plan.includes('Query Text')).map(tidy))] })
  }
  const reader = createDeliveryReader(sql, SCHEMA)
  const wakes = createWakeReader(sql, SCHEMA)
  const lanes = createLaneStore(sql, SCHEMA, 'plans')
  const configs = createEndpointConfigs(sql, SCHEMA, plainKeyring(), systemClock)
  const endpoints = Array.from({ length: 50 }, (_, index) => index + 1)
  const token = (await lanes.register('plans', '0')) as number
  const [oldest] = await sql`select id::text from posthaste.deliveries order by id limit 1`
  const open = await sql`select id::text, seq, endpoint, event_id::text from posthaste.deliveries
    where seq > ${EVENTS * 19 + 1_000}::int order by seq limit 50`

  // The first look finds that the position was not written by a dispatcher, and makes sure of what lies before it.
  for (let more = true; more; ) more = (await dispatchOnce(sql, SCHEMA, 'plans')).more
  await explain('A look for what was committed, of which there is nothing', 'every 60 ms', () =>
    dispatchOnce(sql, SCHEMA, 'plans'),
  )
  await sql`insert into posthaste.events (account, type, data) select 'a' || n % 10, 'commission.approved', '{}' from generate_series(1, 50) n`
  await explain('A look that dispatches 50 events to 1,000 endpoints', 'as events are committed', () =>
    dispatchOnce(sql, SCHEMA, 'plans'),
  )
  await explain('Wake-ups of the lanes', 'every 60 ms, and after each dispatch', () => wakes.pages(EVENTS - 2, 4))
  await explain('Retries that have become due', 'every 300 ms', () =>
    wakes.dueRetries({ due: '-infinity', id: NIL }, 500),
  )
  await explain('Deliveries of 50 endpoints', 'as deliveries are sent', () =>
    reader.read(
      endpoints.map((endpoint) => ({
        endpoint,
        after: EVENTS * 19,
        through: EVENTS * 20,
        checkThrough: EVENTS * 20,
        limit: 8,
      })),
      oldest!.id as string,
      8_000_000,
    ),
  )
  await explain('Retries of 50 endpoints', 'as retries become due', () =>
    reader.readRetries(
      endpoints.map((endpoint) => ({ endpoint, ...RETRIES_FROM_START, limit: 8 })),
      8_000_000,
    ),
  )
  await explain('Configuration of 50 endpoints', 'when an endpoint is new in memory, or changed', () =>
    configs.load(endpoints),
  )
  await explain('What became of 50 attempts', 'as answers come', () =>
    createRecorder(sql, SCHEMA).record(token, open.map(toOutcome), 'failed'),
  )
  await explain('Renewal of the lease', 'every 3 s', () => lanes.renew(token, 0, [1, 2], [1, 2]))
  await explain('Who else works', 'every 3 s', () => lanes.listWorkers())
  await explain('Lanes with work and no owner', 'every 3 s', () =>
    // Its second statement adds a job, where there is such a lane and the engine's schema.
    createLaneOffers({ sql, schema: SCHEMA, queueSchema: SCHEMA, clock: systemClock })
      .offerIdle()
      .catch(() => {}),
  )
  return queries
}

function toOutcome(row: Record<string, unknown>, index: number): Outcome {
  const failed = index % 5 === 0
  const item = { id: row.id, seq: row.seq, eventId: row.event_id, endpoint: { no: row.endpoint } as EndpointState }
  return {
    item: item as Outcome['item'],
    retryStep: null,
    step: 0,
    attempt: {
      number: 1,
      atMs: Date.now(),
      usedPrevious: false,
      configVersion: 1,
      hadOther: false,
      signatures: '00',
      secretNumber: 1,
      result: {
        kind: 'response',
        statusCode: failed ? 503 : 200,
        headers: {},
        retryAfter: null,
        excerpt: null,
        timings: { dns: null, connect: null, tls: null, firstByte: 1, total: 1 },
      },
    },
    succeeded: !failed,
    final: !failed,
    again: false,
    next: failed ? { step: 1, delayMs: 10_000 } : null,
    besideSchedule: false,
  }
}

/** The plan alone: costs, sizes and times are of the day, and the text of the statement is in the code. */
function tidy(message: string): string {
  // The plan begins at the first line with costs.
  const start = message.lastIndexOf('\n', message.indexOf('(cost=')) + 1
  const lines = message.slice(start).split('\n')
  return lines
    .filter(
      (line, index) =>
        !DETAIL.test(line) &&
        !isOfNothing(line) &&
        !(index > 0 && isOfNothing(lines[index - 1] ?? '') && COND.test(line)),
    )
    .map((line) =>
      line
        .replace(/ *\(cost=[^)]*\)/, '')
        .replace(/_\d{8}/g, '_<week>')
        .replace(/'[0-9a-f-]{36}'/g, "'…'")
        .replace(/\{[^}]{60,}\}/g, '{…}')
        .replace(/^(.{150}).+$/, '$1…')
        .trimEnd(),
    )
    .join('\n')
}

const DETAIL =
  /^\s*(Sort Method|Batches|Buckets|Memory|Cache|Hits|Storage|Worker|Full-sort|Window|Heap Fetches|Index Searches|Rows Removed)\b/
const COND = /^\s*(Index Cond|Filter):/

/** A partition in which there was nothing to find. */
function isOfNothing(line: string): boolean {
  return /Scan .* on (events|deliveries|attempts)_.*(actual rows=0\.00|never executed)/.test(line)
}
