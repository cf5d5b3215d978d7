/** How all scenarios set Posthaste up, and endpoints by the ten thousand without the API in the way. */
import { randomUUID } from 'node:crypto'
import { affiliateEvents, createWebhooks, generateSecret, type Webhooks } from '@posthaste/core'
import type { Sql } from 'postgres'
// The columns that are sealed and how is the core's own business; a benchmark may know it.
import { createKeyring } from '../../packages/core/src/signing/keyring.ts'
import { endpointSealContext } from '../../packages/core/src/storage/tables.ts'
import { EVENT_TYPE, sampleData } from './sample-event.ts'

const SECRET_KEYS = { current: 'bench', keys: { bench: Buffer.alloc(32, 7).toString('base64') } }

/** The business row that a host's transaction writes beside its emit. */
export const CONVERSIONS_TABLE = `create table conversions (id bigint generated always as identity primary key, affiliate_id int not null,
  order_id int not null, amount numeric(12, 2) not null, created_at timestamptz not null default now())`

export type BenchWebhooks = Webhooks<typeof affiliateEvents, 'multi'>

/** Posthaste with its defaults, but for what loopback receivers need. */
export function createBenchWebhooks(databaseUrl: string): BenchWebhooks {
  return createWebhooks({
    database: databaseUrl,
    installation: 'bench',
    tenancy: 'multi',
    events: affiliateEvents,
    secretKeys: SECRET_KEYS,
    http: { allowHttp: true, allowedCidrs: ['127.0.0.0/8'] },
    logger: {
      debug: () => {},
      info: () => {},
      warn: (message, fields) => console.error('worker:', message, fields ?? ''),
      error: (message, fields) => console.error('worker:', message, fields ?? ''),
    },
  })
}

export function accountOf(endpoint: number): string {
  return `account-${endpoint}`
}

/** Where endpoint number `endpoint` listens: its path tells the receiver who it is. */
export function pathOf(endpoint: number): string {
  return `/e/${endpoint}`
}

/**
 * Endpoints 1 to `count`, each of an account of its own with a secret of its own, sealed, subscribed to the one event type.
 * Straight into the tables: the API takes milliseconds for each.
 */
export async function seedEndpoints(sql: Sql, port: number, count: number): Promise<void> {
  const keyring = createKeyring(SECRET_KEYS)
  for (let from = 1; from <= count; from += 5_000) {
    const rows = []
    for (let endpoint = from; endpoint < from + 5_000 && endpoint <= count; endpoint++) {
      const id = randomUUID()
      const secret = keyring.seal(generateSecret(), endpointSealContext(id, 'secret'))
      rows.push({ id, account: accountOf(endpoint), url: `http://127.0.0.1:${port}${pathOf(endpoint)}`, secret })
    }
    await sql`insert into posthaste.endpoints (id, account, url, events, active, secret)
      select id, account, url, array[${EVENT_TYPE}], true, secret
      from rows from (json_to_recordset(${JSON.stringify(rows)}::text::json) as (id uuid, account text, url text, secret text))
        with ordinality r(id, account, url, secret, ord) order by ord`
  }
  await sql`insert into posthaste.subscriptions (account, pattern, endpoint)
    select account, ${EVENT_TYPE}, no from posthaste.endpoints`
  // As the hourly autovacuum of any installation would have done long before.
  await sql.unsafe('analyze posthaste.endpoints; analyze posthaste.subscriptions')
}

/** Emits events to endpoints 1 to `endpoints` in turn, in committed statements of a thousand; answers `<path> <event id>`. */
export async function emitInAdvance(webhooks: BenchWebhooks, endpoints: number, total: number): Promise<Set<string>> {
  const expected = new Set<string>()
  for (let from = 0; from < total; from += 1_000) {
    const numbers = Array.from({ length: Math.min(1_000, total - from) }, (_, index) => from + index)
    const emitted = await webhooks.emitMany(
      numbers.map((number) => ({
        type: EVENT_TYPE,
        data: sampleData(number),
        account: accountOf(1 + (number % endpoints)),
      })),
      { tx: 'own' },
    )
    for (const [index, { id }] of emitted.entries()) {
      expected.add(`${pathOf(1 + ((numbers[index] as number) % endpoints))} ${id}`)
    }
  }
  return expected
}
