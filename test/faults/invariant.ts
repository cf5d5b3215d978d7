/**
 * The one invariant of every run: what was committed was received by every endpoint that subscribed to it, or is visibly not
 * received in the log; what was rolled back was never received; nothing came twice but where a process lost what it knew;
 * nothing is stuck; and the log tells of every attempt that a receiver saw. Pure: it judges evidence, and touches nothing.
 */

export interface Evidence {
  /** What hosts committed, by their own table. */
  committed: readonly number[]
  events: readonly { id: string; n: number; dispatchedAt: number | null }[]
  endpoints: readonly EndpointEvidence[]
  deliveries: readonly { id: string; endpoint: number; eventId: string; seq: number; status: string }[]
  attempts: readonly AttemptEvidence[]
  receipts: readonly Receipt[]
  losses: readonly Loss[]
  /** When the database could not be written to, as far as the runner knows. */
  disturbances: readonly { from: number; to: number }[]
  /** How many attempts the schedule has. */
  attemptsPerDelivery: number
  /** Unhandled rejections and exceptions of workers. */
  unhandled: readonly string[]
  /** What took longer than it may: a stop, the end of a process, the settling of everything. */
  overdue: readonly string[]
}

export interface EndpointEvidence {
  no: number
  ordering: 'none' | 'fifo'
  state: 'active' | 'inactive' | 'disabled' | 'deleted'
  /** When it was switched, in order; `active` null: nobody knows whether it took place. Active from the start of the run. */
  switches: readonly { from: number; to: number; active: boolean | null }[]
}

export interface AttemptEvidence {
  delivery: string
  number: number
  succeeded: boolean
  final: boolean
  /** HTTP status, null where there was no answer. */
  status: number | null
  step: number | null
}

export interface Receipt {
  at: number
  delivery: string
  eventId: string
  n: number
  attempt: number
  /** The process that sent it. */
  worker: string
  /** Status and time of the answer; null where none was given. */
  answered: number | null
  answeredAt: number | null
}

/** A worker lost what it knew: it was killed, or its lease was. `from`: when it last worked as it should. */
export interface Loss {
  worker: string
  from: number
  to: number
}

export const VIOLATIONS = {
  'rolled-back-received': 'a receiver got what was never committed',
  'event-missing': 'a committed event is not in the event log',
  'not-dispatched': 'a committed event was not dispatched',
  'delivery-missing': 'an endpoint that subscribed has no delivery of an event',
  'delivery-to-inactive': 'an endpoint that was switched off got a delivery of an event dispatched meanwhile',
  'success-not-received': 'the log says succeeded, and the receiver never accepted it',
  'ended-early': 'the log says failed, and attempts of the schedule were left',
  stuck: 'a delivery waits for ever',
  'wrong-status': 'held or cancelled without its endpoint being so',
  'unexplained-duplicate': 'sent again although nobody lost anything',
  'duplicate-of-recorded': 'sent again although its worker had ample time to record it',
  'attempt-not-logged': 'a receiver saw an attempt that the log does not know, and nobody lost anything',
  'attempt-invented': 'the log has an answer that no receiver gave',
  'out-of-order': 'a fifo endpoint got a delivery before an older one was final',
  'process-broke': 'a worker had an unhandled error',
  overdue: 'something took longer than it may',
} as const

export type ViolationKind = keyof typeof VIOLATIONS

export interface Violation {
  kind: ViolationKind
  detail: string
}

/** How long after an answer its record may be missing, on a machine that does other things too. */
export const UNRECORDED_MS = 2_500
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
  for (const text of evidence.unhandled) add('process-broke', text)
  for (const text of evidence.overdue) add('overdue', text)
  return found
}

