/** Receiving twice is normal: the inbox on a real Postgres, through every data layer, in races, crashes and serializable retries. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createInbox, type HostTransaction, type Inbox } from '@posthaste/core/inbox'
import postgres from 'postgres'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { DATA_LAYERS } from '../data-layers/layers/index.ts'
import { type Host, openHost } from '../data-layers/suites/host.ts'
import { until } from '../support/until.ts'

let host: Host
let inbox: Inbox
let sql: postgres.Sql
beforeAll(async () => {
  host = await openHost(inject('postgresAdminUrl'), inject('postgresRunPrefix'))
  sql = postgres(host.url, { max: 12, onnotice: () => {} })
  inbox = createInbox({ source: 'shop', run: (text, values) => sql.unsafe(text, values) })
  await Promise.all(Array.from({ length: 8 }, () => inbox.migrate()))
})
afterAll(async () => {
  await sql.end()
  await host.stop()
})
beforeEach(async () => {
  await sql`delete from webhook_inbox`
  await sql`delete from orders`
})

const webhook = (n: number) => ({ id: `evt_${n}`, event: 'order.paid', data: { n } })
const orders = async () => (await sql<{ n: number }[]>`select n from orders order by n`).map(({ n }) => n)
const ids = async () =>
  (await sql`select source, webhook_id from webhook_inbox order by 1, 2`).map((row) => Object.values(row))

describe.each(DATA_LAYERS)('$name', ({ open }) => {
  test('once: a repetition does nothing, and a failure is tried again', async () => {
    const layer = await open(host.url)
    try {
      const process = (n: number, fails = false) =>
        layer.transaction(({ tx, execute }) =>
          inbox.processOnce(tx, webhook(n), async ({ data }) => {
            await execute(`insert into orders values (${data.n})`)
            if (fails) throw new Error('out of stock')
            return data.n
          }),
        )
      await expect(process(1, true)).rejects.toThrow('out of stock')
      expect([await orders(), await ids()]).toEqual([[], []])
      expect(await process(1)).toEqual({ processed: true, result: 1 })
      expect(await process(1)).toEqual({ processed: false })
      expect(await process(2)).toEqual({ processed: true, result: 2 })
      expect([await orders(), await ids()]).toEqual([
        [1, 2],
        [
          ['shop', 'evt_1'],
          ['shop', 'evt_2'],
        ],
      ])
      // Not the first statement of its transaction, and not the only webhook in it.
      await layer.transaction(async ({ tx, execute }) => {
        await execute('insert into orders values (30)')
        expect(await inbox.processOnce(tx, webhook(2), () => 'again')).toEqual({ processed: false })
        expect(await inbox.processOnce(tx, webhook(3), () => 'new')).toEqual({ processed: true, result: 'new' })
        expect(await inbox.processOnce(tx, webhook(3), () => 'again')).toEqual({ processed: false })
      })
      for (const [what, make] of Object.entries(layer.outside)) {
        const outside = inbox.processOnce(make() as HostTransaction, webhook(9), () => 'must not run')
        await expect(outside, what).rejects.toMatchObject({
          code: 'INVALID_TRANSACTION',
          message: expect.stringMatching(/^processOnce needs/),
        })
      }
      expect((await ids()).at(-1)).toEqual(['shop', 'evt_3'])
    } finally {
      await layer.close()
    }
  })
})

describe('races', () => {
  test('of twenty deliveries of one webhook at once, one runs the handler', async () => {
    let runs = 0
    const results = await Promise.all(
      Array.from({ length: 20 }, () =>
        sql.begin((tx) =>
          inbox.processOnce(tx, webhook(1), async () => {
            runs++
            await tx`insert into orders values (1)`
            await new Promise((resolve) => setTimeout(resolve, 20))
          }),
        ),
      ),
    )
    expect(runs).toBe(1)
    expect(results.filter(({ processed }) => processed)).toHaveLength(1)
    expect(await orders()).toEqual([1])
  })

  test.each([
    ['commits', false, ['first']],
    ['rolls back', true, ['first', 'second']],
  ])('who comes second waits; the first %s', async (_what, fails, expected) => {
    const ran: string[] = []
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const first = sql.begin((tx) =>
      inbox.processOnce(tx, webhook(1), async () => {
        ran.push('first')
        await held
        if (fails) throw new Error('no')
      }),
    )
    const firstEnded = first.then(
      () => 'committed',
      () => 'rolled back',
    )
    await until('the first to run', () => ran.length === 1)
    const second = sql.begin((tx) => inbox.processOnce(tx, webhook(1), () => void ran.push('second')))
    await until('the second to wait', async () => {
      const [row] = await sql`select count(*)::int n from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`
      return row?.n === 1
    })
    expect(ran).toEqual(['first'])
    release()
    expect(await firstEnded).toBe(fails ? 'rolled back' : 'committed')
    expect(await second).toMatchObject({ processed: fails })
    expect(ran).toEqual(expected)
  })

  test.each(['repeatable read', 'serializable'])(
    '%s: the loser fails with 40001, and its retry does nothing',
    async (level) => {
      let runs = 0
      let tries = 0
      const codes: unknown[] = []
      const receive = async (): Promise<unknown> => {
        for (;;) {
          tries++
          try {
            return await sql.begin(`isolation level ${level}`, async (tx) => {
              // Its snapshot is from before the other's commit.
              await tx`select count(*) from orders`
              return await inbox.processOnce(tx, webhook(1), async () => {
                runs++
                await tx`insert into orders values (1)`
                await new Promise((resolve) => setTimeout(resolve, 50))
              })
            })
          } catch (error) {
            codes.push((error as { code?: unknown }).code)
            if (tries > 20) throw error
          }
        }
      }
      const results = await Promise.all([receive(), receive(), receive()])
      expect(results.filter((result) => (result as { processed: boolean }).processed)).toHaveLength(1)
      expect([runs, await orders()]).toEqual([1, [1]])
      expect(codes.length).toBeGreaterThan(0)
      expect(new Set(codes)).toEqual(new Set(['40001']))
    },
  )
})

test('a receiver that is killed in the middle leaves nothing: the redelivery runs the handler', async () => {
  const program = fileURLToPath(new URL('../support/inbox-process.ts', import.meta.url))
  const child = spawn(process.execPath, ['--conditions=posthaste-source', program, host.url, 'evt_1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(child.stdout, 'data')
    // It comes again, elsewhere, while the first is still at it, and waits.
    const again = sql.begin((tx) =>
      inbox.processOnce(tx, webhook(1), async () => {
        await tx`insert into orders values (2)`
      }),
    )
    child.kill('SIGKILL')
    expect(await again).toMatchObject({ processed: true })
  } finally {
    child.kill('SIGKILL')
  }
  expect([await orders(), await ids()]).toEqual([[2], [['shop', 'evt_1']]])
})

test('a failure that somebody swallows and commits is tried again all the same', async () => {
  await sql.begin(async (tx) => {
    const failed = inbox.processOnce(tx, webhook(1), () => {
      throw new Error('no')
    })
    await failed.catch(() => {})
  })
  expect(await ids()).toEqual([])
  expect(await sql.begin((tx) => inbox.processOnce(tx, webhook(1), () => 1))).toEqual({ processed: true, result: 1 })
})

test('ids of different senders are different', async () => {
  const other = createInbox({ source: 'bank' })
  await sql.begin((tx) => inbox.processOnce(tx, webhook(1), () => 1))
  expect(await sql.begin((tx) => other.processOnce(tx, webhook(1), () => 2))).toEqual({ processed: true, result: 2 })
  expect(await ids()).toEqual([
    ['bank', 'evt_1'],
    ['shop', 'evt_1'],
  ])
})

test('a client without BEGIN is refused, and the handler does not run', async () => {
  const { default: pg } = await import('pg')
  const client = new pg.Client({ connectionString: host.url })
  await client.connect()
  try {
    let ran = false
    const outside = inbox.processOnce(client, webhook(1), () => {
      ran = true
    })
    await expect(outside).rejects.toMatchObject({ code: 'INVALID_TRANSACTION' })
    expect([ran, await ids()]).toEqual([false, []])
  } finally {
    await client.end()
  }
})

test.each([null, '', 'x'.repeat(257)])(
  'a webhook with the id %j is refused before the database is touched',
  async (id) => {
    await expect(inbox.processOnce(sql as never, { id }, () => 1)).rejects.toMatchObject({ code: 'WEBHOOK_ID_MISSING' })
  },
)

describe('purge', () => {
  test('forgets what is older, of this source alone, however much it is', async () => {
    // The planner takes the table for what it was before all this came.
    await sql`insert into webhook_inbox values ('shop', 'new')`
    await sql`vacuum analyze webhook_inbox`
    await sql`delete from webhook_inbox`
    await sql`insert into webhook_inbox select 'shop', 'old_' || n, now() - interval '31 days' from generate_series(1, 20001) n`
    await sql`insert into webhook_inbox values ('bank', 'old', now() - interval '31 days'),
      ('shop', 'new', now() - interval '29 days')`
    expect(await inbox.purge()).toBe(20_001)
    expect(await ids()).toEqual([
      ['bank', 'old'],
      ['shop', 'new'],
    ])
    expect(await inbox.purge({ olderThan: '28d' })).toBe(1)
    expect(await inbox.purge({ olderThan: '28d' })).toBe(0)
  })

  test('several at once share the work', async () => {
    await sql`insert into webhook_inbox select 'shop', 'old_' || n, now() - interval '31 days' from generate_series(1, 5000) n`
    const counts = await Promise.all([inbox.purge(), inbox.purge(), inbox.purge()])
    expect(counts.reduce((sum, n) => sum + n, 0)).toBe(5_000)
    expect(await ids()).toEqual([])
  })
})

test('the table may have another name, and the DDL is for any migration tool', async () => {
  const own = createInbox({ source: 'shop', schema: 'receiving', table: 'seen' })
  await sql`create schema receiving`
  await sql.unsafe(own.ddl)
  await sql.unsafe(own.ddl)
  expect(await sql.begin((tx) => own.processOnce(tx, webhook(1), () => 1))).toEqual({ processed: true, result: 1 })
  expect(await sql`select count(*)::int n from receiving.seen`).toEqual([{ n: 1 }])
  await expect(own.purge()).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
})

test.each([{ source: '' }, { source: 'a'.repeat(129) }, { source: 'a', table: 'x"y' }, { source: 'a', schema: '' }])(
  '%o is refused',
  (options) => {
    expect(() => createInbox(options)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  },
)
