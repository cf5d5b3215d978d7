import type { Sql, TransactionSql } from 'postgres'
import type { AffiliateEventData, AffiliateEventName } from './events.ts'

/**
 * Says that something happened, inside the transaction in which it happens: `webhooks.emit` fits, and so does a recording
 * double in a test.
 */
export type Emit = <Name extends AffiliateEventName>(
  type: Name,
  data: AffiliateEventData<Name>,
  options: { tx: TransactionSql },
) => Promise<{ id: string | null }>

/** An event as it was emitted in a transaction. */
export interface EmittedEvent {
  /** Null where Posthaste wrote nothing, because nobody subscribes to an event that is stored `when_subscribed`. */
  id: string | null
  type: AffiliateEventName
  data: unknown
}

export interface Program {
  sql: Sql
  emit: Emit
  /** The shop's clock, for the dates on its rows. Default: the system's. */
  now?: () => Date
  /** Told how each transaction ended, with what was emitted in it; it must not throw. The demo measures latency from here. */
  onSettled?: (outcome: 'committed' | 'rolled back', events: EmittedEvent[]) => void
}

/** What the steps of one business transaction work with. */
export interface Step {
  tx: TransactionSql
  at: Date
  emit<Name extends AffiliateEventName>(type: Name, data: AffiliateEventData<Name>): Promise<void>
}

/** Runs the work in one transaction: its rows and its events are committed together, or neither is. */
export async function inTransaction<T>(program: Program, work: (step: Step) => Promise<T>): Promise<T> {
  const events: EmittedEvent[] = []
  let outcome: 'committed' | 'rolled back' = 'rolled back'
  try {
    const result = await program.sql.begin((tx) =>
      work({
        tx,
        at: program.now?.() ?? new Date(),
        async emit(type, data) {
          const { id } = await program.emit(type, data, { tx })
          events.push({ id, type, data })
        },
      }),
    )
    outcome = 'committed'
    return result as T
  } finally {
    program.onSettled?.(outcome, events)
  }
}

/** A date as the payloads carry it: RFC 3339 in UTC, to the second (`2024-01-20T14:30:00Z`). */
export function payloadDate(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`
}
