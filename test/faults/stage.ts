/** What one run plays on: a database, workers behind proxies, hosts, receivers; and what is to be known of them afterwards. */
import { createServer } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createWebhooks, defineEvents, type Webhooks } from '@posthaste/core'
import postgres from 'postgres'
import * as z from 'zod'
import type { RunningPostgres } from '../support/embedded-postgres.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import type { EndpointEvidence, Loss } from './invariant.ts'
import { type StageProcess, startProcess } from './ipc.ts'
import type { HostOrder, HostSettings } from './processes/host.ts'
import type { ReceiverMode, ReceiverOrder, ReceiverSettings, ReceiverTold } from './processes/receiver.ts'
import type { WorkerOrder, WorkerSettings, WorkerTold } from './processes/worker.ts'
import type { Schedule } from './schedule.ts'

/** Short, so that a run is over soon; with a deadline that a busy second does not miss. */
export const DEADLINE_MS = 1_500
export const LEASE_MS = 3_000
export const RETRY_SCHEDULE = ['300ms', '600ms', '1s', '2s', '4s', '8s'] as const
/** `stop()`: sends under way may take their deadline, a database that is away five seconds more. */
const STOP_WITHIN_MS = 30_000

const catalog = defineEvents({
  'test.happened': {
    schema: z.object({ n: z.int() }),
    description: 'Something happened',
    trigger: 'A test',
    example: { n: 1 },
  },
})

export interface WorkerSlot {
  proxy: TcpProxy
  library: string
  /** Null while nobody works here. */
  process: StageProcess<WorkerOrder, WorkerTold> | null
  /** The loopback address of the process, by which receivers know it. */
  address: string
  frozen: boolean
}

export interface ReceiverSlot {
  port: number
  logFile: string
  process: StageProcess<ReceiverOrder, ReceiverTold> | null
}

export interface EndpointOnStage extends Omit<EndpointEvidence, 'state'> {
  id: string
  path: string
  receiver: number
  switches: { from: number; to: number; active: boolean | null }[]
  deleted: boolean
}

export interface StageOptions {
  server: RunningPostgres
  schedule: Schedule
  /** For the receivers' logs. */
  folder: string
  /** Sources of the library's versions: workers begin with the first. */
  libraries: readonly string[]
}

export class Stage {
  readonly server: RunningPostgres
  readonly schedule: Schedule
  readonly libraries: readonly string[]
  /** The runner's own way to the database, past whatever is done to the others. */
  readonly sql: postgres.Sql
  readonly webhooks: Webhooks<typeof catalog, 'single'>
  readonly workers: WorkerSlot[] = []
  readonly hosts: { process: StageProcess<HostOrder, never> | null }[] = []
  readonly receivers: ReceiverSlot[] = []
  readonly endpoints: EndpointOnStage[] = []
  readonly losses: (Loss & { why: string })[] = []
  readonly disturbances: { from: number; to: number; what: string }[] = []
  /** When Postgres was ready again, and when workers died: what recoveries are measured from. */
  readonly restarts: number[] = []
  readonly unhandled: string[] = []
  readonly overdue: string[] = []
  readonly stopMs: number[] = []
  readonly #database: string
  readonly #folder: string
  readonly #keys = { current: 'k1', keys: { k1: Buffer.alloc(32, 7).toString('base64') } }
  #clockOffsetMs = 0
  #addresses = 0
  #hostCount = 0
  #dns = true
  #turns = new Map<string, Promise<unknown>>()

