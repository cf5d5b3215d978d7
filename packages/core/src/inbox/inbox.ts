import { randomBytes } from 'node:crypto'
import { type Duration, parseDuration } from '../duration.ts'
import { createTransactionWriter, type TransactionWriter } from '../emit/transaction-writer.ts'
import { PosthasteError } from '../errors.ts'
import { type HostTransaction, openTransaction, transactionObject } from '../storage/host-transaction.ts'
import { rowsOf } from '../storage/host-transactions/open-transaction.ts'
import { checkSchemaName } from '../storage/schema-name.ts'
import { inboxStatements, PURGE_ROWS } from './inbox-statements.ts'

/** Runs one statement outside of any transaction: `(text, values) => sql.unsafe(text, values)`, or `pool.query(…)`. */
export type InboxStatement = (text: string, values: string[]) => PromiseLike<unknown>

export interface InboxOptions {
  /** Who sends: ids of different senders may be equal, and several senders may share one table. 1 to 128 characters. */
  source: string
  /** Schema of the table. Default `public`. */
  schema?: string
  /** Default `webhook_inbox`. */
  table?: string
  /** For `migrate()` and `purge()`. */
  run?: InboxStatement
}

/** Whether the handler ran, and what it answered. */
export type Processed<R> = { processed: true; result: R } | { processed: false }

export interface PurgeOptions {
  /**
   * Ids that came earlier are forgotten; a redelivery after that runs the handler again, so this must exceed the time over which
   * the sender retries and replays. Default `30d`, for which Posthaste keeps its events.
   */
  olderThan?: Duration
}

/** Remembers the ids of webhooks in the receiver's own Postgres. */
export interface Inbox {
  /**
   * Runs `handler` unless this webhook was processed before. The id is recorded in `tx`, so that it, and what the handler
   * writes in `tx`, are committed together or not at all. Whoever comes with the same id meanwhile, on whatever machine, waits
   * for that commit and then does nothing, or for the rollback and then runs the handler.
   *
   * What the handler throws is thrown: let your transaction roll back, answer 5xx, and the redelivery tries again.
   *
   * @param tx every transaction that `emit` takes
   * @param webhook what `verifyWebhook` answered
   * @throws PosthasteError INVALID_TRANSACTION, and WEBHOOK_ID_MISSING where the webhook has no id
   */
  processOnce<W extends { id: string | null }, R>(
    tx: HostTransaction,
    webhook: W,
    handler: (webhook: W) => R | PromiseLike<R>,
  ): Promise<Processed<R>>
  /** SQL that creates the table, for your own migrations. May run again. */
  readonly ddl: string
  /** Creates the table, with `run`; any number of processes may call it at every start. */
  migrate(): Promise<void>
  /** Forgets old ids of this source, with `run`, in short transactions. Answers how many. */
  purge(options?: PurgeOptions): Promise<number>
}

const REMEDY = 'Call inbox.migrate() in that database, or run inbox.ddl there.'

/** @throws PosthasteError CONFIG_INVALID, naming the option */
export function createInbox(options: InboxOptions): Inbox {
  const { source, run } = options
  if (typeof source !== 'string' || source.trim() === '' || source.length > 128)
    throw new PosthasteError('CONFIG_INVALID', "source must name the sender, such as 'affiliate-program'.")
  const statements = inboxStatements(
    checkSchemaName(options.schema ?? 'public', 'schema'),
    checkSchemaName(options.table ?? 'webhook_inbox', 'table'),
    randomBytes(12).toString('hex'),
  )
  const writers = new WeakMap<object, TransactionWriter>()

  function writerOf(object: object): TransactionWriter {
    const writer = writers.get(object) ?? createTransactionWriter(object, statements.mark, REMEDY)
    writers.set(object, writer)
    return writer
  }

  function requireRun(purpose: string): InboxStatement {
    if (run !== undefined) return run
    throw new PosthasteError(
      'CONFIG_INVALID',
      `${purpose} needs createInbox({ run }), such as run: (text, values) => sql.unsafe(text, values).`,
    )
  }

  async function record(object: object, id: string): Promise<boolean> {
    const rows = await writerOf(object).write(statements.record, [source, id])
    return rows[0]?.recorded === '1'
  }

  return {
    ddl: statements.ddl,

    async processOnce(tx, webhook, handler) {
      const id = idOf(webhook)
      try {
        if (!(await record(transactionObject(tx), id))) return { processed: false }
      } catch (error) {
        throw inOurTerms(error)
      }
      const object = transactionObject(tx)
      try {
        return { processed: true, result: await handler(webhook) }
      } catch (error) {
        // Where somebody catches this and commits all the same, the redelivery must find the webhook unprocessed. Where the
        // transaction has failed, as it should, this fails too, and nothing is left to forget.
        await openTransaction(object)
          .run(statements.forget, [source, id])
          .catch(() => {})
        throw error
      }
    },

    async migrate() {
      await requireRun('migrate()')(statements.migrate, [])
    },

    async purge({ olderThan = '30d' } = {}) {
      const ms = parseDuration(olderThan, 'olderThan')
      const statement = requireRun('purge()')
      let total = 0
      for (;;) {
        const purged = Number(rowsOf(await statement(statements.purge, [source, String(ms)]))[0]?.purged ?? 0)
        total += purged
        if (purged < PURGE_ROWS) return total
      }
    },
  }
}

function idOf({ id }: { id: string | null }): string {
  if (typeof id === 'string' && id !== '' && id.length <= 256) return id
  throw new PosthasteError(
    'WEBHOOK_ID_MISSING',
    'This webhook has no id (webhook-id, or X-Webhook-Id), so nobody can tell whether it was processed before. Pass what ' +
      'verifyWebhook answered.',
  )
}

/** What recognises transactions speaks of `emit`. */
function inOurTerms(error: unknown): unknown {
  if (!(error instanceof PosthasteError) || error.code !== 'INVALID_TRANSACTION') return error
  const message = error.message.replace(/^emit needs/, 'processOnce needs')
  return new PosthasteError('INVALID_TRANSACTION', message, { cause: error.cause })
}
