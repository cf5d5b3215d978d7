/** The database moves to another cluster in the middle of things, as docs/upgrading.md says: nothing is lost, or sent again. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { connect } from '../../packages/core/src/storage/connection.ts'
import { migrate } from '../../packages/core/src/storage/migrate.ts'
import { startPostgres } from '../support/embedded-postgres.ts'
import { burn, EACH_ONCE, goOn, open, settleIn } from '../support/moving-house.ts'
import { choosePostgresUser, reachableTemporaryFolder } from '../support/postgres-binaries.ts'
import { makeFolder, processOptions } from '../support/postgres-cluster.ts'
import { findPostgres, startPostgresVersion } from '../support/postgres-version.ts'
import { startWatchdog } from '../support/postgres-watchdog.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { runSnippet, type Snippet, snippetsOf } from '../support/snippets.ts'
import { until } from '../support/until.ts'

let receiver: Receiver
const servers: { stop(): Promise<void> }[] = []

beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(async () => await receiver.close())
afterEach(async () => {
  for (const server of servers.splice(0).reverse()) await server.stop()
})

async function server(options: Parameters<typeof startPostgres>[0] = {}) {
  const started = await startPostgres({ ...options, settings: { shared_buffers: '64MB', ...options.settings } })
  servers.push(started)
  return started
}

async function withSql<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 2, onnotice: () => {} })
  try {
    return await work(sql)
  } finally {
    await sql.end()
  }
}

/** The one block of the guide in which this text is. */
function block(text: string): string {
  const found: Snippet[] = snippetsOf('docs/upgrading.md').filter(({ code }) => code.includes(text))
  expect(found).toHaveLength(1)
  return found[0]!.code
}

/** Of that block, what is for this server: below a comment that names it. */
function statementFor(server: 'old' | 'new', text: string): string {
  const parts = block(text).split(/^(?=-- (?:old|new) server)/m)
  const found = parts.filter((part) => part.startsWith(`-- ${server} server`))
  expect(found).toHaveLength(1)
  return found[0]!
}

/** Our schema without a row in it. */
async function emptySchema(url: string): Promise<void> {
  const sql = connect(url, 1)
  await migrate(sql, 'posthaste', 'test')
  await sql.end()
  await withSql(url, async (client) => {
    await client.unsafe(statementFor('new', 'truncate'))
    for (const table of await tables(client))
      expect(await client.unsafe(`select from posthaste.${table}`)).toHaveLength(0)
  })
}

async function tables(sql: postgres.Sql): Promise<string[]> {
  const rows = await sql`select c.relname from pg_class c where c.relnamespace = 'posthaste'::regnamespace
    and c.relkind in ('r', 'p') and not c.relispartition order by 1`
  return rows.map((row) => row.relname as string)
}

/** As the guide has it, but for where the old server is. */
function subscribeTo(url: string): string {
  return statementFor('new', 'create publication').replace("'host=old.example dbname=shop'", `'${url}'`)
}

// Old transaction ids above those of the new cluster, which then comes by them; and below.
describe.each([
  { ids: 'above', before: 3_000, there: 0 },
  { ids: 'below', before: 0, there: 6_000 },
])('to a new cluster whose transaction ids begin anew, the old ones $ids', ({ before, there }) => {
  test('row by row, as a dump does it', async () => {
    const [from, to] = [await server(), await server()]
    await burn(from.url, before)
    await burn(to.url, there)
    const house = await settleIn(from.url, receiver)
    await emptySchema(to.url)
    await withSql(from.url, (old) =>
      withSql(to.url, async (fresh) => {
        for (const table of await tables(old)) {
          await pipeline(
            await old.unsafe(`copy (select * from posthaste.${table}) to stdout`).readable(),
            await fresh.unsafe(`copy posthaste.${table} from stdin`).writable(),
          )
        }
      }),
    )
    expect(await goOn(to.url, receiver, house)).toMatchObject(EACH_ONCE)
  })

  test('by logical replication, which copies no sequences; nothing is sent before it is ended', async () => {
    const settings = { wal_level: 'logical' }
    const [from, to] = [await server({ settings }), await server({ settings })]
    await burn(from.url, before)
    await burn(to.url, there)
    await emptySchema(to.url)
    const source = connect(from.url, 1)
    await migrate(source, 'posthaste', 'test')
    await source.end()
    const house = await withSql(to.url, async (fresh) => {
      const settled = await withSql(from.url, async (old) => {
        await old.unsafe(statementFor('old', 'create publication'))
        await fresh.unsafe(subscribeTo(from.url))
        return await settleIn(from.url, receiver)
      })
      const isDone = async (sql: postgres.Sql, server: 'old' | 'new') =>
        (await sql.unsafe(statementFor(server, 'srsubstate')))[0]!.done === true
      await until(
        'the subscriber to have all',
        async () => (await isDone(fresh, 'new')) && (await withSql(from.url, (old) => isDone(old, 'old'))),
        60_000,
      )
      const [still] = await fresh`select posthaste.refusal('test') reason`
      expect(still!.reason).toBe('replica')
      await expect(fresh`select * from posthaste.dispatch(1000, 2000, 'test')`).rejects.toThrow('logical replication')
      await fresh.unsafe(statementFor('new', 'drop subscription'))
      return settled
    })
    expect(await goOn(to.url, receiver, house)).toMatchObject(EACH_ONCE)
  })
})

