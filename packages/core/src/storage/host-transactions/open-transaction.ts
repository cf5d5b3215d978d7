import { PosthasteError } from '../../errors.ts'

/** What a statement's parameters may be: text and null reach every driver's server side unchanged. */
export type StatementValues = readonly (string | null)[]

export type Row = Record<string, unknown>

/** Runs one statement with `$1` placeholders and returns its rows. */
export type RunStatement = (text: string, values: StatementValues) => Promise<readonly Row[]>

/** A host's transaction, whatever it is made of. */
export interface OpenTransaction {
  run: RunStatement
  /** Throws INVALID_TRANSACTION where the object itself shows that there is no transaction, or that it is over. */
  check?(): void
  /**
   * Whether the client knows for certain that the statement it is given next runs inside of a transaction. Where it does not,
   * the statement has to make sure of that in the server.
   */
  certain?(): boolean
  /** The object stands for one transaction of the server and never for another. */
  single: boolean
  /**
   * Takes statements while others are under way. node-postgres, and so whatever is built on it, says of that that it is
   * deprecated and will be refused by its next version.
   */
  pipelines?: true
}

/** The rows in what a driver answers: `{ rows }` or the rows themselves. @throws PosthasteError INVALID_TRANSACTION */
export function rowsOf(answer: unknown): readonly Row[] {
  if (Array.isArray(answer)) return answer as Row[]
  const rows = (answer as { rows?: unknown } | null | undefined)?.rows
  if (Array.isArray(rows)) return rows as Row[]
  throw refusal('a statement in it answered neither rows nor { rows }')
}

export function refusal(why: string, cause?: unknown): PosthasteError {
  return new PosthasteError(
    'INVALID_TRANSACTION',
    'emit needs an open transaction as { tx }: what postgres.js, Drizzle, Kysely, Knex, Prisma, TypeORM, MikroORM or Sequelize ' +
      'hands to the callback of its transaction, a node-postgres client after BEGIN, or any object with query(text, values). ' +
      `This is not one: ${why}.`,
    cause === undefined ? {} : { cause },
  )
}
