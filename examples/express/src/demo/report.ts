import { allChecksPassed, type DeliveryRecord, type DemoRecord } from './record.ts'
import { columns, type Screen } from './screen.ts'

/** Where each event went, and how. */
export function printDeliveries(record: DemoRecord, screen: Screen): void {
  screen.heading('Deliveries')
  const deliveries = record.deliveries()
  const rows = deliveries.map((delivery) => [
    delivery.event.type,
    delivery.endpoint.path,
    attemptsOf(delivery),
    checksOf(delivery),
    timesOf(delivery),
  ])
  const table = columns([['event', 'to', 'attempts', 'signatures', 'commit → received'], ...rows])
  for (const [index, row] of table.entries()) {
    const delivery = deliveries[index - 1]
    const fine = delivery === undefined || (delivery.deliveredMs !== null && delivery.requests.every(allChecksPassed))
    screen.line(`  ${index === 0 ? screen.dim(row) : fine ? row : screen.bad(row)}`)
  }
}

function attemptsOf({ requests }: DeliveryRecord): string {
  if (requests.length === 0) return 'none'
  return `${requests.length} (${requests.map((request) => request.status).join(' ')})`
}

function checksOf({ requests }: DeliveryRecord): string {
  if (requests.length === 0) return '-'
  const wrong = (['page', 'body', 'standard'] as const).filter(
    (check) => !requests.every((request) => request.checks[check]),
  )
  return wrong.length === 0 ? 'valid' : `WRONG: ${wrong.join(', ')}`
}

function timesOf({ latencyMs, deliveredMs, requests }: DeliveryRecord): string {
  if (latencyMs === null) return '-'
  const retried = requests.length > 1 && deliveredMs !== null ? `, delivered after ${milliseconds(deliveredMs)}` : ''
  return `${milliseconds(latencyMs)}${retried}`
}

/** One request as it came, for those who know the page. */
export function printExample(record: DemoRecord, screen: Screen): void {
  const request = record.requests.find(
    ({ path, headers }) => path === '/page' && headers['x-webhook-event'] === 'commission.approved',
  )
  if (!request) return
  screen.heading('What the page’s receiver got')
  screen.line(`  POST ${request.path}`)
  for (const [name, value] of Object.entries(request.headers)) {
    if (/^(content-type|user-agent|x-webhook-|webhook-)/.test(name)) screen.line(`  ${name}: ${value}`)
  }
  screen.line()
  screen.line(`  ${request.body}`)
}

/** The end: numbers, and whether everything was as expected. */
export function printSummary(record: DemoRecord, faults: readonly string[], screen: Screen, elapsedMs: number): void {
  const deliveries = record.deliveries()
  const delivered = deliveries.filter((delivery) => delivery.deliveredMs !== null).length
  const valid = record.requests.filter(allChecksPassed).length
  const lost = record.rolledBack.filter((event) => !record.requests.some((r) => r.headers['webhook-id'] === event.id))
  const types = new Set(record.committed.map((event) => event.type))
  const latencies = deliveries.flatMap(({ latencyMs }) => latencyMs ?? []).sort((a, b) => a - b)
  const median = latencies[Math.floor((latencies.length - 1) / 2)] ?? 0

  screen.heading('Summary')
  screen.line(`  ${types.size} of 12 event types occurred, in ${record.committed.length} committed events`)
  screen.line(
    `  ${delivered} of ${deliveries.length} expected deliveries arrived, ${record.unexpected().length} unexpected requests`,
  )
  screen.line(`  ${lost.length} of ${record.rolledBack.length} rolled back events did not arrive`)
  screen.line(
    `  ${valid} of ${record.requests.length} requests verified (page’s algorithm, body’s signature, standardwebhooks)`,
  )
  const { succeeded, retried, givenUp } = record.sender
  screen.line(`  Posthaste’s own count: ${succeeded} succeeded, ${retried} attempts retried, ${givenUp} given up`)
  screen.line(`  commit → received: median ${milliseconds(median)}, slowest ${milliseconds(latencies.at(-1) ?? 0)}`)
  screen.line()
  if (faults.length === 0) {
    screen.line(screen.good(`Everything as expected, in ${(elapsedMs / 1000).toFixed(1)} s.`))
  } else {
    screen.line(screen.bad(`Not as expected:`))
    for (const fault of faults) screen.line(`  - ${fault}`)
  }
}

function milliseconds(value: number): string {
  return value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`
}
