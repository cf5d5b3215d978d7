/** Posthaste as a host would set it up, on a database of its own, with a clock that tests move instead of sleeping. */
import {
  affiliateEvents,
  createWebhooks,
  extendEvents,
  type Logger,
  type Tenancy,
  type Webhooks,
  type WebhooksOptions,
} from '@posthaste/core'
import postgres from 'postgres'
import * as z from 'zod'
import { createTestDatabase, type TestDatabase } from './postgres.ts'
import { until } from './until.ts'

/** The catalogue of the page, and types whose data say which of many events it is. */
export const testEvents = extendEvents(affiliateEvents, {
  'test.happened': {
    schema: z.object({ n: z.int() }),
    description: 'Something happened',
    trigger: 'A test',
    example: { n: 1 },
  },
  'test.marked': {
    schema: z.object({ n: z.int() }),
    description: 'Everything before this was emitted before',
    trigger: '`settled` of a test',
    example: { n: 1 },
  },
  'test.seen': {
    schema: z.object({ n: z.int() }),
    description: 'Something of which nobody need know',
    trigger: 'A test',
    example: { n: 1 },
    store: 'when_subscribed',
  },
})

export type TestWebhooks<T extends Tenancy = 'single'> = Webhooks<typeof testEvents, T>
export type TestOptions<T extends Tenancy = 'single'> = Partial<WebhooksOptions<typeof testEvents, T>>

/** Of all tests, so that processes of one test can read each other's endpoints. */
export const SECRET_KEYS = { current: 'k1', keys: { k1: Buffer.alloc(32, 7).toString('base64') } }

/** A lease as short as the options allow, so that take-overs are over soon. */
export const QUICK = { http: { deadline: '1s' }, worker: { lease: '2s' } } as const

/** What a test says of its installation, with what every test says. */
export function withTestOptions<T extends Tenancy = 'single'>(
  database: string,
  options: TestOptions<T> = {},
): WebhooksOptions<typeof testEvents, T> {
  return {
    database,
    installation: 'test',
    events: testEvents,
    secretKeys: SECRET_KEYS,
    ...options,
    http: { allowHttp: true, allowedCidrs: ['127.0.0.0/8'], ...options.http },
    // Delivery is correct without the job engine, and each start is quicker.
    worker: { jobEngine: false, ...options.worker },
  }
}

export interface UnderTest<T extends Tenancy = 'single'> {
  webhooks: TestWebhooks<T>
  database: TestDatabase
  /** The host's own client. */
  sql: postgres.Sql
  /** What was logged as a warning or worse. */
  log: string[]
  /** Another process' object, on the same database and clock. Stopped with the rest. */
  another(options?: TestOptions<T>): TestWebhooks<T>
  /** An endpoint in the account `default` with its secret. */
  endpoint(url: string, more?: Partial<Parameters<TestWebhooks['endpoints']['create']>[1]>): Promise<TestEndpoint>
  /** Emits one `test.happened` for each number, in a transaction of the host. Answers the ids. */
  emit(...numbers: number[]): Promise<string[]>
  /** Waits until everything committed so far is dispatched. */
  dispatched(withinMs?: number): Promise<void>
  /** As `dispatched`, and until every delivery of the served endpoints has been attempted at least once. */
  settled(withinMs?: number): Promise<void>
  /** The number of the endpoint in the database. */
  numberOf(id: string): Promise<number>
  /** Moves the database's clock and the processes' wall clock forward, in ms. */
  moveTime(ms: number): Promise<void>
  stop(): Promise<void>
}

export interface TestEndpoint {
  id: string
  secret: string
  standardSecret: string
}

/** `clock` of the options is not to be given: it is the one that `moveTime` moves. */
export async function underTest<T extends Tenancy = 'single'>(options: TestOptions<T> = {}): Promise<UnderTest<T>> {
  const database = await createTestDatabase()
  const sql = postgres(database.url, { max: 12, onnotice: () => {} })
  const log: string[] = []
  const made: TestWebhooks<T>[] = []
  let movedMs = 0
  const clock = { now: () => Date.now() + movedMs, monotonic: () => performance.now() }
  const another = (more: TestOptions<T> = {}): TestWebhooks<T> => {
    const webhooks = createWebhooks<typeof testEvents, T>(
      withTestOptions(database.url, { logger: collectInto(log), ...options, ...more, clock }),
    )
    made.push(webhooks)
    return webhooks
  }
  const webhooks = another()
  await webhooks.migrate()
  const dispatched = async (withinMs?: number): Promise<void> => {
    const [mark] = await sql`insert into posthaste.events (account, type, data)
      values ('nobody', 'test.marked', '{"n":0}') returning id::text`
    await until(
      'everything to be dispatched',
      async () => {
        const [row] = await sql`select d.win is null and d.turns_open = 0 and pg_visible_in_snapshot(e.xid, d.snap) done
          from posthaste.dispatches d, posthaste.events e where e.id = ${mark!.id as string}::uuid order by d.n desc limit 1`
        return row?.done === true
      },
      withinMs,
    )
  }
  return {
    webhooks,
    database,
    sql,
    log,
    another,
    async endpoint(url, more = {}) {
      const { account = 'default', ...rest } = more as { account?: string }
      const created = await webhooks.endpoints.create(account, { url, events: ['test.happened'], ...rest })
      return { id: created.id, secret: created.secret, standardSecret: created.standard_webhooks_secret }
    },
    emit: (...numbers) =>
      sql.begin(async (tx) => {
        const ids: string[] = []
        for (const n of numbers) {
          const { id } = await (webhooks as unknown as TestWebhooks).emit('test.happened', { n }, { tx })
          ids.push(id as string)
        }
        return ids
      }) as Promise<string[]>,
    dispatched,
    async settled(withinMs) {
      await dispatched(withinMs)
      await until(
        'everything to be attempted',
        async () => {
          const rows = await sql`select from posthaste.deliveries d join posthaste.endpoints e on e.no = d.endpoint
            where e.active and e.disabled_at is null and e.deleted_at is null
              and not exists (select from posthaste.attempts a where a.delivery_id = d.id) limit 1`
          return rows.length === 0
        },
        withinMs,
      )
    },
    async numberOf(id) {
      const [row] = await sql`select no from posthaste.endpoints where id = ${uuidOf(id)}::uuid`
      return row!.no as number
    },
    async moveTime(ms) {
      movedMs += ms
      await sql.unsafe(`create or replace function posthaste.clock() returns timestamptz language sql volatile as
        $$ select clock_timestamp() + interval '${movedMs} milliseconds' $$`)
    },
    async stop() {
      await Promise.all(made.map((one) => one.stop()))
      await sql.end({ timeout: 5 })
      await database.drop()
    },
  }
}

function collectInto(log: string[]): Logger {
  const write = (message: string, fields?: Record<string, unknown>) =>
    void log.push(`${message} ${JSON.stringify(fields)}`)
  return { debug() {}, info() {}, warn: write, error: write }
}

/** The database's form of a public id. */
export function uuidOf(id: string): string {
  return id.slice(id.indexOf('_') + 1)
}