test('a subscription that was stopped too early: the worker makes way for what is late, and a replay of missing brings it', async () => {
  const settings = { wal_level: 'logical' }
  const [from, to] = [await server({ settings }), await server({ settings })]
  await burn(to.url, 3_000)
  await emptySchema(to.url)
  const old = open(from.url)
  await old.migrate()
  const { id } = await old.endpoints.create('default', { url: receiver.url('/early'), events: ['test.happened'] })
  await withSql(from.url, async (sql) => {
    await sql.unsafe(statementFor('old', 'create publication'))
  })
  const here = open(to.url)
  const told: string[] = []
  here.events.on('delivery.paused', ({ reason }) => void told.push(reason))
  here.events.on('delivery.resumed', () => void told.push('resumed'))
  const heard = () => receiver.requests('/early').map(({ data }) => data.n as number)
  try {
    await withSql(to.url, async (sql) => {
      await sql.unsafe(subscribeTo(from.url))
      const arrived = (count: number) =>
        until('the events to arrive', async () => (await sql`select from posthaste.events`).length === count, 60_000)
      const copied = statementFor('new', 'srsubstate')
      await until('the tables to be copied', async () => (await sql.unsafe(copied))[0]!.done === true, 60_000)
      const refusal = async () => (await sql`select posthaste.refusal('test') reason`)[0]!.reason
      await withSql(to.url, (other) =>
        other.begin(async (tx) => {
          await tx`lock table posthaste.events in exclusive mode`
          await old.emit('test.happened', { n: 1 }, { tx: 'own' })
          await until(
            'it to be in the middle of being applied',
            async () => (await sql`select from pg_locks where not granted`).length > 0,
            60_000,
          )
          await sql`alter subscription posthaste disable`
          expect(await refusal()).toBe('replica')
        }),
      )
      await arrived(1)
      await until('the apply worker to have ended', async () => (await refusal()) === null, 60_000)
      await here.start()
      await here.emit('test.happened', { n: 2 }, { tx: 'own' })
      await until('both to be sent', () => heard().length === 2, 60_000)

      await old.emit('test.happened', { n: 3 }, { tx: 'own' })
      await sql`alter subscription posthaste enable`
      await until('the worker to make way', () => told.includes('replica'), 60_000)
      await arrived(3)
      await here.emit('test.happened', { n: 4 }, { tx: 'own' })
      await sql.unsafe(statementFor('new', 'drop subscription'))
      await until('it to go on', () => heard().includes(4), 60_000)
      expect(told.slice(-2)).toEqual(['replica', 'resumed'])
      expect(heard().toSorted()).toEqual([1, 2, 4])

      await runSnippet(block("which: 'missing'"), {
        webhooks: here,
        account: 'default',
        endpointId: id,
        since: '2020-01-01T00:00:00Z',
      })
      await until('what was late', () => heard().includes(3), 60_000)
      expect(heard().toSorted()).toEqual([1, 2, 3, 4])
    })
  } finally {
    await Promise.all([old.stop(), here.stop()])
  }
})

const clientBinaries = [15, 16, 17, 18].map((major) => ({ major, bin: `/usr/lib/postgresql/${major}/bin` }))
const dumping = clientBinaries.find(
  ({ major, bin }) => existsSync(join(bin, 'pg_dump')) && existsSync(join(bin, 'psql')) && findPostgres(major) !== null,
)
if (dumping === undefined) console.warn('SKIPPED: no pg_dump and psql with a server that they can read.')

