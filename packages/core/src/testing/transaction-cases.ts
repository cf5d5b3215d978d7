/** What `emit` promises inside a host's transaction, for whatever the host's data layer is. */
import assert from 'node:assert/strict'
import { parsePublicId } from '../ids.ts'
import type { HostTransaction } from '../storage/host-transaction.ts'
import type { ConformanceCase } from './conformance.ts'
import type { SuiteEvent, TransactionScope, TransactionSuite } from './transaction-adapter.ts'
import { concurrencyCases } from './transaction-concurrency-cases.ts'

type Case = ConformanceCase<TransactionSuite>

const INVALID = { code: 'INVALID_TRANSACTION' }

const emit = ({ webhooks }: TransactionSuite, tx: HostTransaction, n: number) =>
  webhooks.emit('test.happened', { n }, { tx })
const insert = ({ orders }: TransactionSuite, { execute }: TransactionScope, n: number) =>
  execute(`insert into ${orders} values (${n})`)

/** @param events in the order of their ids */
async function expectState(suite: TransactionSuite, orders: number[], events: number[]): Promise<void> {
  assert.deepEqual(await suite.orderNumbers(), orders, "the host's own rows")
  const stored = (await suite.stored()).map(({ data }) => (JSON.parse(data) as { n: number }).n)
  assert.deepEqual(stored, events, 'the events')
}

const commitAndRollback: Case = {
  name: 'a commit keeps row and event, a rollback neither',
  async run(suite) {
    const { adapter } = suite
    const { id } = await adapter.transaction(async (scope) => {
      await insert(suite, scope, 1)
      return await emit(suite, scope.tx, 1)
    })
    const failed = adapter.transaction(async (scope) => {
      await insert(suite, scope, 2)
      await emit(suite, scope.tx, 2)
      throw new Error('changed my mind')
    })
    await assert.rejects(failed, /changed my mind/)
    await expectState(suite, [1], [1])
    const [stored] = await suite.stored()
    assert.deepEqual(
      { id: stored?.id, account: stored?.account, type: stored?.type },
      { id: parsePublicId('evt', id ?? ''), account: 'default', type: 'test.happened' },
    )
  },
}

const emitFirst: Case = {
  name: 'an emit may be the first thing in a transaction, or the only one',
  async run(suite) {
    await suite.adapter.transaction((scope) => emit(suite, scope.tx, 1))
    await suite.adapter.transaction(async (scope) => {
      await emit(suite, scope.tx, 2)
      await insert(suite, scope, 2)
      await emit(suite, scope.tx, 3)
    })
    await expectState(suite, [2], [1, 2, 3])
  },
}

const savepoint: Case = {
  name: 'what is rolled back to a savepoint is gone, and the rest stays',
  async run(suite) {
    await suite.adapter.transaction(async (scope) => {
      await insert(suite, scope, 1)
      await emit(suite, scope.tx, 1)
      const undone = scope.savepoint(async (nested) => {
        await insert(suite, nested, 2)
        await emit(suite, nested.tx, 2)
        throw new Error('only this part')
      })
      await assert.rejects(undone, /only this part/)
      await scope.savepoint(async (nested) => void (await emit(suite, nested.tx, 3)))
      await emit(suite, scope.tx, 4)
    })
    await expectState(suite, [1], [1, 3, 4])
  },
}

const firstInSavepoint: Case = {
  name: 'an emit that is first in a savepoint that is rolled back is gone',
  async run(suite) {
    await suite.adapter.transaction(async (scope) => {
      const undone = scope.savepoint(async (nested) => {
        await emit(suite, nested.tx, 1)
        throw new Error('only this part')
      })
      await assert.rejects(undone, /only this part/)
      await emit(suite, scope.tx, 2)
    })
    await expectState(suite, [], [2])
  },
}

const bulk: Case = {
  name: 'many events are several statements, in order, also first in their transaction',
  async run(suite) {
    const ns = Array.from({ length: 1_500 }, (_, index) => index + 1)
    const events = ns.map((n): SuiteEvent => ({ type: 'test.happened', data: { n } }))
    const answers = await suite.adapter.transaction(({ tx }) => suite.webhooks.emitMany(events, { tx }))
    const idsByNumber = new Map(
      (await suite.stored()).map(({ id, data }) => [(JSON.parse(data) as { n: number }).n, id]),
    )
    assert.equal(idsByNumber.size, ns.length)
    const expected = ns.map((n) => idsByNumber.get(n))
    assert.deepEqual(
      answers.map(({ id }) => parsePublicId('evt', id ?? '')),
      expected,
      'the ids, in order',
    )
  },
}

