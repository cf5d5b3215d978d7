import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { toPublicId } from '../ids.ts'
import type { Keyring } from '../signing/keyring.ts'
import { createSigner, type Signer } from '../signing/sign.ts'
import type { Sql } from '../storage/connection.ts'
import { endpointSealContext } from '../storage/tables.ts'

/** What is needed to serve an endpoint, as it stands now. One object per endpoint, replaced when its configuration changes. */
export interface EndpointConfig {
  no: number
  id: string
  account: string
  url: string
  /** `active`: served; `waiting`: not now, what waits is held; `deleted`: never again. */
  state: 'active' | 'waiting' | 'deleted'
  current: Signer
  /** Which of the endpoint's secrets the current one is; null where the log could not tell it by that: of a deleted endpoint. */
  secretNumber: number | null
  /** While an overlap lasts: the secret before. `untilMs` by this process's wall clock. */
  previous: { signer: Signer; untilMs: number } | null
  /** Which of the two the headers with room for one signature use. */
  usePrevious: boolean
  headers: ReadonlyArray<readonly [string, string]>
  fifo: boolean
  maxConcurrency: number | null
  rateLimit: { limit: number; perMs: number } | null
  version: number
  health: EndpointHealth
  /** Of a fifo endpoint: the deliveries that wait for a retry, each of which holds what is behind it. */
  openRetries: readonly string[]
}

/** What outlives a process of an endpoint's failures. */
export interface EndpointHealth {
  epoch: number
  /** Wall clock in ms; null while it works. */
  failingSinceMs: number | null
  backoffMs: number | null
  backoffUntilMs: number | null
}

/** Why an endpoint cannot be served although it is active. */
export class EndpointUnreadable extends Error {
  /** Its uuid. */
  readonly id: string
  readonly account: string
  constructor({ id, account }: { id: string; account: string }, cause: unknown) {
    super(`The secrets of endpoint ${toPublicId('ep', id)} cannot be read with the keys of this process.`, { cause })
    this.id = id
    this.account = account
  }
}

export interface EndpointConfigs {
  /** Loads these endpoints' configuration; those that do not exist are missing in the answer. */
  load(endpoints: readonly number[]): Promise<Map<number, EndpointConfig | EndpointUnreadable>>
}

export function createEndpointConfigs(sql: Sql, schema: string, keyring: Keyring, clock: Clock): EndpointConfigs {
  const s = sql(schema)
  return {
    async load(endpoints) {
      const rows = await sql`
        select e.no, e.id::text, e.account, e.url, e.secret, e.secret_number, e.previous_secret,
          extract(epoch from e.previous_until - ${s}.clock())::float8 * 1000 previous_ms, e.previous_accepted, e.headers,
          e.ordering, e.max_concurrency, e.rate_limit, e.rate_limit_per, e.version,
          case when e.deleted_at is not null then 'deleted' when e.active and e.disabled_at is null then 'active'
            else 'waiting' end state,
          coalesce(h.epoch, 0) epoch, extract(epoch from h.failing_since - ${s}.clock())::float8 * 1000 failing_ms,
          h.backoff_ms, extract(epoch from h.backoff_until - ${s}.clock())::float8 * 1000 backoff_left_ms,
          case when e.ordering = 'fifo'
            then array(select r.delivery_id::text from ${s}.retries r where r.endpoint = e.no) else '{}' end open_retries
        from ${s}.endpoints e left join lateral (
          -- LIMIT: else a few hundred endpoints are reason enough for the planner to read the whole table.
          select * from ${s}.endpoint_health x where x.endpoint = e.no limit 1) h on true
        where e.no = any (${endpoints as number[]}::int[])`
      const configs = new Map<number, EndpointConfig | EndpointUnreadable>()
      const now = clock.now()
      for (const row of rows) {
        try {
          configs.set(row.no as number, toConfig(row as ConfigRow, keyring, now))
        } catch (error) {
          configs.set(row.no as number, new EndpointUnreadable(row as unknown as ConfigRow, error))
        }
      }
      return configs
    },
  }
}

interface ConfigRow {
  no: number
  id: string
  account: string
  url: string
  secret: string
  secret_number: number
  previous_secret: string | null
  previous_ms: number | null
  previous_accepted: boolean
  headers: string | null
  ordering: string
  max_concurrency: number | null
  rate_limit: number | null
  rate_limit_per: string | null
  version: number
  state: EndpointConfig['state']
  epoch: number
  failing_ms: number | null
  backoff_ms: number | null
  backoff_left_ms: number | null
  open_retries: string[]
}

/** Of deleted endpoints, whose secrets are erased: should a send ever be made for one, nobody accepts it. */
const UNKNOWN_SIGNER = createSigner(randomBytes(32).toString('base64'))

function toConfig(row: ConfigRow, keyring: Keyring, now: number): EndpointConfig {
  const deleted = row.state === 'deleted'
  const overlaps = !deleted && row.previous_secret !== null && row.previous_ms !== null && row.previous_ms > 0
  return {
    no: row.no,
    id: row.id,
    account: row.account,
    url: row.url,
    state: row.state,
    current: deleted ? UNKNOWN_SIGNER : createSigner(keyring.open(row.secret, endpointSealContext(row.id, 'secret'))),
    secretNumber: deleted ? null : row.secret_number,
    previous: overlaps
      ? {
          signer: createSigner(
            keyring.open(row.previous_secret as string, endpointSealContext(row.id, 'previous_secret')),
          ),
          untilMs: now + (row.previous_ms as number),
        }
      : null,
    usePrevious: overlaps && row.previous_accepted,
    headers:
      deleted || row.headers === null
        ? []
        : Object.entries(JSON.parse(keyring.open(row.headers, endpointSealContext(row.id, 'headers')))),
    fifo: row.ordering === 'fifo',
    maxConcurrency: row.max_concurrency,
    rateLimit:
      row.rate_limit === null
        ? null
        : { limit: row.rate_limit, perMs: row.rate_limit_per === 'minute' ? 60_000 : 1_000 },
    version: row.version,
    health: {
      epoch: row.epoch,
      failingSinceMs: row.failing_ms === null ? null : now + row.failing_ms,
      backoffMs: row.backoff_ms,
      backoffUntilMs: row.backoff_left_ms === null ? null : now + row.backoff_left_ms,
    },
    openRetries: row.open_retries,
  }
}
