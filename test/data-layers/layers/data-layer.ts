import type { HostTransaction } from '@posthaste/core'

/** One way in which a host talks to its database, with a transaction of it for `emit`. */
export interface DataLayer {
  name: string
  /** `max`: connections of its pool. */
  open(url: string, max?: number): Promise<OpenDataLayer>
}

export interface OpenDataLayer {
  /** Runs `work` in one transaction: commits when it resolves, rolls back when it rejects, and rejects then. */
  transaction<T>(work: (scope: Scope) => Promise<T>, isolation?: Isolation): Promise<T>
  /** Objects of this library that are no transaction. */
  outside: Record<string, () => unknown>
  close(): Promise<void>
}

export type Isolation = 'repeatable read' | 'serializable'

export interface Scope {
  /** What the library's user has in hand, without a cast. */
  tx: HostTransaction
  /** Runs a statement of the host's own in the transaction. */
  execute(sql: string): Promise<unknown>
  /** Runs `work` in a savepoint, which is rolled back where it rejects; then rejects. */
  savepoint(work: (scope: Scope) => Promise<void>): Promise<void>
}

/** Savepoints by hand, for libraries that know none. */
export function plainSavepoint(scope: Omit<Scope, 'savepoint'>): Scope {
  const whole: Scope = {
    ...scope,
    async savepoint(work) {
      await scope.execute('savepoint inner_part')
      try {
        await work(whole)
        await scope.execute('release savepoint inner_part')
      } catch (error) {
        await scope.execute('rollback to savepoint inner_part')
        throw error
      }
    },
  }
  return whole
}