test.skipIf(dumping === undefined)('by pg_dump and psql, to a newer version', async () => {
  const { bin, major } = dumping!
  const from = await startPostgresVersion(findPostgres(major)!)
  servers.push(from)
  const to = await server()
  await burn(from.url, 3_000)
  const house = await settleIn(from.url, receiver)
  const folder = mkdtempSync(join(tmpdir(), 'posthaste-dump-'))
  try {
    execFileSync('sh', ['-e', '-c', block('pg_dump')], {
      cwd: folder,
      env: { PATH: `${bin}:${process.env.PATH}`, OLD: from.url, NEW: to.url },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  expect(await goOn(to.url, receiver, house)).toMatchObject(EACH_ONCE)
})

test('to a standby that is promoted: the timeline changes, and nothing else', async () => {
  const from = await server()
  const copy = join(dirname(from.dataDir), 'standby')
  await withSql(from.url, async (sql) => {
    const [connection] = [await sql.reserve()]
    await connection`select pg_backup_start('standby', true)`
    execFileSync('cp', ['-a', from.dataDir, copy])
    const [label] = await connection`select labelfile from pg_backup_stop()`
    execFileSync('rm', ['-f', join(copy, 'postmaster.pid')])
    writeFileSync(join(copy, 'backup_label'), label!.labelfile as string)
    writeFileSync(join(copy, 'standby.signal'), '')
    execFileSync('chown', [
      '--reference',
      join(copy, 'PG_VERSION'),
      join(copy, 'backup_label'),
      join(copy, 'standby.signal'),
    ])
    connection.release()
  })
  const { hostname, port, password } = new URL(from.url)
  const standby = await server({
    dataDir: copy,
    settings: { primary_conninfo: `host=${hostname} port=${port} user=postgres password=${password}` },
  })
  const house = await settleIn(from.url, receiver)
  await withSql(from.url, async (primary) => {
    const [at] = await primary`select pg_current_wal_flush_lsn()::text lsn`
    await until(
      'the standby to have all',
      () =>
        withSql(standby.url, async (sql) => {
          const [row] = await sql`select pg_last_wal_replay_lsn() >= ${at!.lsn as string}::pg_lsn done`
          return row!.done as boolean
        }),
      60_000,
    )
  })
  await from.halt('immediate')
  await withSql(standby.url, async (sql) => {
    await sql`select pg_promote()`
    const [row] = await sql`select posthaste.life() life`
    expect(row!.life).toMatch(/^\d+\/00000002$/)
  })
  expect(await goOn(standby.url, receiver, house)).toMatchObject(EACH_ONCE)
  // Transaction ids went on: nothing had to be looked through.
  await withSql(standby.url, async (sql) => {
    expect(await sql`select from posthaste.dispatches where foreign_xid is not null or rest is not null`).toHaveLength(
      0,
    )
  })
})

const upgrading = clientBinaries.find(({ bin }) =>
  ['pg_upgrade', 'initdb', 'pg_ctl', 'postgres', 'pg_resetwal'].every((name) => existsSync(join(bin, name))),
)
if (upgrading === undefined) console.warn('SKIPPED: no pg_upgrade on this machine.')

test.skipIf(upgrading === undefined)('by pg_upgrade: another system identifier, the same transaction ids', async () => {
  const { bin } = upgrading!
  const user = choosePostgresUser()
  const base = reachableTemporaryFolder(resolve(import.meta.dirname, '..', '..', '.tmp'), user)
  const folder = join(base, `upgrade-${process.pid}-${randomBytes(4).toString('hex')}`)
  makeFolder(folder, user)
  const port = 20_000 + (randomBytes(2).readUInt16BE() % 12_000)
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const run = (name: string, ...args: string[]) =>
    void execFileSync(join(bin, name), args, {
      ...processOptions(user),
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
  const watchdog = startWatchdog({ pid: null, dataDir: join(folder, 'old'), remove: [folder] })
  const start = (data: string) => {
    const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off`
    run('pg_ctl', 'start', '--wait', '--pgdata', join(folder, data), '--log', join(folder, 'log'), '--options', options)
    servers.push({
      async stop() {
        run('pg_ctl', 'stop', '--wait', '--mode', 'fast', '--pgdata', join(folder, data))
      },
    })
  }
  servers.push({ stop: () => watchdog.finish() })
  for (const data of ['old', 'new']) {
    run(
      'initdb',
      '--pgdata',
      join(folder, data),
      '--username=postgres',
      '--auth=trust',
      '--encoding=UTF8',
      '--locale=C',
    )
  }
  start('old')
  await burn(url, 3_000)
  const house = await settleIn(url, receiver)
  const life = () => withSql(url, async (sql) => (await sql`select posthaste.life() life`)[0]!.life as string)
  const before = await life()
  await servers.pop()!.stop()
  run(
    'pg_upgrade',
    '-b',
    bin,
    '-B',
    bin,
    '-d',
    join(folder, 'old'),
    '-D',
    join(folder, 'new'),
    '-U',
    'postgres',
    '-s',
    folder,
  )
  start('new')
  expect(await life()).not.toBe(before)
  expect(await goOn(url, receiver, house)).toMatchObject(EACH_ONCE)
})
