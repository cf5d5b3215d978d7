import type { Isolation, TransactionAdapter, TransactionScope } from '@posthaste/core/testing'

/** One way in which a host talks to its database, with a transaction of it for `emit`. */
export interface DataLayer {
  name: string
  /** `max`: connections of its pool. */
  open(url: string, max?: number): Promise<OpenDataLayer>
}

export interface OpenDataLayer extends TransactionAdapter {
  /** Objects of this library that are no transaction. */
  readonly outside: Readonly<Record<string, () => unknown>>
  close(): Promise<void>
}

export type Scope = TransactionScope
export type { Isolation }

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
