/** Evidence by what it is looked up by. */
import type { AttemptEvidence, DeliveryEvidence, Evidence, Receipt } from './testimony.ts'

export type Index = ReturnType<typeof indexEvidence>

export function indexEvidence({ events, endpoints, deliveries, attempts, receipts }: Evidence) {
  const attemptsOf = new Map<string, AttemptEvidence[]>()
  for (const attempt of attempts) push(attemptsOf, attempt.delivery, attempt)
  const deliveriesOf = new Map<string, DeliveryEvidence[]>()
  for (const delivery of deliveries) push(deliveriesOf, `${delivery.eventId} ${delivery.endpoint}`, delivery)
  return {
    eventByNumber: new Map(events.map((event) => [event.n, event])),
    eventById: new Map(events.map((event) => [event.id, event])),
    endpointByNumber: new Map(endpoints.map((endpoint) => [endpoint.no, endpoint])),
    deliveryById: new Map(deliveries.map((delivery) => [delivery.id, delivery])),
    deliveriesOf,
    attemptsOf,
    receiptsOf: byDelivery(receipts),
  }
}

/** In order of arrival. */
export function byDelivery(receipts: readonly Receipt[]): Map<string, Receipt[]> {
  const of = new Map<string, Receipt[]>()
  for (const receipt of receipts) push(of, receipt.delivery, receipt)
  for (const list of of.values()) list.sort((a, b) => a.at - b.at)
  return of
}

export function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}
