/** The delivery log: what was sent to an endpoint, and what became of it; and to try again, or to try out. */

import type { AnyCatalog } from '../catalog/define-events.ts'
import { decodeCursor, encodeCursor, type Page } from '../endpoints/page-cursor.ts'
import { toRange } from '../endpoints/time-range.ts'
import { validateInput } from '../endpoints/validate-input.ts'
import { PosthasteError } from '../errors.ts'
import type { Keyring } from '../signing/keyring.ts'
import { sql } from '../storage/orm.ts'
import type { PreparedWrite, Store } from '../storage/tables.ts'
import { withTypedErrors } from '../storage/unavailable.ts'
import { listAttempts } from './attempt-rows.ts'
import { findDelivery, findLoggedEndpoint, listDeliveries } from './delivery-rows.ts'
import {
  type Delivery,
  type DeliveryDetail,
  type DeliveryQuery,
  deliveryQuerySchema,
  type TestInput,
  type TestResult,
  testInputSchema,
} from './delivery-schemas.ts'
import { sendTest, type TestSendOptions } from './test-send.ts'

export interface DeliveryServiceOptions {
  store: Store
  catalog: AnyCatalog
  /** Opens the secrets that the requests in the log were signed with. */
  keyring: Pick<Keyring, 'open'>
  test: TestSendOptions
  /** Rejects where this process may not send: it belongs to another installation than the database. */
  requireInstallation(): Promise<void>
  /** Called after each commit that appended a command, so that the dispatcher of this process looks at once. */
  onChange?(): void
}

/**
 * Every method is given the account and finds nothing outside of it: `NOT_FOUND`. The log of a deleted endpoint stays.
 */
export interface Deliveries {
  /**
   * Of an endpoint, in the order in which they were made, newest first. With a filter a page may hold fewer than `limit` and have
   * a next one all the same.
   *
   * @throws {PosthasteError} `NOT_FOUND`, `VALIDATION_FAILED`
   */
  list(account: string, endpointId: string, query?: DeliveryQuery): Promise<Page<Delivery>>
  /** With its attempts. @throws {PosthasteError} `NOT_FOUND` */
  get(account: string, id: string): Promise<DeliveryDetail>
  /**
   * Tries again now, whatever its status: once more than the schedule says, past back-off, rate limit and order. Answers the
   * delivery as it was. A failure cancels none of the attempts that the schedule has left; where an attempt is under way
   * already, that is the one.
   *
   * @throws {PosthasteError} `NOT_FOUND`; `ENDPOINT_NOT_ACTIVE`
   */
  retry(account: string, id: string): Promise<Delivery>
  /**
   * Sends the example of an event type to an endpoint now, once, from this process: outside of its subscriptions, to an
   * inactive one too, in no log and no failure counter. A failure is an answer, not an error.
   *
   * @throws {PosthasteError} `NOT_FOUND`, `UNKNOWN_EVENT_TYPE`; `INSTALLATION_MISMATCH` in a copy of the database, from which
   * nothing is sent; `SECRET_UNREADABLE` where this process has not the keys
   */
  sendTest(account: string, endpointId: string, input?: TestInput): Promise<TestResult>
}

/** What the routes use besides. */
export interface DeliveryService extends Deliveries {
  /** The schemas of the inputs. */
  readonly schemas: { test: ReturnType<typeof testInputSchema> }
  /** `retry` as a write in a transaction of the caller's. */
  prepareRetry(account: string, id: string): PreparedWrite<Delivery>
}

export function createDeliveryService(options: DeliveryServiceOptions): DeliveryService {
  const { store } = options
  const schemas = { test: testInputSchema(options.catalog) }

  const prepareRetry = (account: string, id: string): PreparedWrite<Delivery> => {
    return async (scope) => {
      const { uuid, endpoint, delivery } = await findDelivery(store, scope.queries, account, id)
      if (!endpoint.served) {
        throw new PosthasteError(
          'ENDPOINT_NOT_ACTIVE',
          endpoint.deleted
            ? 'The endpoint of this delivery was deleted.'
            : 'The endpoint of this delivery is not active: activate it first. What was waiting is sent then by itself.',
        )
      }
      // With the number of attempts that there are: repeated, or overtaken by an attempt of the schedule, it asks for nothing.
      const payload = JSON.stringify({ delivery: uuid, attempts: delivery.attempt_count })
      await scope.queries.insert(store.tables.commands).values({ kind: 'retry', endpoint: endpoint.no, payload })
      scope.afterCommit(() => options.onChange?.())
      return delivery
    }
  }

  return {
    schemas,
    prepareRetry,
    retry: async (account, id) => await store.write(prepareRetry(account, id)),

    async list(account, endpointId, query = {}) {
      const { limit, cursor, status, event, ...range } = validateInput(deliveryQuerySchema, query, 'The query')
      const { sinceMs, untilMs } = toRange(range)
      const before = cursor === undefined ? null : decodeSeq(cursor)
      return await store.read(async (queries) => {
        const endpoint = await findLoggedEndpoint(store, queries, account, endpointId)
        const { deliveries, next } = await listDeliveries(store, queries, endpoint, {
          limit,
          before,
          status: status ?? null,
          event: event ?? null,
          sinceMs,
          untilMs,
        })
        return { data: deliveries, next_cursor: next === null ? null : encodeSeq(next) }
      })
    },

    async get(account, id) {
      return await store.read(async (queries) => {
        const { uuid, delivery } = await findDelivery(store, queries, account, id)
        return {
          ...delivery,
          attempts: await listAttempts(store, queries, options.keyring, uuid, options.test.userAgent),
        }
      })
    },

    async sendTest(account, endpointId, input = {}) {
      const { event } = validateInput(schemas.test, input, 'The test')
      const found = await store.read(async (queries) => {
        const endpoint = await findLoggedEndpoint(store, queries, account, endpointId)
        if (endpoint.deleted) throw new PosthasteError('NOT_FOUND', `There is no endpoint ${endpointId.slice(0, 64)}.`)
        const [row] = await queries.execute<{ events: string[] }>(
          sql`select events from ${sql.raw(store.schema)}.endpoints where no = ${endpoint.no}::int`,
        )
        return { no: endpoint.no, events: row?.events ?? [] }
      })
      return await withTypedErrors(async () => {
        await options.requireInstallation()
        return await sendTest(options.test, found, event)
      })
    },
  }
}

/** A sequence number in the form of the other lists' cursors. */
function encodeSeq(seq: number): string {
  return encodeCursor(seq.toString(16).padStart(32, '0'))
}

function decodeSeq(cursor: string): number {
  const seq = Number(BigInt(`0x${decodeCursor(cursor).replaceAll('-', '')}`))
  return Number.isSafeInteger(seq) ? seq : Number.MAX_SAFE_INTEGER
}
