import { call } from './http.ts'
import type { ReceiverProcess } from './receiver-process.ts'
import type { DemoEndpoint, DemoRecord } from './record.ts'
import type { Screen } from './screen.ts'

/** The body of the page's curl command, as it stands there; only the URL is put in another's place. */
export const PAGE_JSON = `{
    "url": "https://your-app.com/webhooks/affiliate",
    "events": ["commission.approved", "payout.processed", "affiliate.approved"],
    "secret": "your_webhook_secret",
    "active": true
  }`
const PAGE_URL = 'https://your-app.com/webhooks/affiliate'

export interface EndpointsContext {
  shopUrl: string
  receiver: ReceiverProcess
  record: DemoRecord
  screen: Screen
  signal: AbortSignal
  /** Makes the receiver check /page with this in the secret's place: the demo must then fail. */
  wrongSecret?: string
}

/** Three endpoints over HTTP: the page's, one for everything, and one whose receiver is down at first. */
export async function createEndpoints(context: EndpointsContext): Promise<void> {
  const { receiver } = context
  await create(context, '/page', PAGE_JSON.replace(PAGE_URL, `${receiver.url}/page`), 'the page’s JSON')
  await create(
    context,
    '/all',
    JSON.stringify({ url: `${receiver.url}/all`, events: ['*'] }),
    'secret made by Posthaste',
  )
  const flaky = JSON.stringify({ url: `${receiver.url}/flaky`, events: ['payout.*'] })
  await create(context, '/flaky', flaky, 'answers 503 twice, then recovers', 2)
}

async function create(
  context: EndpointsContext,
  path: string,
  json: string,
  note: string,
  failures = 0,
): Promise<void> {
  const { shopUrl, receiver, record, screen, signal } = context
  // With the trailing slash, as on the page.
  const answer = await call(`${shopUrl}/api/v1/affiliate/webhooks/`, 'POST', json, signal)
  const { id, events, secret, standard_webhooks_secret: standardSecret } = answer.body
  if (
    answer.status !== 201 ||
    typeof id !== 'string' ||
    typeof secret !== 'string' ||
    typeof standardSecret !== 'string'
  ) {
    throw new Error(`POST /api/v1/affiliate/webhooks/ answered ${answer.status}: ${JSON.stringify(answer.body)}`)
  }
  const endpoint: DemoEndpoint = { id, path, events: events as string[], failures }
  record.endpoints.push(endpoint)
  const checkedBy = path === '/page' ? (context.wrongSecret ?? secret) : secret
  receiver.addEndpoint(path, { secret: checkedBy, standardSecret })
  if (failures > 0) receiver.failFirst(path, failures)
  screen.line(`  ${path.padEnd(7)} ${screen.good('201')}  ${endpoint.events.join(', ')}  ${screen.dim(`(${note})`)}`)
}
