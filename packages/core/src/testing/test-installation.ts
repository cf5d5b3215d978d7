/** A whole installation for a test file: its own schema, a recording transport, a clock that is moved, and nothing in the background. */
import { randomBytes } from 'node:crypto'
import type { affiliateEvents } from '../catalog/affiliate-events.ts'
import type { AnyCatalog } from '../catalog/define-events.ts'
import type { Tenancy, WebhooksOptions } from '../config.ts'
import { type Duration, parseDuration } from '../duration.ts'
import { toPublicId } from '../ids.ts'
import { connect, type Sql } from '../storage/connection.ts'
import type { HostTransaction } from '../storage/host-transaction.ts'
import { assembleWebhooks, type Webhooks } from '../webhooks.ts'
import { DrivenLoops } from './driven-loops.ts'
import { type EmittedInTransaction, emittedIn } from './emitted-in.ts'
import type { RecordedRequest } from './recorded-request.ts'
import { RecordingTransport, type RequestFilter, type Responder } from './recording-transport.ts'
import { TestClock } from './test-clock.ts'
import { createTestSchema, dropTestSchema, moveDatabaseClock } from './test-schema.ts'

/** Those of `createWebhooks`, but for what the installation brings: transport, clock, schema. All but `database` may be left out. */
export type TestInstallationOptions<C extends AnyCatalog, T extends Tenancy> = Pick<WebhooksOptions<C, T>, 'database'> &
  Partial<Omit<WebhooksOptions<C, T>, 'database' | 'transport' | 'clock' | 'schema' | 'queueSchema'>> & {
    /** Where its clock begins. Default: now. */
    startsAt?: Date
  }