/** Receipts beyond the first of one attempt, or after an attempt that was recorded as a success. */
export function findDuplicates(
  evidence: Pick<Evidence, 'receipts' | 'attempts'>,
): { first: Receipt; again: Receipt }[] {
  const successes = new Map<string, number>()
  for (const { delivery, number, succeeded } of evidence.attempts) {
    if (succeeded) successes.set(delivery, Math.min(number, successes.get(delivery) ?? number))
  }
  const duplicates: { first: Receipt; again: Receipt }[] = []
  for (const receipts of byDelivery(evidence.receipts).values()) {
    for (const [position, again] of receipts.entries()) {
      const first = receipts
        .slice(0, position)
        .find(
          (earlier) =>
            earlier.attempt === again.attempt ||
            (earlier.attempt === successes.get(earlier.delivery) && earlier.attempt < again.attempt),
        )
      if (first !== undefined) duplicates.push({ first, again })
    }
  }
  return duplicates
}

type Add = (kind: ViolationKind, detail: string) => void
type Index = ReturnType<typeof indexEvidence>

function indexEvidence({ events, endpoints, deliveries, attempts, receipts }: Evidence) {
  const attemptsOf = new Map<string, AttemptEvidence[]>()
  for (const attempt of attempts) push(attemptsOf, attempt.delivery, attempt)
  return {
    eventByNumber: new Map(events.map((event) => [event.n, event])),
    eventById: new Map(events.map((event) => [event.id, event])),
    endpointByNumber: new Map(endpoints.map((endpoint) => [endpoint.no, endpoint])),
    deliveryById: new Map(deliveries.map((delivery) => [delivery.id, delivery])),
    deliveryOf: new Map(deliveries.map((delivery) => [`${delivery.eventId} ${delivery.endpoint}`, delivery])),
    attemptsOf,
    receiptsOf: byDelivery(receipts),
  }
}

function checkEvents({ committed, endpoints }: Evidence, { eventByNumber, deliveryOf }: Index, add: Add): void {
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
      const exists = deliveryOf.has(`${event.id} ${endpoint.no}`)
      if (active === true && !exists) add('delivery-missing', `event ${n} to endpoint ${endpoint.no}`)
      if (active === false && exists) add('delivery-to-inactive', `event ${n} to endpoint ${endpoint.no}`)
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
    if ((!logged || !deliveryById.has(delivery)) && excuse(evidence, receipt) === 'none') {
      add('attempt-not-logged', `attempt ${attempt} of ${delivery} by ${receipt.worker}`)
    }
  }
  for (const { first, again } of findDuplicates(evidence)) {
    const reason = excuse(evidence, first)
    const what = `attempt ${first.attempt} of ${first.delivery} by ${first.worker}, then ${again.attempt} by ${again.worker} ${again.at - first.at} ms later`
    if (reason === 'none') add('unexplained-duplicate', what)
    else if (reason === 'too old') add('duplicate-of-recorded', what)
  }
}

/** Whether the worker that sent this lost it before it was recorded. */
function excuse({ losses, disturbances }: Evidence, receipt: Receipt): 'lost' | 'too old' | 'none' {
  const later = losses.filter(({ worker, to }) => worker === receipt.worker && to + UNRECORDED_MS >= receipt.at)
  if (later.length === 0) return 'none'
  return later.some((loss) => (receipt.answeredAt ?? receipt.at) >= unrecordedSince(loss, disturbances))
    ? 'lost'
    : 'too old'
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

/** Of a fifo endpoint: nothing is sent for the first time before everything older was sent for the first time. */
function checkOrder({ endpoints, deliveries }: Evidence, { receiptsOf }: Index, add: Add): void {
  for (const { no } of endpoints.filter(({ ordering }) => ordering === 'fifo')) {
    const sent = deliveries
      .filter(({ endpoint }) => endpoint === no)
      .map(({ id, seq }) => ({ id, seq, at: receiptsOf.get(id)?.[0]?.at ?? null }))
      .filter((delivery): delivery is { id: string; seq: number; at: number } => delivery.at !== null)
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

/** In order of arrival. */
function byDelivery(receipts: readonly Receipt[]): Map<string, Receipt[]> {
  const of = new Map<string, Receipt[]>()
  for (const receipt of receipts) push(of, receipt.delivery, receipt)
  for (const list of of.values()) list.sort((a, b) => a.at - b.at)
  return of
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}
