/** What was received more often than once, and what explains it. */
import { byDelivery, push } from './evidence-index.ts'
import type { Evidence, Loss, Receipt, RetryAsk } from './testimony.ts'
import { stalledMs } from './time-bounds.ts'

/** How long after an answer its record may be missing. */
export const UNRECORDED_MS = 2_500

export interface Duplicate {
  first: Receipt
  again: Receipt
}

/** Receipts beyond the first of one attempt, or after an attempt that was recorded as a success and not asked for again. */
export function findDuplicates(evidence: Pick<Evidence, 'receipts' | 'attempts' | 'retryAsks'>): Duplicate[] {
  const successes = new Map<string, number>()
  for (const { delivery, number, succeeded } of evidence.attempts) {
    if (succeeded) successes.set(delivery, Math.min(number, successes.get(delivery) ?? number))
  }
  const asked = findAsked(evidence, successes)
  const duplicates: Duplicate[] = []
  for (const receipts of byDelivery(evidence.receipts).values()) {
    for (const [position, again] of receipts.entries()) {
      const before = receipts.slice(0, position)
      const { delivery, attempt } = again
      const same = before.find((earlier) => earlier.attempt === attempt)
      const succeeded = before.find(
        (earlier) => earlier.attempt === successes.get(delivery) && earlier.attempt < attempt,
      )
      if (same !== undefined) duplicates.push({ first: same, again })
      else if (succeeded !== undefined && !asked.has(`${delivery} ${attempt}`)) {
        duplicates.push({ first: succeeded, again })
      }
    }
  }
  return duplicates
}

/**
 * Attempts after a success that somebody asked for: each needs an ask of its own, made before it and when there were fewer
 * attempts. One that was repeated at once, because its connection had died, hands its ask on.
 */
function findAsked(
  { attempts, receipts, retryAsks }: Pick<Evidence, 'receipts' | 'attempts' | 'retryAsks'>,
  successes: ReadonlyMap<string, number>,
): Set<string> {
  const asks = new Map<string, RetryAsk[]>()
  for (const ask of retryAsks) push(asks, ask.delivery, ask)
  const repeated = new Set(
    attempts
      .filter(({ succeeded, final, step, status }) => !succeeded && !final && step === null && status === null)
      .map(({ delivery, number }) => `${delivery} ${number}`),
  )
  const sentAt = new Map<string, Map<number, number>>()
  for (const { delivery, attempt, at } of receipts) {
    if (!asks.has(delivery) || attempt <= (successes.get(delivery) ?? Number.POSITIVE_INFINITY)) continue
    const of = sentAt.get(delivery) ?? new Map<number, number>()
    of.set(attempt, Math.min(at, of.get(attempt) ?? at))
    sentAt.set(delivery, of)
  }
  const asked = new Set<string>()
  for (const [delivery, numbers] of sentAt) {
    const left = [...asks.get(delivery)!]
    for (const [number, at] of [...numbers].toSorted(([a], [b]) => a - b)) {
      const before = `${delivery} ${number - 1}`
      const position = left.findIndex((ask) => ask.from <= at && (ask.attempts ?? -1) < number)
      if (repeated.has(before) && asked.has(before)) asked.add(`${delivery} ${number}`)
      else if (position >= 0) {
        left.splice(position, 1)
        asked.add(`${delivery} ${number}`)
      }
    }
  }
  return asked
}

/** Why a receipt may not be in the log: the loss; 'too old' where its worker had time to record it; null where nothing was lost. */
export function explain(evidence: Evidence, receipt: Receipt): { loss: Loss; stalledMs: number } | 'too old' | null {
  const later = evidence.losses.filter(
    ({ worker, to }) => worker === receipt.worker && to + UNRECORDED_MS >= receipt.at,
  )
  if (later.length === 0) return null
  const at = receipt.answeredAt ?? receipt.at
  for (const loss of later) {
    const since = unrecordedSince(loss, evidence.disturbances)
    if (at >= since) return { loss, stalledMs: 0 }
    // What the machine did not give the worker is not time that it had.
    const stalled = stalledMs(evidence.stalls, at, loss.from)
    if (at >= since - stalled) return { loss, stalledMs: stalled }
  }
  return 'too old'
}

/** What was answered since then may not have been recorded: while the database was away, answers wait in memory. */
function unrecordedSince({ from, to }: Loss, disturbances: Evidence['disturbances']): number {
  let since = from - UNRECORDED_MS
  for (let before = Number.POSITIVE_INFINITY; since < before; ) {
    before = since
    for (const disturbance of disturbances) {
      if (disturbance.from <= to && disturbance.to + UNRECORDED_MS >= since) {
        since = Math.min(since, disturbance.from - UNRECORDED_MS)
      }
    }
  }
  return since
}

/** How many duplicates each kind of loss explains, for the summary. */
export function countReasons(evidence: Evidence): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { first } of findDuplicates(evidence)) {
    const reason = explain(evidence, first)
    const name = reason === null || reason === 'too old' ? 'unexplained' : kindOf(reason.loss.why)
    counts[name] = (counts[name] ?? 0) + 1
  }
  return counts
}

function kindOf(why: string): string {
  if (/lost its lease/.test(why)) return 'worker lost its lease'
  if (/could not be/.test(why)) return 'worker gave up recording'
  return `worker ${why}`
}