export interface TestInstallation<C extends AnyCatalog = typeof affiliateEvents, T extends Tenancy = 'single'> {
  /** What your code is given. Its `start()` and `stop()` do nothing: `settle()` does the work, and `stop()` below ends it. */
  readonly webhooks: Webhooks<C, T>
  /** For code that calls `createWebhooks` itself: hand these to it, and do not start what it makes. */
  readonly options: WebhooksOptions<C, T>
  /** Every request so far, in order. */
  readonly sent: readonly RecordedRequest[]
  /** Those requests that have all of this. */
  find(filter: RequestFilter): RecordedRequest[]
  /** The one request that has all of this. @throws Error that lists what was sent, where it was not exactly one */
  single(filter?: RequestFilter): RecordedRequest
  /** What every request is answered from now on. At first 200. */
  respondWith(responder: Responder): void
  /** Forgets what was sent, and answers 200 again. */
  clear(): void
  /**
   * Dispatches what was committed and delivers until nothing is due any more, at the time that it is. What a retry schedule, a
   * back-off or a rate limit says is for later, is for after `advance`.
   */
  settle(): Promise<void>
  /** Moves the time of this installation forward: of the process and of the database. Sends nothing by itself. */
  advance(by: Duration): Promise<void>
  /** The time of this installation. It stands still unless it is moved. */
  now(): Date
  /**
   * What this open transaction has emitted so far, in order: for suites that roll each test back.
   *
   * @throws PosthasteError INVALID_TRANSACTION for what can be seen to be no open transaction
   */
  emittedIn(tx: HostTransaction): Promise<EmittedInTransaction<C>[]>
  /** Closes its connections and drops its schema. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const INSTALLATION = 'test'
/** `posthaste_test_<Unix seconds>_<random>`. */
const SCHEMA_PREFIX = 'posthaste_test_'
/** No test file runs that long: what is older was left by a run that was killed. */
const LEFT_BEHIND_AFTER_S = 6 * 3600
/** A public address (example.com's), so that no name is looked up and none is refused. */
const ANY_ADDRESS = [{ address: '93.184.215.14', family: 4 as const }]

/**
 * Makes an installation in a schema of its own in this database; its role must be allowed to create one.
 *
 * @throws PosthasteError CONFIG_INVALID
 */
export async function createTestInstallation<
  C extends AnyCatalog = typeof affiliateEvents,
  T extends Tenancy = 'single',
>({ startsAt = new Date(), ...given }: TestInstallationOptions<C, T>): Promise<TestInstallation<C, T>> {
  const startedAtS = Math.floor(Date.now() / 1000)
  const schema = `${SCHEMA_PREFIX}${startedAtS}_${randomBytes(4).toString('hex')}`
  const clock = new TestClock(startsAt.getTime())
  const transport = new RecordingTransport()
  const loops = new DrivenLoops()
  const options: WebhooksOptions<C, T> = {
    installation: INSTALLATION,
    ...(given.secretKeys === undefined ? { secretStorage: 'plain' as const } : {}),
    connections: { api: 2, worker: 2 },
    ...given,
    http: { lookup: async () => ANY_ADDRESS, ...given.http },
    // Its lease is not to run out while time is moved.
    worker: { idlePoll: '60ms', ...given.worker, jobEngine: false, lease: '36500d' },
    schema,
    queueSchema: `${schema}_jobs`,
    clock,
    transport,
  }
  const { webhooks, worker } = assembleWebhooks<C, T>(options, { loops, random: () => 0, maintains: false })
  const sql = connect(options.database, 1)
  let started: Promise<void> | null = null
  let stopped: Promise<void> | null = null

  async function stop(): Promise<void> {
    await webhooks.stop()
    await dropTestSchema(sql, schema)
    await sql.end({ timeout: 5 })
  }

  try {
    await dropLeftBehind(sql, startedAtS)
    await createTestSchema(sql, schema, options.installation, clock.now())
  } catch (error) {
    await webhooks.stop()
    await sql.end({ timeout: 5 })
    throw error
  }

  const installation: TestInstallation<C, T> = {
    webhooks: { ...webhooks, start: async () => {}, stop: async () => {} },
    options,
    sent: transport.sent,
    find: (filter) => transport.find(filter),
    single: (filter = {}) => transport.single(filter),
    respondWith: (responder) => transport.respondWith(responder),
    clear() {
      transport.clear()
      transport.respondWith(200)
    },
    async settle() {
      started ??= worker.start()
      await started
      await loops.settle(() => worker.atRest())
      await transport.learn((deliveries) => endpointsOf(sql, schema, deliveries))
    },
    async advance(by) {
      clock.move(parseDuration(by, 'advance'))
      await moveDatabaseClock(sql, schema, clock.now())
    },
    now: () => new Date(clock.now()),
    emittedIn: (tx) => emittedIn<C>(schema, tx),
    stop: () => (stopped ??= stop()),
    [Symbol.asyncDispose]: () => installation.stop(),
  }
  return installation
}

async function endpointsOf(sql: Sql, schema: string, deliveryIds: string[]) {
  const rows = await sql`select d.id::text delivery, e.id::text, e.account from ${sql(schema)}.deliveries d
    join ${sql(schema)}.endpoints e on e.no = d.endpoint
    where d.id = any (${deliveryIds.map((id) => id.slice('dlv_'.length))}::uuid[])`
  return new Map(
    rows.map((row) => [
      toPublicId('dlv', row.delivery as string),
      { id: toPublicId('ep', row.id as string), account: row.account as string },
    ]),
  )
}

/** Two files may find the same one: who comes second finds it gone. */
async function dropLeftBehind(sql: Sql, nowS: number): Promise<void> {
  const rows = await sql`select nspname name from pg_namespace where starts_with(nspname, ${SCHEMA_PREFIX})`
  for (const { name } of rows) {
    const startedAtS = Number((name as string).slice(SCHEMA_PREFIX.length).split('_')[0])
    if (nowS - startedAtS > LEFT_BEHIND_AFTER_S) await dropTestSchema(sql, name as string).catch(() => {})
  }
}
