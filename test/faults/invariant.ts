/**
 * The one invariant of every run: what was committed was received by every endpoint that subscribed to it, or is visibly not
 * received in the log; what was rolled back was never received; nothing came twice but where a process lost what it knew;
 * nothing is stuck; what somebody asked for by hand took place, and nothing beyond it; and the log tells of every attempt that a
 * receiver saw. Pure: it judges evidence, and touches nothing.
 */
import { explain, findDuplicates } from './duplicates.ts'
import { type Index, indexEvidence } from './evidence-index.ts'
import { checkReplays, checkRetries, wasReplayedAsMissing } from './invariant-asked.ts'
import type { EndpointEvidence, Evidence } from './testimony.ts'
import { describeBound, judgeBound } from './time-bounds.ts'
import type { Add, Violation, ViolationKind } from './violations.ts'

/** A dispatch reads the subscriptions this long before its row's time at most. */
const DISPATCH_MS = 3_000

export function checkRun(evidence: Evidence): Violation[] {
  const found: Violation[] = []
  const add = (kind: ViolationKind, detail: string) => void found.push({ kind, detail })
  const index = indexEvidence(evidence)
  checkEvents(evidence, index, add)
  checkDeliveries(evidence, index, add)
  checkReceipts(evidence, index, add)
  checkOrder(evidence, index, add)
  checkReplays(evidence, index, add)
  checkRetries(evidence, index, add)
  for (const text of evidence.unhandled) add('process-broke', text)
  for (const bound of evidence.bounds) {
    if (judgeBound(evidence, bound) === 'missed') add('overdue', describeBound(evidence, bound))
  }
  return found
}

/** What would be a violation, had the machine not stood still meanwhile: not judged, and to be looked at on a machine with time. */
export function findStalled(evidence: Evidence): string[] {
  const bounds = evidence.bounds.filter((bound) => judgeBound(evidence, bound) === 'stalled')
  const unrecorded = findDuplicates(evidence).flatMap(({ first }) => {
    const reason = explain(evidence, first)
    if (reason === null || reason === 'too old' || reason.stalledMs === 0) return []
    return [`a duplicate of ${first.delivery}: its worker had been stalled for ${Math.round(reason.stalledMs)} ms`]
  })
  return [...bounds.map((bound) => describeBound(evidence, bound)), ...unrecorded]
}

function checkEvents(evidence: Evidence, { eventByNumber, deliveriesOf }: Index, add: Add): void {
  const { committed, endpoints } = evidence
  for (const n of committed) {
    const event = eventByNumber.get(n)
    if (event === undefined) {
      add('event-missing', `event ${n}`)
      continue
    }
    if (event.dispatchedAt === null) {
      add('not-dispatched', `event ${n}`)
      continue
    }
    for (const endpoint of endpoints) {
      const active = activeDuring(endpoint, event.dispatchedAt - DISPATCH_MS, event.dispatchedAt)
      const made = deliveriesOf.get(`${event.id} ${endpoint.no}`)?.find(({ generation }) => generation === 0)
      if (active === true && made === undefined) add('delivery-missing', `event ${n} to endpoint ${endpoint.no}`)
      if (active === false && made !== undefined && !wasReplayedAsMissing(evidence, event, made)) {
        add('delivery-to-inactive', `event ${n} to endpoint ${endpoint.no}`)
      }
    }
  }
}

/** Null: not the whole time, or nobody knows. */
export function activeDuring({ switches }: EndpointEvidence, from: number, to: number): boolean | null {
  let state: boolean | null = true
  for (const change of switches) {
    if (change.from > to) break
    if (change.to >= from) return null
    state = change.active
  }
  return state
}

function checkDeliveries(evidence: Evidence, { endpointByNumber, attemptsOf, receiptsOf }: Index, add: Add): void {
  for (const { id, endpoint: no, status } of evidence.deliveries) {
    const endpoint = endpointByNumber.get(no)
    const attempts = attemptsOf.get(id) ?? []
    const receipts = receiptsOf.get(id) ?? []
    if (status === 'succeeded') {
      if (!receipts.some(({ answered }) => isAccepted(answered))) add('success-not-received', id)
    } else if (status === 'failed') {
      const last = Math.max(-1, ...attempts.map(({ step }) => step ?? -1))
      if (last + 1 < evidence.attemptsPerDelivery) add('ended-early', `${id} after step ${last}`)
    } else if (status === 'held') {
      if (endpoint?.state !== 'inactive' && endpoint?.state !== 'disabled') add('wrong-status', `${id} is held`)
    } else if (status === 'cancelled') {
      if (endpoint?.state !== 'deleted') add('wrong-status', `${id} is cancelled`)
    } else {
      add('stuck', `${id} of endpoint ${no} is ${status} after ${attempts.length} attempts`)
    }
    for (const { number, status: code } of attempts) {
      if (code === null) continue
      if (!receipts.some(({ attempt, answered }) => attempt === number && answered === code)) {
        add('attempt-invented', `attempt ${number} of ${id} with ${code}`)
      }
    }
  }
}

function checkReceipts(evidence: Evidence, { deliveryById, attemptsOf }: Index, add: Add): void {
  const committed = new Set(evidence.committed)
  for (const receipt of evidence.receipts) {
    const { n, delivery, attempt } = receipt
    if (!committed.has(n)) add('rolled-back-received', `event ${n}`)
    const logged = (attemptsOf.get(delivery) ?? []).some(({ number }) => number === attempt)
    if ((!logged || !deliveryById.has(delivery)) && explain(evidence, receipt) === null) {
      add('attempt-not-logged', `attempt ${attempt} of ${delivery} by ${receipt.worker}`)
    }
  }
  for (const { first, again } of findDuplicates(evidence)) {
    const reason = explain(evidence, first)
    const what = `attempt ${first.attempt} of ${first.delivery} by ${first.worker}, then ${again.attempt} by ${again.worker} ${again.at - first.at} ms later`
    if (reason === null) add('unexplained-duplicate', what)
    else if (reason === 'too old') add('duplicate-of-recorded', what)
  }
}

/**
 * Of a fifo endpoint: nothing is sent for the first time before everything older was sent for the first time; but for what
 * somebody asked for by hand before, which goes ahead.
 */
function checkOrder({ endpoints, deliveries, retryAsks }: Evidence, { receiptsOf }: Index, add: Add): void {
  const asked = new Map<string, number>()
  for (const { delivery, from } of retryAsks) asked.set(delivery, Math.min(from, asked.get(delivery) ?? from))
  for (const { no } of endpoints.filter(({ ordering }) => ordering === 'fifo')) {
    const sent = deliveries
      .filter(({ endpoint }) => endpoint === no)
      .map(({ id, seq }) => ({ id, seq, at: receiptsOf.get(id)?.[0]?.at ?? null }))
      .filter((delivery): delivery is { id: string; seq: number; at: number } => delivery.at !== null)
      .filter(({ id, at }) => (asked.get(id) ?? Number.POSITIVE_INFINITY) > at)
      .toSorted((a, b) => a.seq - b.seq)
    for (let position = 1; position < sent.length; position++) {
      const [older, newer] = [sent[position - 1]!, sent[position]!]
      if (newer.at < older.at) add('out-of-order', `${newer.id} before ${older.id} of endpoint ${no}`)
    }
  }
}

function isAccepted(status: number | null): boolean {
  return status !== null && status >= 200 && status < 300
}
