import { type Sql, type TransactionSql, untilConnectionLost } from '../storage/connection.ts'
import { advisoryKey } from '../storage/migrate.ts'

export interface ErasedRows {
  events: number
  deliveries: number
  attempts: number
  idempotencyKeys: number
  /** Deliveries that were neither received nor over: nothing is sent for them any more, but see `erase`. */
  notSent: number
}

const EVENTS_AT_ONCE = 200
/** Deliveries of one statement; an event may have 50,000. */
const DELIVERIES_AT_ONCE = 2_000

/**
 * Erases events with their deliveries, attempts, waiting retries and idempotency keys, in short transactions. Each of them holds
 * the dispatcher off, so that no delivery is made of an event that goes, and tells the owners of the lanes what to drop.
 */
export async function eraseEvents(sql: Sql, schema: string, ids: readonly string[], count: ErasedRows): Promise<void> {
  for (let from = 0; from < ids.length; from += EVENTS_AT_ONCE) {
    const batch = ids.slice(from, from + EVENTS_AT_ONCE)
    let over = false
    while (!over) {
      over = await sql.begin((tx) => untilConnectionLost(() => eraseBatch(tx, schema, batch, count)))
    }
  }
}

/** True when nothing is left of these events. */
async function eraseBatch(
  tx: TransactionSql,
  schema: string,
  events: readonly string[],
  count: ErasedRows,
): Promise<boolean> {
  const s = tx(schema)
  const eventIds = events as string[]
  // What is read after the lock has to be what is there then, whatever isolation the database has as its default.
  await tx.unsafe('set transaction isolation level read committed')
  await tx.unsafe(`select pg_advisory_xact_lock(${advisoryKey(schema, 'dispatch')})`)
  // OFFSET and LIMIT: event by event, by their ids, whatever the planner believes of the partitions.
  const deliveries = await tx`
    select d.id::text, d.endpoint, not d.ended waiting from unnest(${eventIds}::uuid[]) x(id) cross join lateral (
      select y.id, y.endpoint, (select true from ${s}.retries r where r.delivery_id = y.id limit 1) is null
        and (select true from ${s}.attempts a where a.delivery_id = y.id and a.final limit 1) is not null ended
      from ${s}.deliveries y
      where y.id >= ${s}.first_delivery_id(x.id) and y.id <= ${s}.last_delivery_id(x.id) and y.event_id = x.id offset 0) d
    limit ${DELIVERIES_AT_ONCE}`
  const ids = deliveries.map((row) => row.id as string)
  const attempts = await tx`delete from ${s}.attempts where delivery_id = any (${ids}::uuid[])`
  await tx`delete from ${s}.retries where delivery_id = any (${ids}::uuid[])`
  await tx`delete from ${s}.deliveries where id = any (${ids}::uuid[])`
  const waiting = new Map<number, string[]>()
  for (const row of deliveries.filter((one) => one.waiting as boolean)) {
    const endpoint = row.endpoint as number
    waiting.set(endpoint, [...(waiting.get(endpoint) ?? []), row.id as string])
  }
  for (const [endpoint, gone] of waiting) {
    await tx`insert into ${s}.commands (kind, endpoint, payload) values ('erased', ${endpoint}, ${JSON.stringify(gone)})`
    count.notSent += gone.length
  }
  count.deliveries += ids.length
  count.attempts += attempts.count
  if (ids.length === DELIVERIES_AT_ONCE) return false
  // The dispatcher may have read them and put them where they wait for their turn: it is to look whether they are there.
  await tx`update ${s}.installation i set turns_erased = d.turns_made
    from (select turns_made from ${s}.dispatches order by n desc limit 1) d where i.turns_erased < d.turns_made`
  const keys = await tx`delete from ${s}.idempotency_keys k using ${s}.events e
    where e.id = any (${eventIds}::uuid[]) and k.account = e.account and k.key = e.idempotency_key and k.event_id = e.id`
  await tx`delete from ${s}.duplicates where event_id = any (${eventIds}::uuid[])`
  const gone = await tx`delete from ${s}.events where id = any (${eventIds}::uuid[])`
  count.idempotencyKeys += keys.count
  count.events += gone.count
  return true
}

/**
 * What was under way when its delivery was erased has been recorded since: erases that, too. The ids are those that the commands of
 * erasures name, which stay for an hour, so that an erasure that was interrupted is finished by the next one.
 */
export async function eraseLateRecords(sql: Sql, schema: string): Promise<number> {
  const s = sql(schema)
  let erased = 0
  const commands = await sql`select payload from ${s}.commands where kind = 'erased' and payload is not null`
  for (const { payload } of commands) {
    const ids = JSON.parse(payload as string) as string[]
    const attempts = await sql`delete from ${s}.attempts where delivery_id = any (${ids}::uuid[])`
    await sql`delete from ${s}.retries where delivery_id = any (${ids}::uuid[])`
    erased += attempts.count
  }
  return erased
}
