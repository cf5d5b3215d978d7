import { AsyncLocalStorage } from 'node:async_hooks'
import { PosthasteError } from '../errors.ts'
import { toPublicId } from '../ids.ts'
import { adaptTransaction, type HostTransaction, type RunInTransaction } from '../storage/host-transaction.ts'
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
  runOwn: RunInTransaction
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
  run: RunInTransaction | null
}

/** A thousand rows a statement keep the statement's text and the server's memory small. */
const BULK_ROWS = 1_000

export interface Emitter {
  emit(type: string, data: unknown, options: EmitOptions, tx: EmitTarget): Promise<EmittedEvent>
  emitMany(events: readonly EmitInput[], tx: EmitTarget): Promise<EmittedEvent[]>
  /** Runs `work` with `tx` as the transaction of every plain emit in it, however deep. */
  within<T>(tx: HostTransaction, work: () => Promise<T>): Promise<T>
}

/** Emit is one plain INSERT in the caller's transaction: no job, no NOTIFY, no lock that another transaction could wait for. */
export function createEmitter(deps: EmitterDependencies): Emitter {
  const ambient = new AsyncLocalStorage<Surroundings>()
  const statements = emitStatements(deps.schema)
  const adapters = new WeakMap<object, RunInTransaction>()

  function resolve(tx: EmitTarget): RunInTransaction {
    if (tx === 'own') return deps.runOwn
    if (tx !== undefined) {
      let run = adapters.get(tx)
      if (run === undefined) {
        run = adaptTransaction(tx)
        // A node-postgres client outlives its transactions, so it is looked at each time.
        if (!('getTransactionStatus' in tx)) adapters.set(tx, run)
      }
      return run
    }
    const run = ambient.getStore()?.run ?? null
    if (run !== null) return run
    throw new PosthasteError(
      'NO_TRANSACTION',
      "emit was called outside of a transaction: pass { tx }, or call it inside webhooks.transaction(tx, …), or say { tx: 'own' } to let it commit on its own.",
    )
  }

  return {
    async emit(type, data, options, tx) {
      const event = prepareEvent(deps.rules, type, data, options)
      const run = resolve(tx)
      const rows = await run(event.whenSubscribed ? statements.whenSubscribed : statements.always, [
        event.account,
        event.type,
        event.dataText,
        event.occurredAt,
        deps.envelope,
        event.idempotencyKey,
      ])
      deps.nudge()
      const id = rows[0]?.id
      return { id: typeof id === 'string' ? toPublicId('evt', id) : null }
    },

    async emitMany(events, tx) {
      const prepared = events.map(({ type, data, ...options }) => prepareEvent(deps.rules, type, data, options))
      const run = resolve(tx)
      const emitted: EmittedEvent[] = []
      for (let from = 0; from < prepared.length; from += BULK_ROWS) {
        const rows = await run(statements.bulk, [bulkText(prepared.slice(from, from + BULK_ROWS)), deps.envelope])
        for (const row of rows) emitted.push({ id: typeof row.id === 'string' ? toPublicId('evt', row.id) : null })
      }
      if (emitted.length > 0) deps.nudge()
      return emitted
    },

    async within(tx, work) {
      const surroundings: Surroundings = { run: adaptTransaction(tx) }
      try {
        return await ambient.run(surroundings, work)
      } finally {
        // Work that nobody awaited goes on with this store: it must not emit over a connection whose transaction is over.
        surroundings.run = null
      }
    },
  }
}

function bulkText(events: readonly PreparedEvent[]): string {
  return JSON.stringify(
    events.map((event) => ({
      a: event.account,
      t: event.type,
      d: event.dataText,
      o: event.occurredAt,
      k: event.idempotencyKey,
      w: event.whenSubscribed,
    })),
  )
}

function emitStatements(s: string): { always: string; whenSubscribed: string; bulk: string } {
  const columns = '(account, type, data, occurred_at, envelope, idempotency_key)'
  const values = `$1::text, $2::text, $3::text, coalesce($4::text::timestamptz, ${s}.clock()), $5::smallint, $6::text`
  return {
    always: `insert into ${s}.events ${columns} values (${values}) returning id::text`,
    whenSubscribed: `insert into ${s}.events ${columns} select ${values}
      where exists (select 1 from ${s}.subscriptions where account = $1::text and pattern = any (${s}.patterns($2::text)))
      returning id::text`,
    bulk: `with given as materialized (
        select g.*, (not g.w or exists (select 1 from ${s}.subscriptions
          where account = g.a and pattern = any (${s}.patterns(g.t)))) stored, ${s}.new_id() id
        from rows from (json_to_recordset($1::text::json) as (a text, t text, d text, o timestamptz, k text, w boolean))
          with ordinality g(a, t, d, o, k, w, ord) order by g.ord
      ), written as (
        insert into ${s}.events (id, account, type, data, occurred_at, envelope, idempotency_key)
        select id, a, t, d, coalesce(o, ${s}.clock()), $2::smallint, k from given where stored order by ord
      )
      select case when stored then id::text end id from given order by ord`,
  }
}
