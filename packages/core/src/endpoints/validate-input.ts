/** From a zod schema's verdict to the error that the API answers and a host catches. */
import type * as z from 'zod'
import { ERROR_CODES, type ErrorCode, type FieldError, PosthasteError } from '../errors.ts'

/** Nobody reads more, and each may hold the list of all event types. */
const MAX_ERRORS = 20
const MAX_PATH_LENGTH = 200

/**
 * Parses `input`, or throws with all that is wrong. Where all of it has one code of ours (`SECRET_INVALID`,
 * `UNKNOWN_EVENT_TYPE`), that is the error's code, else `VALIDATION_FAILED`.
 *
 * @param what names the input in the message: "The endpoint"
 */
export function validateInput<S extends z.ZodType>(schema: S, input: unknown, what: string): z.output<S> {
  const result = schema.safeParse(input, { error: ownMessage })
  if (result.success) return result.data
  const issues = result.error.issues.slice(0, MAX_ERRORS)
  const codes = new Set(issues.map(codeOf))
  const [code = 'VALIDATION_FAILED'] = codes.size === 1 ? codes : []
  throw invalidInput(what, issues.map(fieldError), code)
}

export function invalidInput(
  what: string,
  errors: FieldError[],
  code: ErrorCode = 'VALIDATION_FAILED',
): PosthasteError {
  const list = errors.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join(' ')
  return new PosthasteError(code, `${what} is not valid. ${list}`, { errors })
}

/** Where zod's own words do not say what to do. */
function ownMessage(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === 'invalid_type' && issue.input === undefined) return 'This is required.'
  if (issue.code === 'invalid_key')
    return `The member's name cannot be: ${issue.issues[0]?.message ?? 'it is not valid.'}`
  return undefined
}

function fieldError(issue: z.core.$ZodIssue): FieldError {
  return { path: issue.path.map(String).join('.').slice(0, MAX_PATH_LENGTH), message: issue.message.slice(0, 2_000) }
}

function codeOf(issue: z.core.$ZodIssue): ErrorCode {
  const code: unknown = issue.code === 'custom' ? issue.params?.errorCode : undefined
  return typeof code === 'string' && Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'VALIDATION_FAILED'
}
