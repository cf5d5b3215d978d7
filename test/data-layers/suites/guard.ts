/** Never does an emit look transactional and is not: where the object cannot tell, the server does. */
import type { HostTransaction, QueryTransaction } from '@posthaste/core'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { until } from '../../support/until.ts'
import type { DataLayer } from '../layers/data-layer.ts'
import type { Host } from './host.ts'

const INVALID = expect.objectContaining({ code: 'INVALID_TRANSACTION' })

/** @param singleUse layers whose objects each stand for one transaction */
export function describeGuard(singleUse: readonly DataLayer[], host: () => Host): void {
  let client: pg.Client
  beforeAll(async () => {
    client = new pg.Client({ connectionString: host().url })
    await client.connect()
  })
  afterAll(() => client.end())
  afterEach(async () => {
    await client.query('rollback')
    await host().clear()
  })

  const emit = (tx: HostTransaction, n: number) => host().webhooks.emit('test.happened', { n }, { tx })
  const many = (tx: HostTransaction, ns: number[]) =>
    host().webhooks.emitMany(
      ns.map((n) => ({ type: 'test.happened', data: { n } }) as const),
      { tx },
    )

  describe('an object whose transaction is over', () => {
    test.each(singleUse)('$name: does not get into the next one on its connection', async ({ open }) => {
      const layer = await open(host().url, 1)
      try {
        let stale: HostTransaction | undefined
        await layer.transaction(async (scope) => {
          await emit(scope.tx, 1)
          stale = scope.tx
        })
        await layer.transaction(async (scope) => {
          await scope.execute('insert into orders values (2)')
          await expect(emit(stale as HostTransaction, 3)).rejects.toEqual(INVALID)
          await emit(scope.tx, 4)
        })
      } finally {
        await layer.close()
      }
      expect(await host().state()).toEqual({ orders: [2], events: [1, 4] })
    })
  })

  /** Knows nothing of where it stands, and keeps what it was asked. */
  function bare(): { tx: QueryTransaction; asked: string[] } {
    const asked: string[] = []
    return {
      asked,
      tx: {
        query(text, values) {
          asked.push(text)
          return client.query(text, values)
        },
      },
    }
  }

  describe('a bare client', () => {
    test('needs one statement where something was written before, three where nothing was', async () => {
      const { tx, asked } = bare()
      await client.query('begin')
      await client.query('insert into orders values (1)')
      await emit(tx, 1)
      await many(tx, [2, 3])
      expect(asked).toHaveLength(2)
      await client.query('commit')
      await client.query('begin')
      await emit(tx, 4)
      expect(asked).toHaveLength(5)
      await emit(tx, 5)
      expect(asked).toHaveLength(6)
      await client.query('commit')
      expect((await host().state()).events).toEqual([1, 2, 3, 4, 5])
    })

    test('writes nothing outside of a transaction, however often it is tried', async () => {
      const { tx } = bare()
      await host().sql`insert into posthaste.subscriptions values ('default', '*', 1)`
      // Before Postgres 18 ids take numbers from a sequence, and every 32nd of them gives the statement a transaction id.
      for (let times = 0; times < 40; times++) {
        await expect(emit(tx, 1)).rejects.toEqual(INVALID)
        await expect(many(tx, [1, 2])).rejects.toEqual(INVALID)
        await expect(host().webhooks.emit('test.seen', { n: 1 }, { tx })).rejects.toEqual(INVALID)
      }
      await host().sql`delete from posthaste.subscriptions`
      expect((await host().state()).events).toEqual([])
    })

    test('between two transactions, and after one that was marked', async () => {
      const { tx } = bare()
      for (const end of ['commit', 'rollback']) {
        await client.query('begin')
        await emit(tx, 1)
        await client.query(end)
        await expect(emit(tx, 2)).rejects.toEqual(INVALID)
      }
      expect((await host().state()).events).toEqual([1])
    })

    test('is not taken in by a setting of the same name', async () => {
      const { tx } = bare()
      await client.query(`set posthaste.transaction = 'marked'`)
      await expect(emit(tx, 1)).rejects.toEqual(INVALID)
      await client.query(`set posthaste.transaction = ''`)
      await expect(emit(tx, 1)).rejects.toEqual(INVALID)
      await client.query('reset posthaste.transaction')
      expect((await host().state()).events).toEqual([])
    })

    test('says what is wrong where its answers are not understood', async () => {
      const tx = { query: async () => 'done' } as unknown as QueryTransaction
      await expect(emit(tx, 1)).rejects.toMatchObject({
        code: 'INVALID_TRANSACTION',
        message: expect.stringContaining('neither rows nor { rows }'),
      })
    })
  })

  describe('a client of node-postgres', () => {
    /** Silences, for one test, what pg says of statements that are given to a busy client. */
    function allowQueueing(): void {
      const { noDeprecation } = process
      process.noDeprecation = true
      onTestFinished(() => {
        process.noDeprecation = noDeprecation ?? false
      })
    }

    test('vouches for its transaction: one statement, also as the first', async () => {
      const asked: unknown[] = []
      const spied = new Proxy(client, {
        get(target, name) {
          const value = Reflect.get(target, name, target)
          if (typeof value !== 'function') return value
          return (...args: unknown[]) => {
            if (name === 'query') asked.push(args[0])
            return value.apply(target, args)
          }
        },
      })
      await client.query('begin')
      await emit(spied, 1)
      await emit(spied, 2)
      await client.query('commit')
      expect(asked).toHaveLength(2)
      expect((await host().state()).events).toEqual([1, 2])
    })

    test('a COMMIT that nobody awaited comes first', async () => {
      await client.query('begin')
      await emit(client, 1)
      allowQueueing()
      const committed = client.query('commit')
      await expect(emit(client, 2)).rejects.toEqual(INVALID)
      await committed
      expect((await host().state()).events).toEqual([1])
    })

    test('a BEGIN that nobody awaited does, too', async () => {
      allowQueueing()
      const begun = client.query('begin')
      await emit(client, 1)
      await begun
      await client.query('commit')
      expect((await host().state()).events).toEqual([1])
    })

    test('several at once come to it one after another, in order', async () => {
      let underWay = 0
      let most = 0
      const counted: QueryTransaction = {
        async query(text, values) {
          most = Math.max(most, ++underWay)
          return await client.query(text, values).finally(() => underWay--)
        },
      }
      await client.query('begin')
      await Promise.all([emit(counted, 1), emit(counted, 2), many(counted, [3, 4])])
      expect(most).toBe(1)
      await client.query('commit')
      expect((await host().state()).events).toEqual([1, 2, 3, 4])
    })

    test('after one of several failed the next are asked all the same, and the object is of use again', async () => {
      let asked = 0
      const failing: QueryTransaction = {
        query: (text, values) => (asked++ === 0 ? client.query('select 1 / 0') : client.query(text, values)),
      }
      await client.query('begin')
      const ended = await Promise.allSettled([emit(failing, 1), emit(failing, 2)])
      expect(ended).toMatchObject([{ reason: { code: '22012' } }, { reason: { code: '25P02' } }])
      await client.query('rollback')
      await client.query('begin')
      await emit(failing, 3)
      await client.query('commit')
      expect((await host().state()).events).toEqual([3])
    })

    test('a failed transaction is refused, and works again from a savepoint', async () => {
      await client.query('begin')
      await emit(client, 1)
      await client.query('savepoint s')
      await expect(client.query('select 1 / 0')).rejects.toThrow('division by zero')
      // The client may not yet have heard where it stands; then the server says so.
      const code = expect.stringMatching(/^(INVALID_TRANSACTION|25P02)$/)
      await expect(emit(client, 2)).rejects.toMatchObject({ code })
      // The error is told before the server says where the client stands, be it in the same packet or in the next.
      await until('the client to have heard', () => (client as unknown as { readyForQuery: boolean }).readyForQuery)
      await expect(emit(client, 2)).rejects.toEqual(INVALID)
      await client.query('rollback to s')
      await emit(client, 3)
      await client.query('commit')
      expect((await host().state()).events).toEqual([1, 3])
    })
  })

  test('withTransaction and transaction refuse before any work is done', async () => {
    const { webhooks } = host()
    expect(() => webhooks.withTransaction(client)).toThrow(INVALID)
    let worked = false
    const work = async () => {
      worked = true
    }
    await expect(webhooks.transaction(client, work)).rejects.toEqual(INVALID)
    expect(worked).toBe(false)
  })

  test('what the server refuses for a reason of its own is told as it is', async () => {
    await client.query('begin read only')
    await expect(emit(client, 1)).rejects.toMatchObject({ code: '25006' })
  })
}
