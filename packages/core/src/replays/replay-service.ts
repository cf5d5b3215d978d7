/** Bulk replays: resending to one endpoint what failed, what it missed, or all. */

import type { AnyCatalog } from '../catalog/define-events.ts'
import { idFloor, toRange } from '../endpoints/time-range.ts'
import { invalidInput, validateInput } from '../endpoints/validate-input.ts'
import { PosthasteError } from '../errors.ts'
import { requirePublicId, toPublicId } from '../ids.ts'
import { type SQL, sql } from '../storage/orm.ts'
import { type PreparedWrite, type Queries, rfc3339, type Store } from '../storage/tables.ts'
import { type Replay, type ReplayInput, replayInputSchema } from './replay-schemas.ts'

export interface ReplayServiceOptions {
  store: Store
  catalog: AnyCatalog
  /** Called after each commit that appended a command, so that the dispatcher of this process looks at once. */
  onChange?(): void
}

/** Every method is given the account and finds nothing outside of it: `NOT_FOUND`. */
export interface Replays {
  /**
   * Begins to resend to an endpoint, and to it alone; the worker does it, chunk by chunk, no faster than the endpoint takes it.
   * One replay runs per endpoint at a time.
   *
   * @throws {PosthasteError} `NOT_FOUND`, `VALIDATION_FAILED`, `ENDPOINT_NOT_ACTIVE`, `REPLAY_RUNNING`
   */
  start(account: string, endpointId: string, input: ReplayInput): Promise<Replay>
  get(account: string, id: string): Promise<Replay>
  /** Makes no further deliveries; those that are made are sent. One that is over stays as it is. */
  cancel(account: string, id: string): Promise<Replay>
}

/** What the routes use besides. */
export interface ReplayService extends Replays {
  /** `start` in two steps: what can be checked without the database, then the write in a transaction of the caller's. */
  prepareStart(account: string, endpointId: string, input: unknown): PreparedWrite<Replay>
}

interface ReplayRow extends Record<string, unknown> {
  id: string
  endpoint_id: string
  which: Replay['which']
  since: string
  until: string
  status: Replay['status']
  counted: boolean
  total: number
  done: number
  types_not_always_stored: string[]
  created_at: string
  finished_at: string | null
}

interface EndpointRow extends Record<string, unknown> {
  no: number
  served: boolean
  events: string[]
}

export function createReplayService({ store, catalog, onChange }: ReplayServiceOptions): ReplayService {
  const s = sql.raw(store.schema)
  const rarelyStored = catalog.types.filter((type) => catalog.get(type).store === 'when_subscribed')

  async function find(queries: Queries, where: SQL): Promise<Replay | null> {
    const [row] = await queries.execute<ReplayRow>(sql`
      select r.id::text, p.id::text endpoint_id, r.which, ${rfc3339(sql`r.since`)} since, ${rfc3339(sql`r.until`)} until,
        r.status, r.counted, r.total, r.done, r.types_not_always_stored, ${rfc3339(sql`r.created_at`)} created_at,
        ${rfc3339(sql`r.finished_at`)} finished_at
      from ${s}.replays r join ${s}.endpoints p on p.no = r.endpoint where ${where}`)
    return row === undefined ? null : toReplay(row)
  }

  async function findOwn(queries: Queries, account: string, id: string): Promise<Replay> {
    const uuid = requirePublicId('rpl', id)
    const replay = await find(queries, sql`r.id = ${uuid}::uuid and r.account = ${account}::text`)
    if (replay === null) throw new PosthasteError('NOT_FOUND', `There is no replay ${id.slice(0, 64)}.`)
    return replay
  }

  /** Locked, so that two replays of one endpoint do not begin at once. */
  async function lockServedEndpoint(queries: Queries, account: string, id: string): Promise<EndpointRow> {
    const [row] = await queries.execute<EndpointRow>(sql`
      select no, active and disabled_at is null served, events from ${s}.endpoints
      where id = ${requirePublicId('ep', id)}::uuid and account = ${account}::text and deleted_at is null for update`)
    if (row === undefined) throw new PosthasteError('NOT_FOUND', `There is no endpoint ${id.slice(0, 64)}.`)
    if (row.served) return row
    throw new PosthasteError('ENDPOINT_NOT_ACTIVE', 'This endpoint is not active: activate it before the replay.')
  }

  const prepareStart = (account: string, endpointId: string, input: unknown): PreparedWrite<Replay> => {
    const { which, ...range } = validateInput(replayInputSchema, input, 'The replay')
    const { sinceMs, untilMs } = toRange(range)
    const since = new Date(sinceMs as number).toISOString()
    const until = untilMs === null ? null : new Date(untilMs).toISOString()
    return async ({ queries, afterCommit }) => {
      const endpoint = await lockServedEndpoint(queries, account, endpointId)
      const running = await find(queries, sql`r.endpoint = ${endpoint.no}::int and r.status = 'running'`)
      if (running !== null) {
        throw new PosthasteError(
          'REPLAY_RUNNING',
          `The replay ${running.id} of this endpoint is running: wait until it is over, or cancel it.`,
        )
      }
      const notStored = which === 'failed' || rarelyStored.length === 0 ? [] : rarelyStored
      // Ids are made by the database's own clock, and tell milliseconds: all that was committed before this lies in front of it.
      const [begun] = await queries.execute<{ id: string; no: number; nothing: boolean }>(sql`
        insert into ${s}.replays (account, endpoint, which, since, until, through, types_not_always_stored)
        select ${account}::text, ${endpoint.no}::int, ${which}::text, ${since}::text::timestamptz, least(${until}::text::timestamptz, n.now),
          ${idFloor(sinceMs as number)}::uuid, array(
            select t.type from json_array_elements_text(${JSON.stringify(notStored)}::text::json) t(type)
            where ${s}.patterns(t.type) && (select events from ${s}.endpoints where no = ${endpoint.no}::int))
        from (select date_trunc('milliseconds', clock_timestamp()) + interval '1 millisecond' now) n
        returning id::text, no, until <= since nothing`)
      if (begun === undefined) throw new Error('the insert of a replay answered nothing')
      if (begun.nothing) {
        throw invalidInput('The replay', [{ path: 'since', message: 'This must be earlier than now.' }])
      }
      // An empty chunk: when it is dispatched, so is all that was committed before.
      const payload = JSON.stringify({ generation: begun.no, events: [] })
      await queries.insert(store.tables.commands).values({ kind: 'replay', endpoint: endpoint.no, payload })
      afterCommit(() => onChange?.())
      return await findOwn(queries, account, toPublicId('rpl', begun.id))
    }
  }

  return {
    prepareStart,
    start: async (account, endpointId, input) => await store.write(prepareStart(account, endpointId, input)),
    get: async (account, id) => await store.read((queries) => findOwn(queries, account, id)),

    async cancel(account, id) {
      return await store.write(async ({ queries }) => {
        const { id: found } = await findOwn(queries, account, id)
        await queries.execute(sql`
          update ${s}.replays set status = 'cancelled', finished_at = ${store.clock}
          where id = ${requirePublicId('rpl', found)}::uuid and status = 'running'`)
        return await findOwn(queries, account, id)
      })
    },
  }
}

function toReplay(row: ReplayRow): Replay {
  return {
    id: toPublicId('rpl', row.id),
    endpoint_id: toPublicId('ep', row.endpoint_id),
    which: row.which,
    since: row.since,
    until: row.until,
    status: row.status,
    total: row.counted ? row.total : null,
    done: row.done,
    types_not_always_stored: row.types_not_always_stored,
    created_at: row.created_at,
    finished_at: row.finished_at,
  }
}
