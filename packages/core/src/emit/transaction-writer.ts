import { PosthasteError } from '../errors.ts'
import { openTransaction } from '../storage/host-transaction.ts'
import { type Row, refusal, type StatementValues } from '../storage/host-transactions/open-transaction.ts'
import { isSomethingMissing } from '../storage/unavailable.ts'
import type { EmitStatement } from './emit-statements.ts'

/** Writes in one host transaction, and nowhere else. */
export interface TransactionWriter {
  /** @throws PosthasteError INVALID_TRANSACTION where the object shows that there is no transaction (any more) */
  check(): void
  /**
   * Runs the statement in the transaction, in one round trip wherever the transaction has written something before or the
   * client vouches for it; else in three, since only the server can tell. Several at once are run one after another.
   *
   * @throws PosthasteError INVALID_TRANSACTION, and then nothing was written; NOT_MIGRATED where the transaction's database has
   *   no such table
   */
  write(statement: EmitStatement, values: StatementValues): Promise<readonly Row[]>
}

/**
 * @param mark the statement that marks a transaction
 * @param remedy what to do where the transaction's database lacks what is written to
 * @throws PosthasteError INVALID_TRANSACTION for a pool, or for what is not recognised
 */
export function createTransactionWriter(object: object, mark: string, remedy: string): TransactionWriter {
  const tx = openTransaction(object)
  /** Of an object that stands for one transaction, once it is known. */
  let xid: string | null = null

  async function writeInside(statement: EmitStatement, values: StatementValues): Promise<readonly Row[]> {
    let rows = await tx.run(statement.inside, values)
    if (rows.length === 0) {
      // Outside of a transaction, or in one that has not written yet. The mark tells them apart.
      await tx.run(mark, [])
      rows = await tx.run(statement.inside, values)
    }
    if (rows.length === 0) throw refusal('its connection is in no transaction (not begun, or over already)')
    const current = rows[0]?.xid
    if (tx.single && typeof current === 'string') xid = current
    return rows
  }

  async function writeInSame(
    statement: EmitStatement,
    values: StatementValues,
    known: string,
  ): Promise<readonly Row[]> {
    const rows = await tx.run(statement.same, [...values, known])
    if (rows.length === 0) throw refusal('its transaction has ended')
    return rows
  }

  async function write(statement: EmitStatement, values: StatementValues): Promise<readonly Row[]> {
    tx.check?.()
    try {
      if (tx.certain?.()) return await tx.run(statement.plain, values)
      return xid === null ? await writeInside(statement, values) : await writeInSame(statement, values, xid)
    } catch (error) {
      if (!isSomethingMissing(error)) throw error
      // Not the server's words: some data layers put the statement with its values, the event's data, into theirs.
      throw new PosthasteError('NOT_MIGRATED', `The database of this transaction lacks what is written to. ${remedy}`, {
        cause: error,
      })
    }
  }

  /** The last write that was begun, as long as it is under way. */
  let last: Promise<unknown> | null = null

  return {
    check: () => tx.check?.(),
    write(statement, values) {
      if (tx.pipelines === true) return write(statement, values)
      const run = () => write(statement, values)
      const turn = last === null ? run() : last.then(run, run)
      last = turn
      const forget = () => {
        if (last === turn) last = null
      }
      turn.then(forget, forget)
      return turn
    },
  }
}
