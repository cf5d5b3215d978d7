import { toPublicId } from '../ids.ts'
import type { ExpiryReason, Lifecycle } from '../lifecycle/events.ts'
import type { Sql } from '../storage/connection.ts'

export interface ExpiryRequest {
  endpoint: number
  /** Deliveries with `after < seq <= through` that were never attempted, and all retries. */
  after: number
  through: number
  /** A lower bound of the ids of their events. */
  oldest: string
  /** Deliveries that are under way. */
  except: readonly string[]
  /** The owner's; null for an endpoint that is held, and so served by nobody. */
  token: number | null
  reason: ExpiryReason
}

export interface Expired {
  deliveries: string[]
  /** Deliveries were looked through to here. */
  through: number
  /** There may be more. */
  more: boolean
}

/** Ends deliveries that have waited too long: visibly, as `expired`, without a send. */
export interface DeliveryExpirer {
  /** At most some hundreds at a time. Null: fenced, or the endpoint is not held (any more); nothing was written. */
  expire(request: ExpiryRequest): Promise<Expired | null>
}

export interface DeliveryExpirerOptions {
  sql: Sql
  schema: string
  lifecycle: Lifecycle
  /** The declared limit, in ms. */
  waitingMs: number
}

/** Behind an endpoint that is backed off as a whole (contract: 14 days). */
const DEGRADED_MS = 14 * 86_400_000
const MOST_AT_ONCE = 500

export function createDeliveryExpirer({ sql, schema, lifecycle, waitingMs }: DeliveryExpirerOptions): DeliveryExpirer {
  const s = sql(schema)

  async function raise(
    endpoint: number,
    rows: readonly Record<string, unknown>[],
    reason: ExpiryReason,
  ): Promise<void> {
    const [of] = await sql`select id::text, account from ${s}.endpoints where no = ${endpoint}`
    if (of === undefined) return
    for (const row of rows) {
      lifecycle.raise('delivery.expired', {
        account: of.account as string,
        endpointId: toPublicId('ep', of.id as string),
        deliveryId: toPublicId('dlv', row.delivery as string),
        eventId: toPublicId('evt', row.event as string),
        eventType: (row.type as string | null) ?? '',
        reason,
      })
    }
  }

  return {
    async expire({ endpoint, after, through, oldest, except, token, reason }) {
      const waitedMs = reason === 'degraded' ? Math.min(DEGRADED_MS, waitingMs) : waitingMs
      const rows =
        await sql`select * from ${s}.expire_waiting(${token}::bigint, ${endpoint}::int, ${after}::bigint, ${through}::bigint,
        ${oldest}::uuid, ${waitedMs / 1000} * interval '1 second', ${except as string[]}::uuid[], ${MOST_AT_ONCE}::int)`
      const end = rows.find((row) => row.delivery === null)
      if (end === undefined) return null
      const ended = rows.filter((row) => row.delivery !== null)
      if (ended.length > 0 && lifecycle.heard('delivery.expired')) await raise(endpoint, ended, reason)
      return {
        deliveries: ended.map((row) => row.delivery as string),
        through: end.through as number,
        more: end.more as boolean,
      }
    },
  }
}
