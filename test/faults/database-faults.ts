/** Faults of Postgres and of the way to it. */
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import postgres from 'postgres'
import type { StopMode } from '../support/embedded-postgres.ts'
import type { FaultName, Step } from './schedule.ts'
import type { Stage } from './stage.ts'

type Fault = (stage: Stage, step: Step) => Promise<void>

export const databaseFaults = {
  'postgres-fast': (stage, step) => outage(stage, step, 'fast'),
  'postgres-immediate': (stage, step) => outage(stage, step, 'immediate'),
  'postgres-killed': (stage, step) => outage(stage, step, 'kill'),

  /** Half of the time Postgres' log is made to need space as well, without which the server goes down. */
  'disk-full': async (stage, step) => {
    const { disk } = stage
    if (disk === null) {
      stage.chronicle.notes.push('disk-full was LEFT OUT: no small disk here')
      return
    }
    await whileUp(stage, 'disk full', async () => {
      const until = stage.now() + step.forMs
      const before = stage.server.pid
      let crashed = false
      await disk.fill()
      try {
        if (step.choice < 0.5) crashed = await exhaustLog(stage, until)
        await sleep(Math.max(0, until - stage.now()))
      } finally {
        await disk.empty()
      }
      await untilWritable(stage)
      stage.chronicle.restarts.push(stage.now())
      const how =
        stage.server.pid !== before ? 'ended and was started again' : crashed ? 'recovered by itself' : 'ran on'
      stage.chronicle.notes.push(`disk-full: Postgres ${crashed ? 'had no room for its log, ' : ''}${how}`)
    })
  },

  'connections-cut': (stage, step) =>
    whileUp(stage, 'connections cut', async () => {
      const until = stage.now() + step.forMs
      do {
        await cutConnections(stage)
        await sleep(150)
      } while (stage.now() < until)
    }),

  /** Every connection that the server has is taken, those for superusers, too, and taken again when one becomes free. */
  'connections-full': (stage, step) =>
    whileUp(stage, 'connections full', async () => {
      const taken: pg.Client[] = []
      const until = stage.now() + step.forMs
      while (stage.now() < until) {
        const client = new pg.Client({ connectionString: stage.url() })
        client.on('error', () => {})
        try {
          await client.connect()
          taken.push(client)
        } catch {
          await sleep(20)
        }
      }
      await Promise.all(taken.map((client) => client.end().catch(() => {})))
    }),

  'read-only': (stage, step) =>
    whileUp(stage, 'read-only', async () => {
      await setting(stage, 'default_transaction_read_only', 'on')
      await cutConnections(stage)
      await sleep(step.forMs)
      await setting(stage, 'default_transaction_read_only', null)
      await cutConnections(stage)
    }),

  'statement-timeout': (stage, step) =>
    whileUp(stage, 'statement timeout', async () => {
      await setting(stage, 'statement_timeout', String(1 + Math.floor(step.choice * 20)))
      await sleep(step.forMs)
      await setting(stage, 'statement_timeout', null)
    }),

  /** Everything that needs this table waits: the pools are exhausted. */
  'tables-locked': (stage, step) =>
    whileUp(stage, 'a table locked', async () => {
      const tables = ['attempts', 'events', 'dispatches', 'workers', 'deliveries'] as const
      const unlock = await lockTable(stage, tables[Math.floor(step.choice * tables.length)]!)
      await sleep(step.forMs)
      await unlock()
    }),

  /** Half of the time the old connections stay dead, as after a fail-over; otherwise they go on where they were. */
  'black-hole': (stage, step) => {
    const slot = stage.workers.slots[Math.floor(step.victim * stage.workers.slots.length)]!
    return stage.inTurn(`proxy ${stage.workers.slots.indexOf(slot)}`, () =>
      stage.chronicle.disturb('black hole', async () => {
        slot.proxy.fallSilent()
        await sleep(step.forMs)
        slot.proxy.recover(step.choice < 0.5)
      }),
    )
  },

  'clock-forward': (stage, step) => stage.stepClock(60_000 + Math.floor(step.choice * 3_600_000)),
  'clock-back': (stage, step) => stage.stepClock(-60_000 - Math.floor(step.choice * 1_800_000)),
} satisfies Partial<Record<FaultName, Fault>>

function outage(stage: Stage, { forMs }: Step, mode: StopMode | 'kill'): Promise<void> {
  return whileUp(stage, `Postgres stopped: ${mode}`, async () => {
    if (mode === 'kill') await stage.server.kill()
    else await stage.server.halt(mode)
    await sleep(forMs)
    await stage.server.restart()
    stage.chronicle.restarts.push(stage.now())
  })
}

/** Faults of the server itself come one after the other. */
function whileUp(stage: Stage, what: string, work: () => Promise<void>): Promise<void> {
  return stage.inTurn('postgres', () => stage.chronicle.disturb(what, work))
}

async function cutConnections(stage: Stage): Promise<void> {
  await stage.persist(
    () => stage.sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and application_name <> 'faults'`,
  )
}

/** Null: as it was. */
async function setting(stage: Stage, name: string, value: string | null): Promise<void> {
  await stage.persist(() =>
    stage.sql.unsafe(value === null ? `alter system reset ${name}` : `alter system set ${name} = ${value}`),
  )
  await stage.persist(() => stage.sql`select pg_reload_conf()`)
}

/** Answers how to unlock it. Where the lock cannot be had, nothing is locked. */
export async function lockTable(stage: Stage, table: string): Promise<() => Promise<void>> {
  const sql = postgres(stage.url(), {
    max: 1,
    onnotice: () => {},
    connection: { application_name: 'faults', statement_timeout: 0, lock_timeout: 2_000 },
  })
  const reserved = await sql.reserve().catch(() => null)
  await reserved?.unsafe(`begin`).catch(() => {})
  await reserved?.unsafe(`lock table posthaste.${table} in access exclusive mode`).catch(() => {})
  return async () => {
    await reserved?.unsafe('rollback').catch(() => {})
    await sql.end({ timeout: 1 })
  }
}

/** Goes on to the next file of the log until there is no room for one. Answers whether Postgres crashed of that. */
async function exhaustLog(stage: Stage, until: number): Promise<boolean> {
  const panics = () => stage.server.log().split('PANIC').length
  const before = panics()
  while (stage.now() < until) {
    if (stage.server.pid === null || panics() > before) return true
    await stage.sql`select pg_logical_emit_message(true, 'faults', repeat('x', 100000)), pg_switch_wal()`.catch(
      () => {},
    )
    await sleep(10)
  }
  return false
}

/** A server that ended for want of space is started by its supervisor; one that crashed and recovers does that by itself. */
async function untilWritable(stage: Stage): Promise<void> {
  await stage.persist(async () => {
    if (stage.server.pid === null) await stage.server.restart()
    await stage.sql`select pg_logical_emit_message(true, 'faults', 'x')`
  })
}
