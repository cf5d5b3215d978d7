/** Making a copied or renamed database this installation's own: what waits in it is sent, or ended visibly. */
import { PosthasteError } from '../errors.ts'
import { type Sql, type TransactionSql, untilConnectionLost } from '../storage/connection.ts'
import { advisoryKey } from '../storage/migrate.ts'

export interface AdoptOptions {
  /** `continue`: what waits is sent, from here. `discard`: what waits is cancelled, and dispatching begins from now. */
  what: 'continue' | 'discard'
}

export interface Adoption {
  /** The name that the database belonged to; null where it was this installation's already. */
  from: string | null
  /** Deliveries that were cancelled: they waited for their first attempt, or for a retry. */
  cancelledDeliveries: number
  cancelledReplays: number
}

/** Rows of one statement: none of them holds a lock for long. */
const ROWS_AT_ONCE = 1_000
const ENDPOINTS_AT_ONCE = 200

/**
 * Gives the database to this installation. Workers of the name before are fenced: they send nothing more. An adoption that was
 * interrupted is finished by calling it again; until then nobody sends.
 */
export async function adopt(sql: Sql, schema: string, installation: string, what: unknown): Promise<Adoption> {
  if (what !== 'continue' && what !== 'discard') {
    throw new PosthasteError(
      'VALIDATION_FAILED',
      "adopt() must be told what becomes of what waits: { what: 'continue' } or { what: 'discard' }.",
      { errors: [{ path: 'what', message: "must be 'continue' or 'discard'" }] },
    )
  }
  const adoption = await sql.begin((tx) => untilConnectionLost(() => takeOver(tx, schema, installation, what)))
  if (!adoption.underWay) return { from: null, cancelledDeliveries: 0, cancelledReplays: 0 }
  let cancelledDeliveries = 0
  if (what === 'discard') {
    cancelledDeliveries += await cancelRetries(sql, schema)
    cancelledDeliveries += await cancelUnattempted(sql, schema)
  }
  const cancelledReplays = await finish(sql, schema, what)
  return { from: adoption.from, cancelledDeliveries, cancelledReplays }
}

/** One transaction: the new name, nobody at work, and no page of the dispatcher under way. */
async function takeOver(
  tx: TransactionSql,
  schema: string,
  installation: string,
  what: 'continue' | 'discard',
): Promise<{ from: string | null; underWay: boolean }> {
  const s = tx(schema)
  // What is read after the lock has to be what is there then, whatever isolation the database has as its default.
  await tx.unsafe('set transaction isolation level read committed')
  await tx.unsafe(`select pg_advisory_xact_lock(${advisoryKey(schema, 'dispatch')})`)
  const [row] = await tx`select name, adopting from ${s}.installation for update`
  if (row === undefined) throw new PosthasteError('NOT_MIGRATED', 'Call webhooks.migrate() before webhooks.adopt().')
  const from = row.name === installation ? null : (row.name as string)
  if (from === null && row.adopting === null) return { from, underWay: false }
  await tx`update ${s}.installation set name = ${installation}, adopting = ${what}`
  await tx`select ${s}.fence(w.token) from ${s}.workers w where not w.fenced`
  if (what === 'discard') await tx`select ${s}.dispatch_from_now()`
  return { from, underWay: true }
}

/** What waits for a retry ends with a final row that was no send. */
async function cancelRetries(sql: Sql, schema: string): Promise<number> {
  const s = sql(schema)
  let cancelled = 0
  for (;;) {
    const [row] = await sql`
      with gone as (
        delete from ${s}.retries where (delivery_id, step) in (
          select delivery_id, step from ${s}.retries order by delivery_id, step limit ${ROWS_AT_ONCE})
        returning delivery_id, number, step, endpoint, seq),
      ended as (
        insert into ${s}.attempts (delivery_id, number, endpoint, seq, outcome, final, step, at)
        select delivery_id, number, endpoint, seq, 4, true, step, ${s}.clock() from gone on conflict do nothing returning 1)
      select (select count(*)::int from gone) gone, (select count(*)::int from ended) ended`
    cancelled += row!.ended as number
    if ((row!.gone as number) < ROWS_AT_ONCE) return cancelled
  }
}

/** What was never attempted: of each endpoint, from where its backlog or its lane had come to. */
async function cancelUnattempted(sql: Sql, schema: string): Promise<number> {
  const s = sql(schema)
  let cancelled = 0
  let after = 0
  for (;;) {
    const endpoints = await sql`
      select e.no, coalesce(b.cursor_seq, (select d.last_seq from ${s}.dispatches d where d.n <= l.position order by d.n desc limit 1), 0) seq
      from ${s}.endpoints e join ${s}.lanes l on l.lane = e.no % 64 left join ${s}.backlogs b on b.endpoint = e.no
      where e.no > ${after} and e.deleted_at is null order by e.no limit ${ENDPOINTS_AT_ONCE}`
    if (endpoints.length === 0) return cancelled
    after = endpoints.at(-1)!.no as number
    let open = endpoints.map((row) => ({ no: row.no as number, seq: row.seq as number }))
    while (open.length > 0) {
      const share = Math.ceil(ROWS_AT_ONCE / open.length)
      const rows = await sql`
        with found as materialized (
          select d.id, d.seq, d.endpoint
          from unnest(${open.map(({ no }) => no)}::int[], ${open.map(({ seq }) => seq)}::bigint[]) x(no, seq)
          cross join lateral (select y.id, y.seq, y.endpoint from ${s}.deliveries y
            where y.endpoint = x.no and y.seq > x.seq order by y.seq limit ${share}) d),
        ended as (
          insert into ${s}.attempts (delivery_id, number, endpoint, seq, outcome, final, step, at)
          select f.id, 1, f.endpoint, f.seq, 4, true, 0, ${s}.clock() from found f
          where (select true from ${s}.attempts a where a.delivery_id = f.id limit 1) is null
          on conflict do nothing returning 1)
        select endpoint no, max(seq) seq, count(*)::int n, (select count(*)::int from ended) ended from found group by endpoint`
      cancelled += (rows[0]?.ended as number | undefined) ?? 0
      open = rows
        .filter((row) => (row.n as number) >= share)
        .map((row) => ({ no: row.no as number, seq: row.seq as number }))
    }
  }
}

async function finish(sql: Sql, schema: string, what: 'continue' | 'discard'): Promise<number> {
  return await sql.begin((tx) =>
    untilConnectionLost(async () => {
      const s = tx(schema)
      let cancelled = 0
      if (what === 'discard') {
        const replays = await tx`update ${s}.replays set status = 'cancelled', finished_at = ${s}.clock()
          where status = 'running' returning 1`
        cancelled = replays.length
        await tx`update ${s}.lanes set position = (select max(n) from ${s}.dispatches)`
        await tx`delete from ${s}.backlogs`
      }
      await tx`update ${s}.installation set adopting = null`
      return cancelled
    }),
  )
}
