/** Emits in the host's transactions, through each of the drivers: what commits is sent, what does not is not. */
import { drizzle as drizzlePg } from 'drizzle-orm/node-postgres'
import { drizzle as drizzlePostgresJs } from 'drizzle-orm/postgres-js'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

let receiver: Receiver
let host: UnderTest
let pool: pg.Pool
let nextNumber = 1

beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest()
  pool = new pg.Pool({ connectionString: host.database.url, max: 4 })
  await host.sql`create table orders (n int primary key)`
  await host.endpoint(receiver.url('/all'))
  await host.webhooks.start()
})
afterAll(async () => {
  await pool.end()
  await host.stop()
  await receiver.close()
})

/** Asks for `count` numbers that no other test uses. */
function numbers(count: number): number[] {
  return Array.from({ length: count }, () => nextNumber++)
}

/** Which of these numbers were received, in rising order, once nothing is under way. */
async function delivered(among: readonly number[]): Promise<unknown[]> {
  await host.settled()
  return receiver
    .requests('/all')
    .map(({ data }) => data.n as number)
    .filter((n) => among.includes(n))
    .toSorted((one, other) => one - other)
}

async function orders(among: readonly number[]): Promise<number[]> {
  const rows = await host.sql`select n from orders where n = any (${among as number[]}) order by n`
  return rows.map((row) => row.n as number)
}

/** How each driver opens a transaction. `work` gets what emit takes, and a way to write a row of the host's own. */
const drivers: Record<
  string,
  (work: (tx: never, insert: (n: number) => Promise<unknown>) => Promise<unknown>) => Promise<unknown>
> = {
  'postgres.js': (work) => host.sql.begin((tx) => work(tx as never, (n) => tx`insert into orders values (${n})`)),
  'node-postgres': async (work) => {
    const client = await pool.connect()
    try {
      await client.query('begin')
      await work(client as never, (n) => client.query('insert into orders values ($1)', [n]))
      await client.query('commit')
    } catch (error) {
      await client.query('rollback')
      throw error
    } finally {
      client.release()
    }
  },
  'drizzle over postgres.js': (work) =>
    drizzlePostgresJs(host.sql).transaction((tx) =>
      work(tx as never, (n) => tx.execute(`insert into orders values (${n})`)),
    ),
  'drizzle over node-postgres': (work) =>
    drizzlePg(pool).transaction((tx) => work(tx as never, (n) => tx.execute(`insert into orders values (${n})`))),
  'any object with query(text, values)': async (work) => {
    const client = await pool.connect()
    const minimal = { query: (text: string, values: unknown[]) => client.query(text, values).then(({ rows }) => rows) }
    try {
      await client.query('begin')
      await work(minimal as never, (n) => client.query('insert into orders values ($1)', [n]))
      await client.query('commit')
    } catch (error) {
      await client.query('rollback')
      throw error
    } finally {
      client.release()
    }
  },
}

describe.each(Object.entries(drivers))('%s', (_name, transaction) => {
  test('what commits is delivered once, with the id that emit answered', async () => {
    const [n] = numbers(1) as [number]
    let id: string | null = null
    await transaction(async (tx, insert) => {
      await insert(n)
      id = (await host.webhooks.emit('test.happened', { n }, { tx })).id
    })
    expect(await delivered([n])).toEqual([n])
    expect(receiver.requests('/all').find(({ data }) => data.n === n)?.eventId).toBe(id)
    expect(await orders([n])).toEqual([n])
  })

  test('a rollback leaves neither row nor event', async () => {
    const [n] = numbers(1) as [number]
    const rolledBack = transaction(async (tx, insert) => {
      await insert(n)
      await host.webhooks.emit('test.happened', { n }, { tx })
      throw new Error('changed my mind')
    })
    await expect(rolledBack).rejects.toThrow('changed my mind')
    expect(await delivered([n])).toEqual([])
    expect(await orders([n])).toEqual([])
  })

  test('several in one transaction, by every way to name it', async () => {
    const ns = numbers(7)
    const [a, b, c, d, e, f, g] = ns as [number, number, number, number, number, number, number]
    await transaction(async (tx) => {
      await host.webhooks.emit('test.happened', { n: a }, { tx })
      await host.webhooks.withTransaction(tx).emit('test.happened', { n: b })
      await host.webhooks.withTransaction(tx).emitMany([{ type: 'test.happened', data: { n: c } }])
      await host.webhooks.transaction(tx, async () => {
        await Promise.resolve()
        await host.webhooks.emit('test.happened', { n: d })
        await host.webhooks.emitMany([
          { type: 'test.happened', data: { n: e } },
          { type: 'test.happened', data: { n: f } },
        ])
      })
      await host.webhooks.emitMany([{ type: 'test.happened', data: { n: g } }], { tx })
    })
    expect(await delivered(ns)).toEqual(ns)
  })

  test('bad input is refused before the transaction is touched, and the transaction goes on', async () => {
    const [n] = numbers(1) as [number]
    await transaction(async (tx, insert) => {
      await insert(n)
      await expect(host.webhooks.emit('test.happened', { n: 1.5 }, { tx })).rejects.toMatchObject({
        code: 'INVALID_DATA',
      })
      await expect(
        host.webhooks.emit('test.happened', { n: 1, text: 'a\ud800b' } as never, { tx }),
      ).rejects.toMatchObject({ code: 'NOT_JSON' })
      await host.webhooks.emit('test.happened', { n }, { tx })
    })
    expect(await delivered([n])).toEqual([n])
    expect(await orders([n])).toEqual([n])
  })
})

