/** Transactions that stay open until they are told to end. */
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'

export interface OpenTransaction {
  tx: Sql
  commit(): Promise<void>
  rollback(): Promise<void>
}

/**
 * Each on a connection of its own, which is kept for the next one. Not `sql.reserve()`: where it has to open a connection and types
 * are not fetched, as in ours, it never resolves (porsager/postgres#751).
 */
export class OpenTransactions {
  readonly #url: string
  readonly #idle: Sql[] = []

  constructor(url: string) {
    this.#url = url
  }

  async begin(): Promise<OpenTransaction> {
    const tx = this.#idle.pop() ?? connect(this.#url, 1)
    await tx`begin`
    const end = (how: 'commit' | 'rollback') => async () => {
      await tx.unsafe(how)
      this.#idle.push(tx)
    }
    return { tx, commit: end('commit'), rollback: end('rollback') }
  }

  async close(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((one) => one.end({ timeout: 5 })))
  }
}
