import type { Sql } from '../storage/connection.ts'
import { workerFence } from '../storage/worker-fence.ts'

export interface TakenLane {
  lane: number
  /** Everything up to this row of `dispatches` is recorded. */
  position: number
}

export interface Renewed {
  seq: number
  /** Logical replication writes into our tables: the database that they come from is the one that sends. */
  replica: boolean
}

export interface WorkerSeen {
  token: number
  /** The newest renewal, or 0 before the first. */
  renewal: number
  /** It registered in another life of the database, where nothing of what it remembers is true: it writes nothing any more. */
  gone: boolean
}

/** The statements by which workers hold lanes. Everything that an owner writes is fenced by its own worker row. */
export interface LaneStore {
  /** Null: this installation may not work in this database (`installation/refusal.ts` says why). */
  register(name: string, version: string): Promise<number | null>
  /**
   * Renews the lease and notes the positions of all lanes held. `previous` is the renewal before, 0 at first. Null: this worker
   * was fenced, or that renewal is gone, because the database was set back to an earlier state.
   */
  renew(
    token: number,
    previous: number,
    lanes: readonly number[],
    positions: readonly number[],
  ): Promise<Renewed | null>
  /** Takes up to `count` lanes that nobody owns, or `only` that one. */
  takeIdle(token: number, count: number, only?: number): Promise<TakenLane[]>
  /** The lanes that are this worker's in the database, at the positions they were taken at. */
  listOwned(token: number): Promise<TakenLane[]>
  /** Gives a lane up at its final position. */
  giveUp(token: number, lane: number, position: number): Promise<void>
  /** All workers that are not fenced, this one among them. */
  listWorkers(): Promise<WorkerSeen[]>
  /** Takes a worker's lanes away for good, after the writes that it has in flight. Answers how many it had. */
  fence(token: number): Promise<number>
  /** Drops renewals and fenced workers that nobody needs any more. */
  purge(): Promise<void>
}

export function createLaneStore(sql: Sql, schema: string, installation: string): LaneStore {
  const s = sql(schema)
  const me = workerFence(sql, schema)
  return {
    async register(name, version) {
      await sql`select ${s}.raise_sequences()`
      const [row] = await sql`insert into ${s}.workers (name, version, life)
        select ${name}::text, ${version}::text, ${s}.life() where ${s}.refusal(${installation}) is null returning token`
      return (row?.token as number | undefined) ?? null
    },

    async renew(token, previous, lanes, positions) {
      const rows = await sql`with ${me(token)}
        insert into ${s}.renewals (token, lanes, positions)
        select token, ${lanes as number[]}::smallint[], ${positions as number[]}::bigint[] from me
        where ${previous}::bigint = 0
          or exists (select 1 from ${s}.renewals r where r.token = me.token and r.seq = ${previous}::bigint)
        returning seq, ${s}.is_replica() replica`
      return (rows[0] as Renewed | undefined) ?? null
    },

    async takeIdle(token, count, only) {
      const rows = await sql`with ${me(token)},
        idle as (select lane from ${s}.lanes where token is null ${only === undefined ? sql`` : sql`and lane = ${only}`}
          order by lane limit ${count} for update skip locked)
        update ${s}.lanes l set token = me.token from me, idle where l.lane = idle.lane
        returning l.lane, l.position`
      return rows.map((row) => ({ lane: row.lane as number, position: row.position as number }))
    },

    async listOwned(token) {
      const rows = await sql`select lane, position from ${s}.lanes where token = ${token} order by lane`
      return rows.map((row) => ({ lane: row.lane as number, position: row.position as number }))
    },

    async giveUp(token, lane, position) {
      await sql`with ${me(token)}
        update ${s}.lanes l set token = null, position = greatest(l.position, ${position}::bigint)
        from me where l.lane = ${lane} and l.token = me.token`
    },

    async listWorkers() {
      const rows = await sql`select w.token, coalesce((select r.seq from ${s}.renewals r where r.token = w.token
          order by r.seq desc limit 1), 0) renewal,
          w.life is not null and w.life <> ${s}.life() gone
        from ${s}.workers w where not w.fenced order by w.token`
      return rows.map((row) => ({
        token: row.token as number,
        renewal: row.renewal as number,
        gone: row.gone as boolean,
      }))
    },

    async fence(token) {
      const [row] = await sql`select ${s}.fence(${token}) freed`
      return row!.freed as number
    },

    async purge() {
      // Nobody reads through old renewals: every look begins at the newest.
      await sql`delete from ${s}.renewals r where r.at < clock_timestamp() - interval '1 hour'
        and exists (select 1 from ${s}.renewals newer where newer.token = r.token and newer.seq > r.seq)`
      await sql`delete from ${s}.workers w where w.fenced and w.started_at < clock_timestamp() - interval '7 days'
        and not exists (select 1 from ${s}.lanes l where l.token = w.token)`
    },
  }
}
