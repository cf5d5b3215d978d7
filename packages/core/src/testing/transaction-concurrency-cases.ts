/** Transactions that run into each other and are run again. */
import assert from 'node:assert/strict'
import { isError } from '../errors.ts'
import type { ConformanceCase } from './conformance.ts'
import type { Isolation, TransactionScope, TransactionSuite } from './transaction-adapter.ts'

const MOST_TRIES = 3

export const concurrencyCases: readonly ConformanceCase<TransactionSuite>[] = (
  ['repeatable read', 'serializable'] as const
).map((isolation) => ({
  name: `${isolation}: who fails is run again, and its events are those of the run that was committed`,
  run: (suite) => collide(suite, isolation),
}))

async function collide(suite: TransactionSuite, isolation: Isolation): Promise<void> {
  const { adapter, webhooks } = suite
  const held = Promise.withResolvers<void>()
  const locked = Promise.withResolvers<void>()
  const emit = ({ tx }: TransactionScope, n: number) => webhooks.emit('test.happened', { n }, { tx })
  const increment = ({ execute }: TransactionScope) =>
    execute(`update ${suite.counters} set value = value + 1 where id = 1`)

  const first = adapter.transaction(async (scope) => {
    await increment(scope)
    await emit(scope, 1)
    locked.resolve()
    await held.promise
  }, isolation)
  await Promise.race([locked.promise, first])

  const failures: unknown[] = []
  let done = false
  while (!done) {
    try {
      await adapter.transaction(async (scope) => {
        await emit(scope, 2)
        // Its snapshot is older than the commit that it now runs into.
        held.resolve()
        await increment(scope)
        await emit(scope, 3)
      }, isolation)
      done = true
    } catch (error) {
      failures.push(error)
      if (failures.length === MOST_TRIES) throw error
    } finally {
      held.resolve()
    }
  }
  await first
  assert.deepEqual(failures.map(isSerializationFailure), [true], 'the second transaction failed once, by serialization')
  const events = (await suite.stored()).map(({ data }) => (JSON.parse(data) as { n: number }).n)
  assert.deepEqual(events, [1, 2, 3], 'the events')
  assert.equal(await suite.counter(), 2, 'the counter')
}

/** Every library wraps the server's 40001 in something of its own; Prisma's is P2034. */
function isSerializationFailure(error: unknown): boolean {
  for (let at: unknown = error; isError(at); at = at.cause ?? (at as { original?: unknown }).original) {
    const { code } = at as { code?: unknown }
    if (code === '40001' || code === 'P2034' || /could not serialize/.test(at.message)) return true
  }
  return false
}