  constructor({ server, schedule, folder, libraries }: StageOptions, database: string) {
    this.server = server
    this.schedule = schedule
    this.libraries = libraries
    this.#database = database
    this.#folder = folder
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
      retrySchedule: RETRY_SCHEDULE,
      http: {
        allowHttp: true,
        allowedCidrs: ['127.0.0.0/8'],
        lookup: async () => [{ address: '127.0.0.1', family: 4 }],
      },
      worker: { jobEngine: schedule.jobEngine },
    })
  }

  url(): string {
    const url = new URL(this.server.url)
    url.pathname = `/${this.#database}`
    return url.href
  }

  /** The moment that faults are written down with; no fault moves it. */
  now(): number {
    return Date.now()
  }

  async raise(): Promise<void> {
    await this.webhooks.migrate()
    await this.sql`create table orders (n int primary key)`
    const { schedule } = this
    for (let index = 0; index < schedule.receivers; index++) {
      this.receivers.push({
        port: await freePort(),
        logFile: join(this.#folder, `receiver-${index}.log`),
        process: null,
      })
      await this.startReceiver(index)
    }
    for (const plan of schedule.endpoints) await this.#createEndpoint(plan)
    for (let index = 0; index < schedule.workers; index++) {
      const proxy = await startTcpProxy(this.url())
      this.workers.push({ proxy, library: this.libraries[0]!, process: null, address: '', frozen: false })
    }
    await Promise.all(this.workers.map((slot) => this.startWorker(slot)))
    for (let index = 0; index < schedule.hosts; index++) {
      this.hosts.push({ process: null })
      await this.startHost(index)
    }
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
    return `http://receiver-${receiver}.test:${this.receivers[receiver]!.port}${path}`
  }

  async startWorker(slot: WorkerSlot): Promise<void> {
    this.#addresses++
    const address = `127.0.${10 + Math.floor(this.#addresses / 200)}.${1 + (this.#addresses % 200)}`
    const started = await startProcess<WorkerOrder, WorkerTold>('worker.ts', {
      database: slot.proxy.url,
      library: slot.library,
      jobEngine: this.schedule.jobEngine,
      address,
      clockOffsetMs: this.#clockOffsetMs,
      retrySchedule: RETRY_SCHEDULE,
      deadlineMs: DEADLINE_MS,
      leaseMs: LEASE_MS,
      secretKeys: this.#keys,
    } satisfies WorkerSettings)
    started.onTold(({ at, what, message }) => {
      if (what === 'unhandled') this.unhandled.push(`worker ${address}: ${message}`)
      else this.losses.push({ worker: address, from: at - LEASE_MS, to: at, why: message })
    })
    if (!this.#dns) await started.order({ do: 'dns', works: false })
    slot.process = started
    slot.address = address
    slot.frozen = false
    // A host that starts while the database is away starts again, as its supervisor would.
    for (let tries = 1; slot.process === started && started.running; tries++) {
      try {
        await started.order({ do: 'start' })
        return
      } catch (error) {
        if (tries >= 100) throw error
        await sleep(200)
      }
    }
  }

  /** The worker of this slot is gone; what it had answered and not recorded is lost. */
  lose(slot: WorkerSlot, why: string, from = this.now()): void {
    this.losses.push({ worker: slot.address, from, to: this.now(), why })
  }

  async killWorker(slot: WorkerSlot): Promise<void> {
    const { process } = slot
    if (process === null) return
    slot.process = null
    const from = this.now()
    await process.kill()
    this.lose(slot, 'killed', from)
  }

  /** `stop()`, and the process has to end by itself. */
  async stopWorker(slot: WorkerSlot): Promise<void> {
    const { process, address } = slot
    if (process === null || !process.running) return
    slot.process = null
    const from = performance.now()
    try {
      await process.order({ do: 'stop' }, STOP_WITHIN_MS)
      this.stopMs.push(performance.now() - from)
      if (!(await process.finish(10_000))) this.overdue.push(`worker ${address} did not end after stop()`)
    } catch (error) {
      this.overdue.push(`stop() of worker ${address}: ${(error as Error).message}`)
      await process.kill()
    }
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

  async startReceiver(index: number): Promise<void> {
    const { port, logFile } = this.receivers[index]!
    this.receivers[index]!.process = await startProcess<ReceiverOrder, ReceiverTold>('receiver.ts', {
      port,
      logFile,
    } satisfies ReceiverSettings)
  }

  async setMode(endpoints: readonly EndpointOnStage[], mode: ReceiverMode): Promise<void> {
    for (const { receiver, path } of endpoints) {
      await this.receivers[receiver]!.process?.order({ do: 'mode', path, mode }).catch(() => {})
    }
  }

  /** Moves the database's clock and the processes' wall clocks. */
  async stepClock(ms: number): Promise<void> {
    this.#clockOffsetMs += ms
    const offset = this.#clockOffsetMs
    await this.persist(() =>
      this.sql.unsafe(`create or replace function posthaste.clock() returns timestamptz language sql volatile as
        $$ select clock_timestamp() + interval '${offset} milliseconds' $$`),
    )
    await Promise.all(
      this.workers.map(({ process }) => process?.order({ do: 'clock', offsetMs: offset }).catch(() => {})),
    )
  }

  async setDns(works: boolean): Promise<void> {
    this.#dns = works
    await Promise.all(this.workers.map(({ process }) => process?.order({ do: 'dns', works }).catch(() => {})))
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

  /** While it runs, records may not be written. */
  async disturb<T>(what: string, work: () => Promise<T>): Promise<T> {
    const disturbance = { from: this.now(), to: Number.POSITIVE_INFINITY, what }
    this.disturbances.push(disturbance)
    try {
      return await work()
    } finally {
      disturbance.to = this.now()
    }
  }

  async strike(): Promise<void> {
    await Promise.all([
      ...this.workers.map(({ process }) => process?.kill()),
      ...this.hosts.map(({ process }) => process?.kill()),
      ...this.receivers.map(({ process }) => process?.kill()),
    ])
    await Promise.all(this.workers.map(({ proxy }) => proxy.close()))
    await this.webhooks.stop()
    await this.sql.end({ timeout: 2 })
  }
}

/** Below the range from which systems take the ports of outgoing connections, which could be in the way at a restart. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 8_000)
    const server = createServer()
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '0.0.0.0', () => resolve(true))
    })
    if (!free) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
}
