/**
 * Every error that Posthaste raises on purpose. Codes are stable and part of the public API; messages say what to do and
 * may change. `status` is the HTTP status that the management API answers with.
 */
export const ERROR_CODES = {
  // configuration and life cycle
  CONFIG_INVALID: 500,
  NODE_TOO_OLD: 500,
  NOT_MIGRATED: 503,
  SCHEMA_NEWER: 503,
  UNAVAILABLE: 503,
  INSTALLATION_MISMATCH: 409,
  ALREADY_STARTED: 409,
  STOPPED: 409,
  QUEUE_UNAVAILABLE: 503,
  // emitting
  NO_TRANSACTION: 500,
  INVALID_TRANSACTION: 500,
  ACCOUNT_REQUIRED: 400,
  ACCOUNT_INVALID: 400,
  UNKNOWN_EVENT_TYPE: 422,
  INVALID_EVENT_TYPE: 500,
  INVALID_DATA: 422,
  NOT_JSON: 422,
  PAYLOAD_TOO_LARGE: 413,
  IDEMPOTENCY_KEY_INVALID: 422,
  // receiving
  WEBHOOK_ID_MISSING: 400,
  // secrets
  SECRET_INVALID: 422,
  SECRET_UNREADABLE: 500,
  // management API
  VALIDATION_FAILED: 422,
  URL_REFUSED: 422,
  MALFORMED_JSON: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  CONFLICT: 409,
  BODY_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  IDEMPOTENCY_KEY_REUSED: 422,
  ENDPOINT_LIMIT_REACHED: 409,
  ENDPOINT_NOT_ACTIVE: 409,
  REPLAY_RUNNING: 409,
  INTERNAL: 500,
} as const

export type ErrorCode = keyof typeof ERROR_CODES

/** One thing that is wrong with the input: where (`path`, members joined by dots) and what. */
export interface FieldError {
  path: string
  message: string
}

export interface PosthasteErrorOptions {
  /** The list of what is wrong, for validation errors. */
  errors?: FieldError[]
  cause?: unknown
  /** HTTP headers that belong to the answer (`Allow`, `WWW-Authenticate`). */
  headers?: Record<string, string>
}

/** Raised for everything that the caller can mend. Switch on `code`. */
export class PosthasteError extends Error {
  override readonly name = 'PosthasteError'
  readonly code: ErrorCode
  readonly status: number
  readonly errors: FieldError[] | undefined
  readonly headers: Record<string, string> | undefined

  constructor(code: ErrorCode, message: string, options: PosthasteErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.status = ERROR_CODES[code]
    this.errors = options.errors
    this.headers = options.headers
  }
}

/**
 * Also of another realm: jest runs tests, and us with them, in a context of its own, whose `Error` is not that of Node's own
 * modules. A refused connection would be no error there.
 */
export function isError(value: unknown): value is Error {
  return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]'
}
