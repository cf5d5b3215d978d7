/** What `emit` promises inside the host's transaction, for every data layer. */
import { affiliateEvents, type HostTransaction } from '@posthaste/core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { uuidOf } from '../../support/webhooks-under-test.ts'
import type { DataLayer, OpenDataLayer, Scope } from '../layers/data-layer.ts'
import type { Host } from './host.ts'

const INVALID = expect.objectContaining({ code: 'INVALID_TRANSACTION' })

export function describeConformance(layers: readonly DataLayer[], host: () => Host): void {
  const emit = (tx: HostTransaction, n: number) => host().webhooks.emit('test.happened', { n }, { tx })

  describe.each(layers)('$name', ({ open }) => {
    let layer: OpenDataLayer
    beforeAll(async () => {
      layer = await open(host().url)
    })
    afterAll(() => layer.close())
    afterEach(() => host().clear())

    const insert = ({ execute }: Scope, n: number) => execute(`insert into orders values (${n})`)

    test('a commit keeps row and event, a rollback neither', async () => {
      const id = await layer.transaction(async (scope) => {
        await insert(scope, 1)
        return (await emit(scope.tx, 1)).id
      })
      const failed = layer.transaction(async (scope) => {
        await insert(scope, 2)
        await emit(scope.tx, 2)
        throw new Error('changed my mind')
      })
      await expect(failed).rejects.toThrow('changed my mind')
      expect(await host().state()).toEqual({ orders: [1], events: [1] })
      const [row] = await host().sql`select account, type, envelope from posthaste.events where id = ${uuidOf(id!)}`
      expect(row).toEqual({ account: 'default', type: 'test.happened', envelope: 0 })
    })

    test('an emit may be the first thing in a transaction, or the only one', async () => {
      await layer.transaction((scope) => emit(scope.tx, 1))
      await layer.transaction(async (scope) => {
        await emit(scope.tx, 2)
        await insert(scope, 2)
        await emit(scope.tx, 3)
      })
      expect(await host().state()).toEqual({ orders: [2], events: [1, 2, 3] })
    })

    test('what is rolled back to a savepoint is gone, and the rest stays', async () => {
      await layer.transaction(async (scope) => {
        await insert(scope, 1)
        await emit(scope.tx, 1)
        const undone = scope.savepoint(async (nested) => {
          await insert(nested, 2)
          await emit(nested.tx, 2)
          throw new Error('only this part')
        })
        await expect(undone).rejects.toThrow('only this part')
        await scope.savepoint(async (nested) => void (await emit(nested.tx, 3)))
        await emit(scope.tx, 4)
      })
      expect(await host().state()).toEqual({ orders: [1], events: [1, 3, 4] })
    })

    test('an emit that is first in a savepoint that is rolled back', async () => {
      await layer.transaction(async (scope) => {
        const undone = scope.savepoint(async (nested) => {
          await emit(nested.tx, 1)
          throw new Error('only this part')
        })
        await expect(undone).rejects.toThrow('only this part')
        await emit(scope.tx, 2)
      })
      expect(await host().state()).toEqual({ orders: [], events: [2] })
    })

    test('bulk: two statements, in order, first in its transaction', async () => {
      const ns = Array.from({ length: 1_500 }, (_, index) => index + 1)
      const events = ns.map((n) => ({ type: 'test.happened' as const, data: { n } }))
      const ids = await layer.transaction(({ tx }) => host().webhooks.emitMany(events, { tx }))
      const rows = await host().sql<{ id: string }[]>`select id from posthaste.events order by (data::json->>'n')::int`
      expect(ids.map(({ id }) => uuidOf(id!))).toEqual(rows.map(({ id }) => id.replaceAll('-', '')))
      expect((await host().state()).events.toSorted((a, b) => a - b)).toEqual(ns)
    })

    test('one that nobody subscribes to is not stored, also where nothing was written before', async () => {
      const seen = { type: 'test.seen' as const, data: { n: 1 } }
      await layer
        .transaction(async (scope) => {
          expect(await host().webhooks.emit(seen.type, seen.data, { tx: scope.tx })).toEqual({ id: null })
          expect(await host().webhooks.emitMany([seen, { ...seen, type: 'test.happened' }], { tx: scope.tx })).toEqual([
            { id: null },
            { id: expect.stringMatching(/^evt_/) },
          ])
          await host().sql`insert into posthaste.subscriptions values ('default', 'test.*', 1)`
          expect(await host().webhooks.emit(seen.type, { n: 2 }, { tx: scope.tx })).toEqual({
            id: expect.stringMatching(/^evt_/),
          })
        })
        .finally(() => host().sql`delete from posthaste.subscriptions`)
      expect(await host().state()).toEqual({ orders: [], events: [1, 2] })
    })

    test('after bad input the transaction goes on', async () => {
      await layer.transaction(async (scope) => {
        await insert(scope, 1)
        const refused = host().webhooks.emit('test.happened', { n: 1.5 }, { tx: scope.tx })
        await expect(refused).rejects.toMatchObject({ code: 'INVALID_DATA' })
        await emit(scope.tx, 1)
      })
      expect(await host().state()).toEqual({ orders: [1], events: [1] })
    })

    test('text that means something to a driver, unicode and a large payload arrive byte for byte', async () => {
      const example = affiliateEvents.definitions['commission.approved'].example
      const texts = [
        `$1 $2::text ? ?? :name @p0 %s \${x} {{y}} $$ $body$ -- /* */ ; '' ' " \\ \\' E'\\n' \\u0000`,
        'a\u0000b\t\r\n\u007f\u2028 ￿ Ünïcödé 漢字 🙂👩‍👩‍👧 \u{10ffff}',
        '😀"\\'.repeat(100_000),
      ]
      for (const [index, text] of texts.entries()) {
        const data = { ...example, product_name: text, [`key ${text.slice(0, 40)}`]: [null, -0.5, 1e21, text.length] }
        await layer.transaction(async ({ tx }) => {
          await host().webhooks.emit('commission.approved', data, { tx, idempotencyKey: `${index}?$1'` })
          await host().webhooks.emitMany([{ type: 'commission.approved', data }], { tx })
        })
        const rows = await host().sql`select data, idempotency_key from posthaste.events order by id`
        expect(rows.map((row) => row.data === JSON.stringify(data))).toEqual([true, true])
        expect(rows[0]?.idempotency_key).toBe(`${index}?$1'`)
        await host().sql`delete from posthaste.events`
      }
    })

    test('what is no transaction is refused, and nothing is written', async () => {
      for (const [name, object] of Object.entries(layer.outside)) {
        const tx = object() as HostTransaction
        const many = [{ type: 'test.happened' as const, data: { n: 1 } }]
        for (let times = 0; times < 2; times++) {
          await expect(emit(tx, 1), name).rejects.toEqual(INVALID)
          await expect(host().webhooks.emitMany(many, { tx }), name).rejects.toEqual(INVALID)
          await expect(host().webhooks.emit('test.seen', { n: 1 }, { tx }), name).rejects.toEqual(INVALID)
        }
      }
      expect(await host().state()).toEqual({ orders: [], events: [] })
    })

    test('a transaction that has ended is refused', async () => {
      let committed: HostTransaction | undefined
      let rolledBack: HostTransaction | undefined
      let unused: HostTransaction | undefined
      await layer.transaction(async (scope) => {
        committed = scope.tx
        await emit(scope.tx, 1)
      })
      await layer
        .transaction(async (scope) => {
          rolledBack = scope.tx
          await emit(scope.tx, 2)
          throw new Error('no')
        })
        .catch(() => {})
      await layer.transaction(async (scope) => {
        unused = scope.tx
        await insert(scope, 3)
      })
      for (const tx of [committed, rolledBack, unused]) {
        await expect(emit(tx as HostTransaction, 9)).rejects.toEqual(INVALID)
        await expect(host().webhooks.transaction(tx as HostTransaction, () => emit(tx as never, 9))).rejects.toEqual(
          INVALID,
        )
      }
      expect(await host().state()).toEqual({ orders: [3], events: [1] })
    })

    test.each(['repeatable read', 'serializable'] as const)('%s: who fails is run again', async (isolation) => {
      let release = () => {}
      const held = new Promise<void>((resolve) => {
        release = resolve
      })
      let updated = () => {}
      const locked = new Promise<void>((resolve) => {
        updated = resolve
      })
      const increment = (scope: Scope) => scope.execute('update counters set value = value + 1 where id = 1')
      const first = layer.transaction(async (scope) => {
        await increment(scope)
        await emit(scope.tx, 1)
        updated()
        await held
      }, isolation)
      await locked
      let tries = 0
      const failures: unknown[] = []
      for (;;) {
        tries++
        try {
          await layer.transaction(async (scope) => {
            await emit(scope.tx, 2)
            // Its snapshot is older than the commit that it now runs into.
            release()
            await increment(scope)
            await emit(scope.tx, 3)
          }, isolation)
          break
        } catch (error) {
          failures.push(error)
          if (tries === 3) throw error
        }
      }
      await first
      expect(failures.map(isSerializationFailure)).toEqual([true])
      expect((await host().state()).events).toEqual([1, 2, 3])
      const [counter] = await host().sql`select value from counters`
      expect(counter?.value).toBe(2)
    })
  })
}

/** Every library wraps the server's 40001 in something of its own. */
function isSerializationFailure(error: unknown): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause ?? (at as { original?: unknown }).original) {
    if ((at as { code?: unknown }).code === '40001' || (at as { code?: unknown }).code === 'P2034') return true
    if (/could not serialize/.test(at.message)) return true
  }
  return false
}
