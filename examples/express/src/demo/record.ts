import { isDeepStrictEqual } from 'node:util'
import type { EmittedEvent } from '../../../affiliate/src/index.ts'
import type { ReceivedRequest } from '../receiver.ts'

/** An endpoint as the demo has created it. */
export interface DemoEndpoint {
  id: string
  /** The receiver's path; also its name in what the demo prints. */
  path: string
  events: readonly string[]
  /** How many times the first event to arrive is answered 503. */
  failures: number
}

interface CommittedEvent extends EmittedEvent {
  committedAt: number
}

/** One event to one endpoint: what came of it. */
export interface DeliveryRecord {
  event: EmittedEvent
  endpoint: DemoEndpoint
  /** In the order of arrival; empty where nothing came. */
  requests: ReceivedRequest[]
  /** Between the commit and the first request, in ms; null where nothing came. */
  latencyMs: number | null
  /** Between the commit and the request that was answered 2xx, in ms. */
  deliveredMs: number | null
}

/** What Posthaste's lifecycle events say, to be compared with what the receiver saw. */
export interface SenderAccount {
  succeeded: number
  /** Attempts that failed and were followed by another. */
  retried: number
  givenUp: number
}

/** Writes down what was committed, what was rolled back and what arrived, and says where they differ. */
export class DemoRecord {
  readonly committed: CommittedEvent[] = []
  readonly rolledBack: EmittedEvent[] = []
  readonly requests: ReceivedRequest[] = []
  readonly endpoints: DemoEndpoint[] = []
  readonly sender: SenderAccount = { succeeded: 0, retried: 0, givenUp: 0 }
  /** What went wrong on the way, such as an HTTP status. */
  readonly faults: string[] = []
  #changed: () => void = () => {}

  settle(outcome: 'committed' | 'rolled back', events: EmittedEvent[]): void {
    const committedAt = performance.timeOrigin + performance.now()
    if (outcome === 'committed') this.committed.push(...events.map((event) => ({ ...event, committedAt })))
    else this.rolledBack.push(...events)
  }

  receive(request: ReceivedRequest): void {
    this.requests.push(request)
    this.#changed()
  }

  /** Resolves when every expected delivery was answered 2xx, when a signature was wrong, or at the deadline. */
  async completed(deadlineMs: number, signal: AbortSignal): Promise<void> {
    const deadline = AbortSignal.any([AbortSignal.timeout(deadlineMs), signal])
    await new Promise<void>((resolve) => {
      const look = () => {
        const wrong = this.requests.some((request) => !allChecksPassed(request))
        if (wrong || deadline.aborted || this.deliveries().every((delivery) => delivery.deliveredMs !== null)) resolve()
      }
      this.#changed = look
      deadline.addEventListener('abort', look, { once: true })
      look()
    })
    this.#changed = () => {}
    signal.throwIfAborted()
  }

  /** Every delivery that there should be, with what came. */
  deliveries(): DeliveryRecord[] {
    return this.committed.flatMap((event) =>
      this.endpoints
        .filter((endpoint) => subscribes(endpoint, event.type))
        .map((endpoint) => {
          const requests = this.requests.filter(
            (request) => request.path === endpoint.path && request.headers['webhook-id'] === event.id,
          )
          const since = (request: ReceivedRequest | undefined) =>
            request ? Math.max(0, request.receivedAt - event.committedAt) : null
          return {
            event,
            endpoint,
            requests,
            latencyMs: since(requests[0]),
            deliveredMs: since(requests.find((request) => request.status < 300)),
          }
        }),
    )
  }

  /** Requests that no committed event explains. */
  unexpected(): ReceivedRequest[] {
    const expected = new Set(this.deliveries().flatMap((delivery) => delivery.requests))
    return this.requests.filter((request) => !expected.has(request))
  }

  /** Everything that is not exactly as it should be, as sentences. */
  findFaults(): string[] {
    const faults = [...this.faults]
    const deliveries = this.deliveries()
    for (const delivery of deliveries) faults.push(...faultsOf(delivery))
    for (const endpoint of this.endpoints) faults.push(...attemptFaults(endpoint, deliveries))
    const delivered = deliveries.filter((delivery) => delivery.deliveredMs !== null).length
    const refused = this.requests.filter((request) => request.status >= 300).length
    const seen: SenderAccount = { succeeded: delivered, retried: refused, givenUp: 0 }
    if (!isDeepStrictEqual(this.sender, seen)) {
      faults.push(`Posthaste counts ${JSON.stringify(this.sender)}, the receiver ${JSON.stringify(seen)}.`)
    }
    const rolledBack = new Set(this.rolledBack.map((event) => event.id))
    for (const request of this.unexpected()) {
      const why = rolledBack.has(request.headers['webhook-id'] ?? '')
        ? 'though its transaction was rolled back'
        : 'unexpectedly'
      faults.push(`${request.headers['x-webhook-event']} came to ${request.path} ${why}.`)
    }
    return faults
  }
}

export function subscribes({ events }: DemoEndpoint, type: string): boolean {
  return events.some(
    (name) => name === '*' || name === type || (name.endsWith('.*') && type.startsWith(name.slice(0, -1))),
  )
}

export function allChecksPassed({ checks }: ReceivedRequest): boolean {
  return checks.page && checks.body && checks.standard
}

function faultsOf({ event, endpoint, requests }: DeliveryRecord): string[] {
  const name = `${event.type} to ${endpoint.path}`
  const faults: string[] = []
  if (!requests.some((request) => request.status < 300)) faults.push(`${name} was not delivered.`)
  for (const [index, request] of requests.entries()) {
    const attempt = `Attempt ${index + 1} of ${name}`
    const { page, body, standard } = request.checks
    if (!page) faults.push(`${attempt}: the page's algorithm refuses X-Webhook-Signature.`)
    if (!body) faults.push(`${attempt}: the body's own signature is wrong.`)
    if (!standard) faults.push(`${attempt}: the package standardwebhooks refuses it.`)
    if (request.headers['x-webhook-attempt'] !== String(index + 1)) {
      faults.push(`${attempt} says that it is attempt ${request.headers['x-webhook-attempt']}.`)
    }
    if (request.body !== requests[0]!.body) faults.push(`${attempt} has other bytes than the first.`)
    if (!carries(request, event)) faults.push(`${attempt} does not carry what was emitted: ${request.body}`)
  }
  return faults
}

function carries(request: ReceivedRequest, event: EmittedEvent): boolean {
  if (request.headers['x-webhook-event'] !== event.type || request.headers['x-webhook-id'] !== event.id) return false
  try {
    const body = JSON.parse(request.body) as Record<string, unknown>
    return (
      isDeepStrictEqual(Object.keys(body), ['event', 'timestamp', 'data', 'signature']) &&
      body.event === event.type &&
      isDeepStrictEqual(body.data, JSON.parse(JSON.stringify(event.data)))
    )
  } catch {
    return false
  }
}

/** Every delivery takes one attempt, but for the one that meets a receiver that is down. */
function attemptFaults(endpoint: DemoEndpoint, deliveries: DeliveryRecord[]): string[] {
  const found = deliveries
    .filter((delivery) => delivery.endpoint === endpoint)
    .map((delivery) => delivery.requests.map((request) => request.status).join(' '))
    .sort()
  const expected = found.map(() => '200')
  if (endpoint.failures > 0) expected[expected.length - 1] = [...Array(endpoint.failures).fill(503), 200].join(' ')
  return isDeepStrictEqual(found, expected)
    ? []
    : [`${endpoint.path} answered [${found.join('], [')}], but [${expected.join('], [')}] was expected.`]
}
