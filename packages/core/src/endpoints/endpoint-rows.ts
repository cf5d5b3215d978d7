/** The queries of the endpoint service. Every one of them that is given an account finds that account's endpoints only. */

import { PosthasteError } from '../errors.ts'
import { requirePublicId, toPublicId } from '../ids.ts'
import type { PgUpdateSetSource } from '../storage/orm.ts'
import { and, count, desc, eq, isNull, lt, notInArray, sql } from '../storage/orm.ts'
import { type Queries, rfc3339, type Store, type Tables, type WriteScope } from '../storage/tables.ts'
import { redactHeaders } from './endpoint-headers.ts'
import type { Endpoint } from './endpoint-schemas.ts'

export type EndpointRow = Tables['endpoints']['$inferSelect']
export type EndpointChanges = PgUpdateSetSource<Tables['endpoints']>

/** Deliveries are made for it. Holds exactly where it has rows in `subscriptions`. */
export function isServed(row: Pick<EndpointRow, 'active' | 'disabled_reason' | 'deleted_at'>): boolean {
  return row.active && row.disabled_reason === null && row.deleted_at === null
}

export async function findEndpoint(store: Store, queries: Queries, account: string, id: string): Promise<Endpoint> {
  const [found] = await selectEndpoints(store, queries).where(isAlive(store, account, requirePublicId('ep', id)))
  if (found === undefined) throw notFound(id)
  return toEndpoint(found)
}

export interface EndpointListing {
  limit: number
  /** The uuid of the last endpoint before the page. */
  after: string | null
  active: boolean | null
}

/** Newest first, and one more than `limit` where there is one. */
export async function listEndpoints(
  store: Store,
  queries: Queries,
  account: string,
  listing: EndpointListing,
): Promise<{ uuid: string; endpoint: Endpoint }[]> {
  const { endpoints } = store.tables
  const rows = await selectEndpoints(store, queries)
    .where(
      and(
        eq(endpoints.account, account),
        isNull(endpoints.deleted_at),
        listing.after === null ? undefined : lt(endpoints.id, listing.after),
        listing.active === null ? undefined : eq(endpoints.active, listing.active),
      ),
    )
    .orderBy(desc(endpoints.id))
    .limit(listing.limit + 1)
  return rows.map((row) => ({ uuid: row.id, endpoint: toEndpoint(row) }))
}

/** The whole row, locked until the scope's transaction ends. */
export async function lockEndpoint(store: Store, scope: WriteScope, account: string, id: string): Promise<EndpointRow> {
  const [row] = await scope.queries
    .select()
    .from(store.tables.endpoints)
    .where(isAlive(store, account, requirePublicId('ep', id)))
    .for('update')
  if (row === undefined) throw notFound(id)
  return row
}

/** The sealed secret and what its seal is bound to. */
export async function findSealedSecret(
  store: Store,
  queries: Queries,
  account: string,
  id: string,
): Promise<{ uuid: string; sealed: string }> {
  const { endpoints } = store.tables
  const [row] = await queries
    .select({ uuid: endpoints.id, sealed: endpoints.secret })
    .from(endpoints)
    .where(isAlive(store, account, requirePublicId('ep', id)))
  if (row === undefined) throw notFound(id)
  return row
}

export async function countEndpoints(store: Store, scope: WriteScope, account: string): Promise<number> {
  const { endpoints } = store.tables
  const [row] = await scope.queries
    .select({ n: count() })
    .from(endpoints)
    .where(and(eq(endpoints.account, account), isNull(endpoints.deleted_at)))
  return Number(row?.n ?? 0)
}

/** A uuid for what is about to be inserted and has to be sealed with it. */
export async function newEndpointId(store: Store, scope: WriteScope): Promise<string> {
  const [row] = await scope.queries.execute<{ id: string }>(sql`select ${store.newId} as id`)
  if (row === undefined) throw new Error('new_id() answered nothing')
  return row.id
}

export async function insertEndpoint(
  store: Store,
  scope: WriteScope,
  values: Tables['endpoints']['$inferInsert'],
): Promise<EndpointRow> {
  const [row] = await scope.queries.insert(store.tables.endpoints).values(values).returning()
  if (row === undefined) throw new Error('the insert of an endpoint answered nothing')
  return row
}

/** Keeps the secret as it lies there, so that the log can show what it signed. Its place is the same to the key ring. */
export async function retireSecret(store: Store, scope: WriteScope, row: EndpointRow): Promise<void> {
  const retired = { endpoint: row.no, number: row.secret_number, sealed: row.secret }
  await scope.queries.insert(store.tables.retired_secrets).values(retired).onConflictDoNothing()
}

