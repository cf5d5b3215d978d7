/** Whether a process may dispatch and send in this database. The rule itself is in the database: `refusal()` of migration 0007. */
import { PosthasteError } from '../errors.ts'
import type { Sql } from '../storage/connection.ts'

/**
 * `other`: the database belongs to another installation. `adopting`: an adoption is under way. `replica`: logical replication
 * still writes into our tables.
 */
export type RefusalReason = 'other' | 'adopting' | 'replica'

export interface Refusal {
  reason: RefusalReason
  /** What a person should know and do. */
  message: string
  /** The name that the database belongs to. */
  belongsTo: string
}

/** Null where this installation may work. */
export async function readRefusal(sql: Sql, schema: string, installation: string): Promise<Refusal | null> {
  const s = sql(schema)
  const [row] =
    await sql`select ${s}.refusal(${installation}) reason, (select i.name from ${s}.installation i) belongs_to`
  const reason = row?.reason as RefusalReason | null
  if (reason === null) return null
  const belongsTo = row!.belongs_to as string
  return { reason, belongsTo, message: describe(reason, belongsTo, installation) }
}

/** @throws PosthasteError INSTALLATION_MISMATCH */
export async function requireWelcome(sql: Sql, schema: string, installation: string): Promise<void> {
  const refusal = await readRefusal(sql, schema, installation)
  if (refusal !== null) throw new PosthasteError('INSTALLATION_MISMATCH', refusal.message)
}

function describe(reason: RefusalReason, belongsTo: string, installation: string): string {
  switch (reason) {
    case 'other':
      return (
        `This database belongs to the installation "${belongsTo}", and this process is configured as "${installation}". A copy of ` +
        'a database must not send what its original sends: events are stored, but nothing is dispatched, retried, replayed or ' +
        "tested from here. To make it this installation's, call webhooks.adopt({ what: 'discard' }) once: what waits is cancelled; " +
        "or { what: 'continue' }: what waits is sent."
      )
    case 'adopting':
      return (
        'An adoption of this database is under way: nothing is sent before it is over. If it was interrupted, call ' +
        'webhooks.adopt() again.'
      )
    case 'replica':
      return (
        'Logical replication still writes into the tables of this database: the database that they come from is the one that ' +
        'sends. Disable or drop the subscription when the move is done.'
      )
  }
}
