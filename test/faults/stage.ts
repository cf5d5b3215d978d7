/** What one run plays on: a database, workers behind proxies, hosts, receivers; and the endpoints between them. */
import { setTimeout as sleep } from 'node:timers/promises'
import { createWebhooks, defineEvents, type Webhooks } from '@posthaste/core'
import postgres from 'postgres'
import * as z from 'zod'
import type { RunningPostgres } from '../support/embedded-postgres.ts'
import { Chronicle } from './chronicle.ts'
import { type StageProcess, startProcess } from './ipc.ts'
import type { HostOrder, HostSettings } from './processes/host.ts'
import type { Schedule } from './schedule.ts'
import type { SmallDisk } from './small-disk.ts'
import { StageReceivers } from './stage-receivers.ts'
import { StageWorkers } from './stage-workers.ts'
import type { EndpointEvidence } from './testimony.ts'

/** Events that one step of a replay looks at here: so few that a replay has many steps, and faults come between them. */
const REPLAY_STEP = 20

const catalog = defineEvents({
  'test.happened': {
    schema: z.object({ n: z.int() }),
    description: 'Something happened',
    trigger: 'A test',
    example: { n: 1 },
  },
})

export interface EndpointOnStage extends Omit<EndpointEvidence, 'state'> {
  id: string
  path: string
  receiver: number
  switches: { from: number; to: number; active: boolean | null }[]
  deleted: boolean
}

export interface StageOptions {
  server: RunningPostgres
  /** Where the server's data lie, if that can be filled; null: no disk becomes full. */
  disk: SmallDisk | null
  schedule: Schedule
  /** For the receivers' logs. */
  folder: string
  /** For the receivers; nobody else's. */
  ports: readonly number[]
  /** Sources of the library's versions: workers begin with the first. */
  libraries: readonly string[]
}

export class Stage {
  readonly server: RunningPostgres
  readonly disk: SmallDisk | null
  readonly schedule: Schedule
  readonly libraries: readonly string[]
  readonly chronicle = new Chronicle()
  /** The runner's own way to the database, past whatever is done to the others. */
  readonly sql: postgres.Sql
  readonly webhooks: Webhooks<typeof catalog, 'single'>
  readonly workers: StageWorkers
  readonly receivers = new StageReceivers()
  readonly hosts: { process: StageProcess<HostOrder, never> | null }[] = []
  readonly endpoints: EndpointOnStage[] = []
  readonly #o: StageOptions
  readonly #database: string
  readonly #keys = { current: 'k1', keys: { k1: Buffer.alloc(32, 7).toString('base64') } }
  #clockOffsetMs = 0
  #hostCount = 0
  #turns = new Map<string, Promise<unknown>>()

  constructor(options: StageOptions, database: string) {
    const { server, disk, schedule, libraries } = options
    this.#o = options
    this.server = server
    this.disk = disk
    this.schedule = schedule
    this.libraries = libraries
    this.#database = database
    this.sql = postgres(this.url(), {
      max: 4,
      onnotice: () => {},
      connection: { application_name: 'faults', statement_timeout: 0, default_transaction_read_only: false },
    })
    this.webhooks = createWebhooks({
      database: this.url(),
      installation: 'faults',
      events: catalog,
      secretKeys: this.#keys,
      retrySchedule: schedule.retrySchedule,
      http: {
        allowHttp: true,
        allowedCidrs: ['127.0.0.0/8'],
        lookup: async () => [{ address: '127.0.0.1', family: 4 }],
      },
      worker: { jobEngine: schedule.jobEngine },
    })
    this.workers = new StageWorkers({ schedule, chronicle: this.chronicle, url: this.url(), secretKeys: this.#keys })
  }

  url(): string {
    const url = new URL(this.server.url)
    url.pathname = `/${this.#database}`
    return url.href
  }

  now(): number {
    return this.chronicle.now()
  }

  async raise(): Promise<void> {
    const { schedule } = this
    await this.webhooks.migrate()
    await this.sql`create table orders (n int primary key)`
    await this.#shortenReplaySteps()
    await this.receivers.raise(this.#o.ports.slice(0, schedule.receivers), this.#o.folder)
    for (const plan of schedule.endpoints) await this.#createEndpoint(plan)
    await this.workers.raise(this.libraries[0]!)
    for (let index = 0; index < schedule.hosts; index++) {
      this.hosts.push({ process: null })
      await this.startHost(index)
    }
  }

  async #shortenReplaySteps(): Promise<void> {
    await this.sql.unsafe(`alter function posthaste.replay_step(int, int) rename to replay_step_of;
      create function posthaste.replay_step(p_no int, p_look int) returns text language sql as
        $$ select posthaste.replay_step_of(p_no, ${REPLAY_STEP}) $$`)
  }

  async #createEndpoint(plan: Schedule['endpoints'][number]): Promise<void> {
    const path = `/e${this.endpoints.length}`
    const { id } = await this.webhooks.endpoints.create('default', {
      url: this.endpointUrl(plan.receiver, path),
      events: ['test.happened'],
      ordering: plan.ordering,
      max_concurrency: plan.maxConcurrency,
      rate_limit: plan.rateLimit === null ? null : { limit: plan.rateLimit, per: 'second' },
    })
    const [row] = await this.sql`select no from posthaste.endpoints where id = ${id.slice(3)}::uuid`
    this.endpoints.push({
      id,
      no: row!.no as number,
      ordering: plan.ordering,
      path,
      receiver: plan.receiver,
      switches: [],
      deleted: false,
    })
  }

  endpointUrl(receiver: number, path: string): string {
    return `http://receiver-${receiver}.test:${this.receivers.slots[receiver]!.port}${path}`
  }

  async startHost(index: number): Promise<void> {
    const started = await startProcess<HostOrder, never>('host.ts', {
      database: this.url(),
      index: ++this.#hostCount,
      seed: this.schedule.seed,
      secretKeys: this.#keys,
    } satisfies HostSettings)
    this.hosts[index] = { process: started }
    await started.order({ do: 'emit' })
  }

  /** Moves the database's clock and the workers' wall clocks. */
  async stepClock(ms: number): Promise<void> {
    this.#clockOffsetMs += ms
    const offset = this.#clockOffsetMs
    await this.persist(() =>
      this.sql.unsafe(`create or replace function posthaste.clock() returns timestamptz language sql volatile as
        $$ select clock_timestamp() + interval '${offset} milliseconds' $$`),
    )
    await this.workers.setClock(offset)
  }

  /** Tries until it works: for what the runner itself asks of a database that it has just knocked over. */
  async persist<T>(work: () => Promise<T>, withinMs = 30_000): Promise<T> {
    const deadline = performance.now() + withinMs
    for (;;) {
      try {
        return await work()
      } catch (error) {
        if (performance.now() > deadline) throw error
        await sleep(50)
      }
    }
  }

  /** Faults of one kind of thing one after the other: nobody stops a server that is stopped. */
  inTurn<T>(what: string, work: () => Promise<T>): Promise<T> {
    const next = (this.#turns.get(what) ?? Promise.resolve()).then(work)
    this.#turns.set(
      what,
      next.catch(() => {}),
    )
    return next
  }

  async strike(): Promise<void> {
    await Promise.all([
      this.workers.strike(),
      this.receivers.strike(),
      ...this.hosts.map(({ process }) => process?.kill()),
    ])
    await this.webhooks.stop()
    await this.sql.end({ timeout: 2 })
  }
}
