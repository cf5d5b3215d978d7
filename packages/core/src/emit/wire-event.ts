import type { AnyCatalog } from '../catalog/define-events.ts'
import { PosthasteError } from '../errors.ts'

/** What an emit may say beside type and data. */
export interface EmitOptions {
  /** Owner of the event, up to 128 characters. Required with `tenancy: 'multi'`, refused otherwise. */
  account?: string
  /** A repeated key within an account and 7 days is dispatched once. Up to 255 characters. */
  idempotencyKey?: string
  /** When it happened; the payload's `timestamp`. Default: now, by the database's clock. */
  occurredAt?: Date
}

/** An event that has been checked: exactly what will be written. */
export interface PreparedEvent {
  account: string
  type: string
  dataText: string
  occurredAt: string | null
  idempotencyKey: string | null
  whenSubscribed: boolean
}

export interface PrepareRules {
  catalog: AnyCatalog
  tenancy: 'single' | 'multi'
  /** Upper bound of the data's JSON text in bytes. */
  maxDataBytes: number
}

/** The account that everything belongs to with `tenancy: 'single'`. */
export const SINGLE_ACCOUNT = 'default'

// A NUL would be refused by Postgres and abort the host's transaction; other control characters help nobody.
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is what this looks for
const CONTROL = /[\u0000-\u001f\u007f]/

/**
 * Checks an event completely before the database sees any of it, so that a mistake is a typed error in the host's code and
 * never an aborted transaction.
 *
 * @throws PosthasteError ACCOUNT_REQUIRED, ACCOUNT_INVALID, UNKNOWN_EVENT_TYPE, NOT_JSON, INVALID_DATA, PAYLOAD_TOO_LARGE,
 *   IDEMPOTENCY_KEY_INVALID
 */
export function prepareEvent(rules: PrepareRules, type: string, data: unknown, options: EmitOptions): PreparedEvent {
  const account = resolveAccount(rules.tenancy, options.account)
  const { text } = rules.catalog.prepareData(type, data)
  const bytes = Buffer.byteLength(text)
  if (bytes > rules.maxDataBytes) {
    throw new PosthasteError(
      'PAYLOAD_TOO_LARGE',
      `The data of ${type} is ${bytes} bytes of JSON, more than the ${rules.maxDataBytes} that maxDataBytes allows: send ids ` +
        'and let the receiver fetch the rest.',
    )
  }
  return {
    account,
    type,
    dataText: text,
    occurredAt: checkOccurredAt(options.occurredAt),
    idempotencyKey: checkIdempotencyKey(options.idempotencyKey),
    whenSubscribed: rules.catalog.get(type).store === 'when_subscribed',
  }
}

/** @throws PosthasteError ACCOUNT_REQUIRED, ACCOUNT_INVALID */
export function resolveAccount(tenancy: 'single' | 'multi', account: string | undefined): string {
  if (tenancy === 'single') {
    if (account === undefined || account === SINGLE_ACCOUNT) return SINGLE_ACCOUNT
    throw new PosthasteError('ACCOUNT_INVALID', "This installation has one account: set tenancy: 'multi' to have more.")
  }
  if (account === undefined) {
    throw new PosthasteError(
      'ACCOUNT_REQUIRED',
      "With tenancy: 'multi' every event belongs to an account: pass { account }.",
    )
  }
  if (typeof account !== 'string' || account.length === 0 || account.length > 128 || !isCleanText(account)) {
    throw new PosthasteError('ACCOUNT_INVALID', 'An account is 1 to 128 characters without control characters.')
  }
  return account
}

function checkOccurredAt(date: Date | undefined): string | null {
  if (date === undefined) return null
  const time = date instanceof Date ? date.getTime() : Number.NaN
  // Postgres and RFC 3339 both end at the year 9999; before 1970 no Unix timestamp makes sense to a receiver.
  if (time >= 0 && time < 253_402_300_800_000) return date.toISOString()
  throw new PosthasteError('INVALID_DATA', 'occurredAt must be a valid Date between 1970 and 9999.', {
    errors: [{ path: 'occurredAt', message: 'must be a valid Date between 1970 and 9999' }],
  })
}

function checkIdempotencyKey(key: string | undefined): string | null {
  if (key === undefined) return null
  if (typeof key === 'string' && key.length > 0 && key.length <= 255 && isCleanText(key)) return key
  throw new PosthasteError(
    'IDEMPOTENCY_KEY_INVALID',
    'An idempotencyKey is 1 to 255 characters without control characters.',
  )
}

function isCleanText(text: string): boolean {
  return !CONTROL.test(text) && text.isWellFormed()
}
