import { AsyncLocalStorage } from 'node:async_hooks'
import { randomBytes } from 'node:crypto'
import { subscriptionPatterns } from '../catalog/event-names.ts'
import { PosthasteError } from '../errors.ts'
import { toPublicId } from '../ids.ts'
import { type HostTransaction, transactionObject } from '../storage/host-transaction.ts'
import type { Row, RunStatement, StatementValues } from '../storage/host-transactions/open-transaction.ts'
import { type EmitStatement, emitStatements } from './emit-statements.ts'
import { createTransactionWriter, type TransactionWriter } from './transaction-writer.ts'
import { type EmitOptions, type PreparedEvent, type PrepareRules, prepareEvent } from './wire-event.ts'

/** What an emit answers. */
export interface EmittedEvent {
  /**
   * The event's id, which receivers see as `webhook-id`. Null where the event type is stored only `when_subscribed` and no
   * active endpoint of the account subscribes: nothing was written.
   */
  id: string | null
}

export interface EmitterDependencies {
  schema: string
  rules: PrepareRules
  /** 0: the contract's envelope; 1: Standard Webhooks'. Fixed for an event when it is emitted. */
  envelope: 0 | 1
  /** Runs a statement in a transaction of its own. */
  runOwn: RunStatement
  /** Tells the dispatcher of this process that something is about to be committed. */
  nudge(): void
}

export type EmitTarget = HostTransaction | 'own' | undefined

/** One event of a bulk emit. */
export interface EmitInput extends EmitOptions {
  type: string
  data: unknown
}

/** The transaction that `within` was given, until its work has ended. */
interface Surroundings {
  writer: TransactionWriter | null
}

/** A thousand rows a statement keep the statement's text and the server's memory small. */
const BULK_ROWS = 1_000

export interface Emitter {
  emit(type: string, data: unknown, options: EmitOptions, tx: EmitTarget): Promise<EmittedEvent>
  emitMany(events: readonly EmitInput[], tx: EmitTarget): Promise<EmittedEvent[]>
  /** @throws PosthasteError INVALID_TRANSACTION for what can be seen to be none, before anything is emitted */
  require(tx: HostTransaction): void
  /** Runs `work` with `tx` as the transaction of every plain emit in it, however deep. */
  within<T>(tx: HostTransaction, work: () => Promise<T>): Promise<T>
}

/** Emit is one plain INSERT in the caller's transaction: no job, no NOTIFY, no lock that another transaction could wait for. */
export function createEmitter(deps: EmitterDependencies): Emitter {
  const ambient = new AsyncLocalStorage<Surroundings>()
  const statements = emitStatements(deps.schema, deps.envelope, randomBytes(12).toString('hex'))
  const writers = new WeakMap<object, TransactionWriter>()
  const remedy = `Is it the one in which webhooks.migrate() made the schema ${deps.schema}? If so, call that again: it is older than this version.`

  function writerOf(tx: HostTransaction): TransactionWriter {
    const object = transactionObject(tx)
    let writer = writers.get(object)
    if (writer === undefined) {
      writer = createTransactionWriter(object, statements.mark, remedy)
      writers.set(object, writer)
    }
    return writer
  }

  function target(tx: EmitTarget): (statement: EmitStatement, values: StatementValues) => Promise<readonly Row[]> {
    if (tx === 'own') return (statement, values) => deps.runOwn(statement.plain, values)
    const writer = tx === undefined ? ambient.getStore()?.writer : writerOf(tx)
    if (writer) return writer.write
    throw new PosthasteError(
      'NO_TRANSACTION',
      "emit was called outside of a transaction: pass { tx }, or call it inside webhooks.transaction(tx, …), or say { tx: 'own' } to let it commit on its own.",
    )
  }

  return {
    async emit(type, data, options, tx) {
      const event = prepareEvent(deps.rules, type, data, options)
      const write = target(tx)
      const rows = await write(event.whenSubscribed ? statements.whenSubscribed(event.type) : statements.always, [
        event.account,
        event.type,
        event.dataText,
        event.occurredAt,
        event.idempotencyKey,
      ])
      deps.nudge()
      return toEmitted(rows[0])
    },

    async emitMany(events, tx) {
      const prepared = events.map(({ type, data, ...options }) => prepareEvent(deps.rules, type, data, options))
      const write = target(tx)
      const emitted: EmittedEvent[] = []
      for (let from = 0; from < prepared.length; from += BULK_ROWS) {
        const rows = await write(statements.bulk, [bulkText(prepared.slice(from, from + BULK_ROWS))])
        for (const row of rows) emitted.push(toEmitted(row))
      }
      if (emitted.length > 0) deps.nudge()
      return emitted
    },

    require(tx) {
      writerOf(tx).check()
    },

    async within(tx, work) {
      const writer = writerOf(tx)
      writer.check()
      const surroundings: Surroundings = { writer }
      try {
        return await ambient.run(surroundings, work)
      } finally {
        // Work that nobody awaited goes on with this store: it must not emit over a connection whose transaction is over.
        surroundings.writer = null
      }
    },
  }
}

function toEmitted(row: Row | undefined): EmittedEvent {
  const id = row?.id
  return { id: typeof id === 'string' ? toPublicId('evt', id) : null }
}

function bulkText(events: readonly PreparedEvent[]): string {
  return JSON.stringify(
    events.map((event) => ({
      a: event.account,
      t: event.type,
      d: event.dataText,
      o: event.occurredAt,
      k: event.idempotencyKey,
      // What of it can be subscribed to, where it is stored only then.
      ...(event.whenSubscribed ? { w: subscriptionPatterns(event.type) } : {}),
    })),
  )
}
