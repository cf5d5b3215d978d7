import { type Sql, type TransactionSql, untilConnectionLost } from '../storage/connection.ts'

const ENDPOINTS_AT_ONCE = 500
const ROWS_AT_ONCE = 5_000

/** Nothing more is made for these endpoints, and their owners drop what they have read. Their rows go at the end. */
export async function withdrawEndpoints(sql: Sql, schema: string, account: string): Promise<void> {
  const s = sql(schema)
  for (;;) {
    const rows = await sql`
      with gone as (
        update ${s}.endpoints set deleted_at = ${s}.clock(), updated_at = ${s}.clock(), version = version + 1
        where no in (select no from ${s}.endpoints where account = ${account} and deleted_at is null limit ${ENDPOINTS_AT_ONCE})
        returning no),
      unsubscribed as (delete from ${s}.subscriptions u using gone where u.endpoint = gone.no),
      told as (insert into ${s}.commands (kind, endpoint) select 'deleted', no from gone)
      select no from gone`
    if (rows.length < ENDPOINTS_AT_ONCE) break
  }
  await sql`update ${s}.replays set status = 'cancelled', finished_at = ${s}.clock()
    where account = ${account} and status = 'running'`
}

export interface ErasedAccount {
  endpoints: number
  replays: number
  apiAnswers: number
  idempotencyKeys: number
}

/** What is left of an account when its events are gone. Its endpoints' rows go last: they say what an interrupted erasure has to finish. */
export async function eraseRest(sql: Sql, schema: string, account: string): Promise<ErasedAccount> {
  const s = sql(schema)
  const keys = await sql`delete from ${s}.idempotency_keys where account = ${account}`
  const answers = await sql`delete from ${s}.api_idempotency where account = ${account}`
  const replays = await sql`delete from ${s}.replays where account = ${account}`
  let endpoints = 0
  for (;;) {
    const rows =
      await sql`select no from ${s}.endpoints where account = ${account} order by no limit ${ENDPOINTS_AT_ONCE}`
    if (rows.length === 0) break
    const nos = rows.map((row) => row.no as number)
    for (const no of nos) await eraseLog(sql, schema, no)
    endpoints += await sql.begin((tx) => untilConnectionLost(() => eraseRows(tx, schema, nos)))
  }
  return { endpoints, replays: replays.count, apiAnswers: answers.count, idempotencyKeys: keys.count }
}

/** What was recorded of an endpoint after its events were gone. */
async function eraseLog(sql: Sql, schema: string, endpoint: number): Promise<void> {
  const s = sql(schema)
  for (const table of ['attempts', 'deliveries']) {
    const id = sql(table === 'attempts' ? 'delivery_id' : 'id')
    for (;;) {
      const gone = await sql`delete from ${s}.${sql(table)} where ${id} in (
        select ${id} from ${s}.${sql(table)} where endpoint = ${endpoint} limit ${ROWS_AT_ONCE})`
      if (gone.count === 0) break
    }
  }
}

async function eraseRows(tx: TransactionSql, schema: string, nos: number[]): Promise<number> {
  const s = tx(schema)
  for (const table of [
    'subscriptions',
    'endpoint_health',
    'retired_secrets',
    'retries',
    'backlogs',
    'attempt_hours',
    'commands',
  ]) {
    await tx`delete from ${s}.${tx(table)} where endpoint = any (${nos}::int[])`
  }
  return (await tx`delete from ${s}.endpoints where no = any (${nos}::int[])`).count
}