const whenSubscribed: Case = {
  name: 'a type that is stored only for subscribers is not stored without one, and is with one',
  async run(suite) {
    const { webhooks } = suite
    const seen = (n: number): SuiteEvent => ({ type: 'test.seen', data: { n } })
    await suite.adapter.transaction(async ({ tx }) => {
      assert.deepEqual(await webhooks.emit('test.seen', { n: 1 }, { tx }), { id: null })
      const [none, some] = await webhooks.emitMany([seen(1), { type: 'test.happened', data: { n: 1 } }], { tx })
      assert.deepEqual([none?.id, typeof some?.id], [null, 'string'])
      await suite.subscribe()
      const now = await webhooks.emit('test.seen', { n: 2 }, { tx })
      assert.equal(typeof now.id, 'string', 'with a subscriber it is stored')
    })
    await expectState(suite, [], [1, 2])
  },
}

const badInput: Case = {
  name: 'after bad input the transaction goes on',
  async run(suite) {
    await suite.adapter.transaction(async (scope) => {
      await insert(suite, scope, 1)
      const refused = suite.webhooks.emit('test.happened', { n: 1.5 }, { tx: scope.tx })
      await assert.rejects(refused, { code: 'INVALID_DATA' })
      await emit(suite, scope.tx, 1)
    })
    await expectState(suite, [1], [1])
  },
}

/** What means something to one driver or another, every kind of character, and much of it. */
const TEXTS = [
  `$1 $2::text ? ?? :name @p0 %s \${x} {{y}} $$ $body$ -- /* */ ; '' ' " \\ \\' E'\\n' \\u0000`,
  'a\u0000b\t\r\n\u007f\u2028 ￿ Ünïcödé e\u0301 漢字 🙂👩‍👩‍👧 \u{10ffff}',
  '😀"\\'.repeat(100_000),
]

const byteForByte: Case = {
  name: 'text that means something to a driver, unicode and a large payload arrive byte for byte',
  async run(suite) {
    for (const [index, text] of TEXTS.entries()) {
      const data = { n: index, text, [`key ${text.slice(0, 40)}`]: [null, -0.5, 1e21, text.length] }
      const key = `${index}?$1'`
      await suite.adapter.transaction(async ({ tx }) => {
        await suite.webhooks.emit('test.happened', data, { tx, idempotencyKey: key })
        await suite.webhooks.emitMany([{ type: 'test.happened', data }], { tx })
      })
      const stored = await suite.stored()
      assert.deepEqual(
        stored.map((one) => [one.data === JSON.stringify(data), one.idempotencyKey]),
        [
          [true, key],
          [true, null],
        ],
        `text ${index}`,
      )
      await suite.clear()
    }
  },
}

const noTransaction: Case = {
  name: 'what is no transaction is refused, and nothing is written',
  async run(suite) {
    const { webhooks, adapter } = suite
    for (const [name, object] of Object.entries(adapter.outside ?? {})) {
      const tx = object() as HostTransaction
      // Twice: the first try must not be what makes the second one succeed.
      for (let times = 0; times < 2; times++) {
        await assert.rejects(emit(suite, tx, 1), INVALID, name)
        await assert.rejects(webhooks.emitMany([{ type: 'test.happened', data: { n: 1 } }], { tx }), INVALID, name)
        await assert.rejects(webhooks.emit('test.seen', { n: 1 }, { tx }), INVALID, name)
      }
    }
    await expectState(suite, [], [])
  },
}

const endedTransaction: Case = {
  name: 'a transaction that has ended is refused',
  async run(suite) {
    const { webhooks, adapter } = suite
    const ended: Record<string, HostTransaction> = {}
    await adapter.transaction(async (scope) => {
      ended.committed = scope.tx
      await emit(suite, scope.tx, 1)
    })
    const failed = adapter.transaction(async (scope) => {
      ended['rolled back'] = scope.tx
      await emit(suite, scope.tx, 2)
      throw new Error('changed my mind')
    })
    await assert.rejects(failed, /changed my mind/)
    await adapter.transaction(async (scope) => {
      ended['committed without an event'] = scope.tx
      await insert(suite, scope, 3)
    })
    for (const [name, tx] of Object.entries(ended)) {
      await assert.rejects(emit(suite, tx, 9), INVALID, name)
      const within = async () => await webhooks.transaction(tx, () => emit(suite, tx, 9))
      await assert.rejects(within, INVALID, name)
    }
    await expectState(suite, [3], [1])
  },
}

/** Each case of `checkTransactionAdapter`, for a report or a test of its own. */
export const transactionCases: readonly Case[] = [
  commitAndRollback,
  emitFirst,
  savepoint,
  firstInSavepoint,
  bulk,
  whenSubscribed,
  badInput,
  byteForByte,
  noTransaction,
  endedTransaction,
  ...concurrencyCases,
]
