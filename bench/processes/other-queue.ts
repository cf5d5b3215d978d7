/**
 * The two usual ways to queue deliveries in Postgres, to stand beside ours: a graphile-worker job for each, and an ordinary table
 * that workers claim rows of with FOR UPDATE SKIP LOCKED. Emits in transactions of its own, and, once told to start, delivers.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Logger, type Runner, run, runMigrations } from 'graphile-worker'
import postgres from 'postgres'
import { Pool } from 'undici'
import { serveParent, wallClock } from '../support/child-process.ts'
import { pathOf } from '../support/installation.ts'
import { sampleData } from '../support/sample-event.ts'
import type { EmittedAt, SteadyLoad } from './host-application.ts'

export type QueueKind = 'graphile-worker' | 'skip locked'

const CONCURRENCY = 50
const CLAIMED_AT_ONCE = 50

let kind: QueueKind = 'skip locked'
let url = ''
let fast = true
let sql: postgres.Sql | null = null
let pool: Pool | null = null
let runner: Runner | null = null
let claiming: Promise<unknown> | null = null
let stopped = false
let number = 0

const database = () => sql as postgres.Sql

async function send({ id, endpoint, data }: { id: string; endpoint: number; data: unknown }): Promise<void> {
  const { body } = await (pool as Pool).request({
    method: 'POST',
    path: pathOf(endpoint),
    headers: { 'content-type': 'application/json', 'webhook-id': id },
    body: JSON.stringify(data),
  })
  await body.dump()
}

async function add(tx: postgres.Sql, endpoint: number): Promise<string> {
  const id = randomUUID()
  const payload = JSON.stringify({ id, endpoint, data: sampleData(number++) })
  if (kind === 'skip locked') await tx`insert into plain_jobs (payload) values (${payload})`
  else await tx`select graphile_worker.add_job('send'::text, payload => ${payload}::text::json)`
  return id
}

async function addMany(count: number, endpoints: number): Promise<void> {
  const rows = Array.from({ length: count }, (_, index) => ({
    id: randomUUID(),
    endpoint: 1 + (index % endpoints),
    data: sampleData(number++),
  }))
  const text = JSON.stringify(rows)
  if (kind === 'skip locked') {
    await database()`insert into plain_jobs (payload) select value::text from json_array_elements(${text}::text::json)`
  } else {
    // Its own way for many: one statement, and one NOTIFY instead of one for each.
    await database()`select count(*) from graphile_worker.add_jobs((
      select array_agg(row('send', value, null, null, null, null, null, null)::graphile_worker.job_spec)
      from json_array_elements(${text}::text::json)))`
  }
}

async function emitOne(endpoint: number): Promise<EmittedAt> {
  return await database().begin(async (tx) => {
    await tx`insert into conversions (affiliate_id, order_id, amount) values (456, 1, 85.5)`
    const id = await add(tx as unknown as postgres.Sql, endpoint)
    return { id, at: wallClock() }
  })
}

/** Claims, sends, deletes; as many rows at once as there are slots. */
async function claim(): Promise<void> {
  while (!stopped) {
    const rows = await database()<{ id: number; payload: string }[]>`
      update plain_jobs set state = 'running' where id in (
        select id from plain_jobs where state = 'pending' order by id limit ${CLAIMED_AT_ONCE} for update skip locked)
      returning id::int, payload`
    await Promise.all(rows.map((row) => send(JSON.parse(row.payload))))
    if (rows.length > 0) await database()`delete from plain_jobs where id = any (${rows.map((row) => row.id)}::int[])`
    else await sleep(20)
  }
}

const methods = {
  /** `fast`: graphile-worker's fastest settings by far, instead of its defaults. */
  async configure(options: { url: string; kind: QueueKind; port: number; migrate: boolean; fast: boolean }) {
    kind = options.kind
    fast = options.fast
    url = options.url
    sql = postgres(url, { max: 10, onnotice: () => {} })
    pool = new Pool(`http://127.0.0.1:${options.port}`, { connections: CONCURRENCY, pipelining: 1 })
    if (!options.migrate) return
    if (kind === 'graphile-worker') await runMigrations({ connectionString: url })
    else {
      await sql.unsafe(`create table plain_jobs (id bigint generated always as identity primary key, payload text not null,
        state text not null default 'pending'); create index on plain_jobs (id) where state = 'pending'`)
    }
  },
  async start() {
    if (kind === 'skip locked') claiming = Promise.all([claim(), claim()])
    else {
      runner = await run({
        connectionString: url,
        concurrency: CONCURRENCY,
        noHandleSignals: true,
        parsedCronItems: [],
        logger: new Logger(() => () => {}),
        taskList: { send: async (payload) => await send(payload as never) },
        ...(fast
          ? { pollInterval: 50, preset: { worker: { completeJobBatchDelay: 10, localQueue: { size: 500 } } } }
          : {}),
      })
    }
  },
  async stop() {
    stopped = true
    await runner?.stop()
    await claiming
    await pool?.close()
    await sql?.end({ timeout: 5 })
  },
  async emitSteadily({ perSecond, seconds, endpoints, from }: SteadyLoad) {
    const emitted: Promise<EmittedAt>[] = []
    const startedAt = performance.now()
    const total = perSecond * seconds
    while (emitted.length < total) {
      const due = Math.min(total, Math.floor(((performance.now() - startedAt) * perSecond) / 1000))
      while (emitted.length < due) emitted.push(emitOne(from + (emitted.length % endpoints)))
      await sleep(1)
    }
    return await Promise.all(emitted)
  },
  async emitInBulk({ count, endpoints }: { count: number; endpoints: number }) {
    await addMany(count, endpoints)
  },
}

export type OtherQueue = typeof methods

serveParent(methods as never)
