/** What the transaction suite is given, and what its cases work with. */
import * as z from 'zod'
import { defineEvents } from '../catalog/define-events.ts'
import type { EmittedEvent } from '../emit/emitter.ts'
import type { HostTransaction } from '../storage/host-transaction.ts'

/** A data layer, or a plugin around one, as far as the suite needs it. */
export interface TransactionAdapter {
  /** Runs `work` in one transaction: commits when it resolves, rolls back when it rejects, and rejects then. */
  transaction<T>(work: (scope: TransactionScope) => Promise<T>, isolation?: Isolation): Promise<T>
  /** Objects that are no transaction, by name: the pool, the client outside of one. Each is asked for anew. */
  readonly outside?: Readonly<Record<string, () => unknown>>
}

export type Isolation = 'repeatable read' | 'serializable'

export interface TransactionScope {
  /** What is given to `emit` as `{ tx }`. */
  tx: HostTransaction
  /** Runs a statement in the transaction. */
  execute(sql: string): Promise<unknown>
  /** Runs `work` in a savepoint, which is rolled back where it rejects; then rejects. */
  savepoint(work: (scope: TransactionScope) => Promise<void>): Promise<void>
}

/** What the cases emit: one type that is always stored, one only where somebody subscribes. */
export const suiteEvents = defineEvents({
  'test.happened': {
    schema: z.object({ n: z.int() }),
    description: 'Something happened',
    trigger: 'A case of the suite',
    example: { n: 1 },
  },
  'test.seen': {
    schema: z.object({ n: z.int() }),
    description: 'Something of which nobody need know',
    trigger: 'A case of the suite',
    example: { n: 1 },
    store: 'when_subscribed',
  },
})

export interface SuiteEvent {
  type: 'test.happened' | 'test.seen'
  data: { n: number; [name: string]: unknown }
}

/** What of `webhooks` the cases use. */
export interface SuiteEmitter {
  emit(
    type: SuiteEvent['type'],
    data: SuiteEvent['data'],
    options: { tx: HostTransaction; idempotencyKey?: string },
  ): Promise<EmittedEvent>
  emitMany(events: readonly SuiteEvent[], options: { tx: HostTransaction }): Promise<EmittedEvent[]>
  transaction<R>(tx: HostTransaction, work: () => Promise<R>): Promise<R>
}

/** An event as it lies in the database. */
export interface StoredEvent {
  id: string
  account: string
  type: string
  /** The JSON text. */
  data: string
  idempotencyKey: string | null
}

/** What a case runs with. Each begins with nothing in the tables and nothing emitted. */
export interface TransactionSuite {
  readonly adapter: TransactionAdapter
  readonly webhooks: SuiteEmitter
  /** Table of the host's own rows, `n int primary key`. */
  readonly orders: string
  /** Table with the one row `id` 1, `value` 0. */
  readonly counters: string
  /** What is committed: numbers of the host's own rows, and the events in the order of their ids. */
  orderNumbers(): Promise<number[]>
  counter(): Promise<number>
  stored(): Promise<StoredEvent[]>
  /** Somebody subscribes to `test.*`, from here on and until `clear`. */
  subscribe(): Promise<void>
  /** Empties the tables and forgets what was emitted and subscribed. */
  clear(): Promise<void>
}