describe('savepoints', () => {
  test('postgres.js: what was rolled back to a savepoint is not sent, the rest is', async () => {
    const ns = numbers(3)
    const [before, within, after] = ns as [number, number, number]
    await host.sql.begin(async (tx) => {
      await host.webhooks.emit('test.happened', { n: before }, { tx })
      await tx
        .savepoint(async (nested) => {
          await host.webhooks.emit('test.happened', { n: within }, { tx: nested })
          throw new Error('only this part')
        })
        .catch(() => {})
      await host.webhooks.emit('test.happened', { n: after }, { tx })
    })
    expect(await delivered(ns)).toEqual([before, after])
  })

  test('drizzle: a nested transaction that is released is sent', async () => {
    const ns = numbers(3)
    const [before, kept, dropped] = ns as [number, number, number]
    await drizzlePg(pool).transaction(async (tx) => {
      await host.webhooks.emit('test.happened', { n: before }, { tx })
      await tx.transaction((nested) => host.webhooks.emit('test.happened', { n: kept }, { tx: nested }))
      await tx
        .transaction(async (nested) => {
          await host.webhooks.emit('test.happened', { n: dropped }, { tx: nested })
          nested.rollback()
        })
        .catch(() => {})
    })
    expect(await delivered(ns)).toEqual([before, kept])
  })

  test('two hundred subtransactions', async () => {
    const ns = numbers(200)
    await host.sql.begin(async (tx) => {
      for (const n of ns) {
        await tx.savepoint((nested) => host.webhooks.emit('test.happened', { n }, { tx: nested }))
      }
    })
    expect(await delivered(ns)).toEqual(ns)
  })
})

describe('without a transaction of the host', () => {
  test("tx: 'own' commits by itself", async () => {
    const ns = numbers(3)
    const [a, b, c] = ns as [number, number, number]
    await host.webhooks.emit('test.happened', { n: a }, { tx: 'own' })
    await host.webhooks.emitMany(
      [
        { type: 'test.happened', data: { n: b } },
        { type: 'test.happened', data: { n: c } },
      ],
      { tx: 'own' },
    )
    expect(await delivered(ns)).toEqual(ns)
  })

  test('plain emit is NO_TRANSACTION, outside of and after transaction()', async () => {
    const refused = expect.objectContaining({ code: 'NO_TRANSACTION' })
    await expect(host.webhooks.emit('test.happened', { n: 1 })).rejects.toEqual(refused)
    await expect(host.webhooks.emitMany([{ type: 'test.happened', data: { n: 1 } }])).rejects.toEqual(refused)
    await host.sql.begin((tx) => host.webhooks.transaction(tx, async () => {}))
    await expect(host.webhooks.emit('test.happened', { n: 1 })).rejects.toEqual(refused)
  })

  test('work that outlives transaction() does not emit into a transaction that is over', async () => {
    const [n] = numbers(1) as [number]
    let late: Promise<unknown> = Promise.resolve()
    let committed = () => {}
    const commit = new Promise<void>((resolve) => {
      committed = resolve
    })
    await host.sql.begin((tx) =>
      host.webhooks.transaction(tx, async () => {
        late = commit.then(() => host.webhooks.emit('test.happened', { n }))
      }),
    )
    committed()
    await expect(late).rejects.toMatchObject({ code: 'NO_TRANSACTION' })
    expect(await delivered([n])).toEqual([])
  })

  test('transactions at the same time do not mix', async () => {
    const ns = numbers(20)
    await Promise.all(
      ns.map((n) =>
        host.sql
          .begin((tx) =>
            host.webhooks.transaction(tx, async () => {
              await new Promise((resolve) => setTimeout(resolve, Math.random() * 20))
              await host.webhooks.emit('test.happened', { n })
              if (n % 2 === 0) throw new Error('even')
            }),
          )
          .catch(() => {}),
      ),
    )
    expect(await delivered(ns)).toEqual(ns.filter((n) => n % 2 === 1))
  })
})

describe('what is no transaction is refused', () => {
  test.each<[string, () => unknown]>([
    ['the postgres.js pool', () => host.sql],
    ['the node-postgres pool', () => pool],
    ['drizzle over postgres.js itself', () => drizzlePostgresJs(host.sql)],
    ['drizzle over node-postgres itself', () => drizzlePg(pool)],
    ['null', () => null],
    ['a text', () => 'begin'],
    ['a number', () => 7],
    ['true', () => true],
    ['an empty object', () => ({})],
    ['a promise', () => Promise.resolve()],
    ['a function', () => () => {}],
    ['a symbol', () => Symbol('tx')],
  ])('%s', async (_name, tx) => {
    const options = { tx: tx() as never }
    const refused = expect.objectContaining({ code: 'INVALID_TRANSACTION' })
    await expect(host.webhooks.emit('test.happened', { n: 1 }, options)).rejects.toEqual(refused)
    await expect(host.webhooks.emitMany([{ type: 'test.happened', data: { n: 1 } }], options)).rejects.toEqual(refused)
  })

  test('a node-postgres client outside of a transaction, also after it was in one', async () => {
    const client = await pool.connect()
    try {
      const refused = expect.objectContaining({ code: 'INVALID_TRANSACTION' })
      const emit = () => host.webhooks.emit('test.happened', { n: 1 }, { tx: client })
      await expect(emit()).rejects.toEqual(refused)
      await client.query('begin')
      await expect(emit()).resolves.toMatchObject({ id: expect.stringMatching(/^evt_/) })
      await client.query('rollback')
      await expect(emit()).rejects.toEqual(refused)
    } finally {
      client.release()
    }
  })
})