/** Writes the changes, with a new version and time of change. */
export async function updateEndpoint(
  store: Store,
  scope: WriteScope,
  row: EndpointRow,
  changes: EndpointChanges,
): Promise<EndpointRow> {
  const { endpoints } = store.tables
  const [changed] = await scope.queries
    .update(endpoints)
    .set({ ...changes, version: sql`${endpoints.version} + 1`, updated_at: store.clock })
    .where(eq(endpoints.no, row.no))
    .returning()
  if (changed === undefined) throw notFound(toPublicId('ep', row.id))
  return changed
}

/** Makes the endpoint's rows in `subscriptions` what they should be: its patterns while it is served, else none. */
export async function writeSubscriptions(store: Store, scope: WriteScope, row: EndpointRow): Promise<void> {
  const { subscriptions } = store.tables
  const patterns = isServed(row) ? row.events : []
  const own = eq(subscriptions.endpoint, row.no)
  await scope.queries
    .delete(subscriptions)
    .where(patterns.length === 0 ? own : and(own, notInArray(subscriptions.pattern, patterns)))
  if (patterns.length === 0) return
  await scope.queries
    .insert(subscriptions)
    .values(patterns.map((pattern) => ({ account: row.account, pattern, endpoint: row.no })))
    .onConflictDoNothing()
}

/** A clean record: no failures, no back-off, and an epoch that results of sends still in flight do not have. */
export async function resetHealth(store: Store, scope: WriteScope, endpoint: number): Promise<void> {
  const { endpoint_health: health } = store.tables
  const clean = { failing_since: null, backoff_ms: null, backoff_until: null }
  await scope.queries
    .insert(health)
    .values({ endpoint, epoch: 1, ...clean })
    .onConflictDoUpdate({ target: health.endpoint, set: { epoch: sql`${health.epoch} + 1`, ...clean } })
}

export type EndpointCommand = 'config' | 'resume' | 'deleted'

/** What the owner of the endpoint's lane reads within a second. */
export async function appendCommand(
  store: Store,
  scope: WriteScope,
  kind: EndpointCommand,
  endpoint: number,
): Promise<void> {
  await scope.queries.insert(store.tables.commands).values({ kind, endpoint })
}

function isAlive(store: Store, account: string, uuid: string) {
  const { endpoints } = store.tables
  return and(eq(endpoints.account, account), eq(endpoints.id, uuid), isNull(endpoints.deleted_at))
}

function selectEndpoints(store: Store, queries: Queries) {
  const { endpoints, endpoint_health: health } = store.tables
  return queries
    .select({
      id: endpoints.id,
      url: endpoints.url,
      events: endpoints.events,
      active: endpoints.active,
      status: sql<Endpoint['status']>`case when not ${endpoints.active} then 'inactive'
        when ${endpoints.disabled_reason} is not null then 'disabled'
        when ${health.backoff_until} > ${store.clock} then 'degraded' else 'active' end`,
      disabled_reason: endpoints.disabled_reason,
      description: endpoints.description,
      header_names: endpoints.header_names,
      metadata: endpoints.metadata,
      ordering: endpoints.ordering,
      max_concurrency: endpoints.max_concurrency,
      rate_limit: endpoints.rate_limit,
      rate_limit_per: endpoints.rate_limit_per,
      created_at: rfc3339(endpoints.created_at),
      updated_at: rfc3339(endpoints.updated_at),
    })
    .from(endpoints)
    .leftJoin(health, eq(health.endpoint, endpoints.no))
    .$dynamic()
}

type SelectedEndpoint = Awaited<ReturnType<typeof selectEndpoints>>[number]

function toEndpoint(row: SelectedEndpoint): Endpoint {
  return {
    id: toPublicId('ep', row.id),
    url: row.url,
    events: row.events,
    active: row.active,
    status: row.status,
    disabled_reason: row.disabled_reason,
    description: row.description,
    headers: redactHeaders(row.header_names),
    metadata: JSON.parse(row.metadata),
    ordering: row.ordering,
    max_concurrency: row.max_concurrency,
    rate_limit:
      row.rate_limit === null || row.rate_limit_per === null
        ? null
        : { limit: row.rate_limit, per: row.rate_limit_per },
    created_at: row.created_at,
    updated_at: row.updated_at,
  }
}

function notFound(id: string): PosthasteError {
  return new PosthasteError('NOT_FOUND', `There is no endpoint ${id.slice(0, 64)}.`)
}
