/** What an error of the database means for whoever asked: nothing he can mend, but often something that passes. */
import { isError, PosthasteError } from '../errors.ts'

/**
 * SQLSTATEs (PostgreSQL, appendix A) and their classes, of what passes by itself or is an operator's to mend: connections
 * refused or lost (08, 57P), logins refused (28), no such database (3D), resources exhausted (53), locks and deadlines (40, 55P03,
 * 57014), a standby that takes no writes (25006).
 */
const UNAVAILABLE = /^(08|28|3D|40|53|57P)|^(25006|55P03|57014)$/

/** Tables, columns, functions or a schema that do not exist: the database is behind this version of the package. */
const NOT_MIGRATED = /^(42P01|42703|42883|3F000)$/

/** What Node and postgres.js say of connections. */
const NETWORK = /^(CONNECTION_|CONNECT_TIMEOUT$|ECONN|ENOTFOUND$|EAI_AGAIN$|ETIMEDOUT$|EHOST|ENET|EPIPE$|ENOENT$)/

/**
 * The typed error for a database that cannot answer, else the error itself.
 *
 * @returns a PosthasteError `NOT_MIGRATED` or `UNAVAILABLE`, with the error as its cause
 */
export function typedDatabaseError(error: unknown): unknown {
  if (!isError(error) || error instanceof PosthasteError) return error
  const { code } = error as { code?: unknown }
  if (typeof code !== 'string') return error
  if (NOT_MIGRATED.test(code)) {
    return new PosthasteError(
      'NOT_MIGRATED',
      `The database lacks something that this version of Posthaste needs (${error.message}): call webhooks.migrate().`,
      { cause: error },
    )
  }
  if (UNAVAILABLE.test(code) || NETWORK.test(code)) {
    return new PosthasteError('UNAVAILABLE', `The database cannot be used at the moment: ${code}, ${error.message}`, {
      cause: error,
    })
  }
  return error
}

/** Where the data layers of hosts keep the server's error: Drizzle and MikroORM, TypeORM, Sequelize, Prisma. */
const WRAPPED_IN = ['cause', 'driverError', 'original', 'meta', 'driverAdapterError'] as const

/** Whether the server said, in whatever error of a host's data layer, that it knows no such table, column, function or schema. */
export function isSomethingMissing(error: unknown, depth = 5): boolean {
  if (typeof error !== 'object' || error === null || depth === 0) return false
  const shape = error as Record<string, unknown>
  // `originalCode` is Prisma's, whose `code` is one of its own.
  if ([shape.code, shape.originalCode].some((code) => typeof code === 'string' && NOT_MIGRATED.test(code))) return true
  return WRAPPED_IN.some((name) => isSomethingMissing(shape[name], depth - 1))
}

/** Runs `work`; what it rejects with is typed. */
export async function withTypedErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw typedDatabaseError(error)
  }
}
