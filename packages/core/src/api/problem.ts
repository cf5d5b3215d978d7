/** Errors as answers: `application/problem+json` of RFC 9457, with a stable `code`. */
import { STATUS_CODES } from 'node:http'
import * as z from 'zod'
import { type ErrorCode, PosthasteError } from '../errors.ts'
import { jsonResponse } from './json-response.ts'

export const problemSchema = z.object({
  type: z.literal('about:blank'),
  title: z.string(),
  status: z.int(),
  code: z.string().meta({
    description: 'Stable: switch on this. A later version may have more of them.',
    examples: ['VALIDATION_FAILED', 'URL_REFUSED', 'UNKNOWN_EVENT_TYPE', 'NOT_FOUND', 'FORBIDDEN'],
  }),
  detail: z.string().describe('For people: what is wrong and what to do.'),
  errors: z
    .array(z.object({ path: z.string().describe('Members joined by dots.'), message: z.string() }))
    .optional()
    .describe('All that is wrong with the input.'),
})

/** A restart of Postgres takes about as long, in seconds. */
const RETRY_AFTER_SECONDS = 5

const UNAVAILABLE = new PosthasteError(
  'UNAVAILABLE',
  'This service cannot reach what it needs at the moment. Try again in a few seconds.',
  { headers: { 'retry-after': String(RETRY_AFTER_SECONDS) } },
)

const INTERNAL = new PosthasteError('INTERNAL', 'Something went wrong here; it has been logged. Try again later.')

/** Whether this is of the caller's making, so that its message may be shown. */
export function isCallersError(error: unknown): error is PosthasteError {
  return error instanceof PosthasteError && error.status < 500
}

/** The answer to an error. Of errors that are ours, nothing but that they are is told, and whether they may pass. */
export function problemResponse(error: unknown): Response {
  const shown = isCallersError(error) ? error : isPassing(error) ? UNAVAILABLE : INTERNAL
  return jsonResponse(shown.status, problemBody(shown.code, shown), {
    ...shown.headers,
    'content-type': 'application/problem+json',
  })
}

/** The database is away, or not migrated yet. */
function isPassing(error: unknown): boolean {
  return error instanceof PosthasteError && error.status === 503
}

function problemBody(code: ErrorCode, { status, message, errors }: PosthasteError) {
  const title = STATUS_CODES[status] ?? 'Error'
  return { type: 'about:blank', title, status, code, detail: message, ...(errors === undefined ? {} : { errors }) }
}
