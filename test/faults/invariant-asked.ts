/** What the invariant says of replays and of attempts by hand: all that was asked for took place, and nothing beyond it. */
import { type Index, push } from './evidence-index.ts'
import type {
  DeliveryEvidence,
  EndpointEvidence,
  EventEvidence,
  Evidence,
  ReplayAsk,
  ReplayEvidence,
} from './testimony.ts'
import type { Add } from './violations.ts'

export function checkReplays(evidence: Evidence, index: Index, add: Add): void {
  const { replays, replayAsks, deliveries, endpoints } = evidence
  const made = new Map<number, DeliveryEvidence[]>()
  for (const delivery of deliveries) if (delivery.generation > 0) push(made, delivery.generation, delivery)
  for (const { id } of replayAsks) {
    if (id !== null && !replays.some((replay) => replay.id === id)) add('replay-lost', `${id} does not exist`)
  }
  for (const replay of replays) {
    const { id, no, status, which, done } = replay
    const ask = askOf(evidence, replay)
    if (ask === undefined) {
      add('replay-invented', id)
      continue
    }
    const deleted = endpoints.some(({ no: endpoint, state }) => endpoint === replay.endpoint && state === 'deleted')
    if (status === 'running') add('replay-stuck', `${id} of endpoint ${replay.endpoint}`)
    if (status === 'cancelled' && !ask.cancelAsked && !deleted) add('replay-lost', `${id} was cancelled by nobody`)
    const count = made.get(no)?.length ?? 0
    if (which !== 'missing' && count !== done) add('replay-miscounted', `${id} says ${done} and made ${count}`)
    if (status === 'completed') checkComplete(evidence, index, replay, ask, add)
  }
  const replayByNumber = new Map(replays.map((replay) => [replay.no, replay]))
  for (const delivery of [...made.values()].flat()) {
    if (!isAskedFor(index, replayByNumber.get(delivery.generation), delivery)) add('replay-invented', delivery.id)
  }
}

function askOf({ replayAsks }: Evidence, replay: ReplayEvidence): ReplayAsk | undefined {
  return replayAsks.find(
    ({ endpoint, which, sinceMs }) =>
      endpoint === replay.endpoint && which === replay.which && sinceMs === replay.sinceMs,
  )
}

function covers({ sinceMs, untilMs }: ReplayEvidence, { idMs }: EventEvidence): boolean {
  return idMs >= sinceMs && idMs < untilMs
}

function isAskedFor(index: Index, replay: ReplayEvidence | undefined, delivery: DeliveryEvidence): boolean {
  const event = index.eventById.get(delivery.eventId)
  if (replay === undefined || event === undefined || replay.which === 'missing') return false
  if (replay.endpoint !== delivery.endpoint || !covers(replay, event)) return false
  return replay.which === 'all' || olderOnes(index, replay, event).some(({ id }) => hasFailed(index, id))
}

/** Deliveries of an event to the replay's endpoint that are older than it. */
function olderOnes(
  { deliveriesOf }: Index,
  { no, endpoint }: ReplayEvidence,
  { id }: EventEvidence,
): DeliveryEvidence[] {
  return (deliveriesOf.get(`${id} ${endpoint}`) ?? []).filter(({ generation }) => generation < no)
}

function hasFailed({ attemptsOf }: Index, delivery: string): boolean {
  return (attemptsOf.get(delivery) ?? []).some(({ final, succeeded }) => final && !succeeded)
}

function checkComplete(evidence: Evidence, index: Index, replay: ReplayEvidence, ask: ReplayAsk, add: Add): void {
  const { deliveriesOf, deliveryById, eventById, attemptsOf } = index
  const retried = new Set(evidence.retryAsks.map(({ delivery }) => delivery))
  const incomplete = (what: string) => add('replay-incomplete', `${what} of ${replay.which} by ${replay.id}`)
  if (replay.which === 'failed') {
    for (const id of ask.failedBefore) {
      const delivery = deliveryById.get(id)
      const event = eventById.get(delivery?.eventId ?? '')
      if (delivery === undefined || event === undefined || !covers(replay, event)) continue
      // Somebody was quicker, by hand.
      if (retried.has(id) || (attemptsOf.get(id) ?? []).some(({ succeeded }) => succeeded)) continue
      const siblings = deliveriesOf.get(`${event.id} ${replay.endpoint}`)!
      if (!siblings.some(({ generation }) => generation > delivery.generation)) incomplete(id)
    }
    return
  }
  for (const event of evidence.events) {
    // What was committed later, the replay may have seen or not.
    if (event.dispatchedAt === null || event.dispatchedAt > ask.from || !covers(replay, event)) continue
    const of = deliveriesOf.get(`${event.id} ${replay.endpoint}`) ?? []
    const sent = replay.which === 'missing' ? of.length > 0 : of.some(({ generation }) => generation === replay.no)
    if (!sent) incomplete(`event ${event.n}`)
  }
}

/** An endpoint that was switched off when an event was dispatched has it all the same where somebody asked for what it missed. */
export function wasReplayedAsMissing(
  evidence: Evidence,
  event: EventEvidence,
  { endpoint, madeAt }: DeliveryEvidence,
): boolean {
  return evidence.replays.some((replay) => {
    if (replay.which !== 'missing' || replay.endpoint !== endpoint || replay.done === 0) return false
    const ask = askOf(evidence, replay)
    return ask !== undefined && ask.from <= madeAt && covers(replay, event)
  })
}

/** An endpoint that was switched off or deleted since may have been sent nothing: then nothing has to be made. */
export function isCertainlyActiveSince({ switches }: Pick<EndpointEvidence, 'switches'>, from: number): boolean {
  let active: boolean | null = true
  for (const change of switches) {
    if (change.to >= from) return false
    active = change.active
  }
  return active === true
}

export function checkRetries({ retryAsks }: Evidence, { attemptsOf, endpointByNumber }: Index, add: Add): void {
  for (const { delivery, endpoint, from, attempts } of retryAsks) {
    if (attempts === null || !isCertainlyActiveSince(endpointByNumber.get(endpoint)!, from)) continue
    if ((attemptsOf.get(delivery) ?? []).some(({ number }) => number > attempts)) continue
    add('retry-not-made', `${delivery}, asked for when it had ${attempts} attempts`)
  }
}
