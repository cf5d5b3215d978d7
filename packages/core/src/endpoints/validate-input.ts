/** From a zod schema's verdict to the error that the API answers and a host catches. */
import type * as z from 'zod'
import { ERROR_CODES, type ErrorCode, type FieldError, PosthasteError } from '../errors.ts'

/** Nobody reads more, and each may hold the list of all event types. */
const MAX_ERRORS = 20
const MAX_PATH_LENGTH = 200
/** Many times what any member may have. zod takes 20 µs for each, wrong ones included: half a second for what a body can hold. */
const MAX_MEMBERS = 1_000

/**
 * Parses `input`, or throws with all that is wrong. Where all of it has one code of ours (`SECRET_INVALID`,
 * `UNKNOWN_EVENT_TYPE`), that is the error's code, else `VALIDATION_FAILED`.
 *
 * @param what names the input in the message: "The endpoint"
 */
export function validateInput<S extends z.ZodType>(schema: S, input: unknown, what: string): z.output<S> {
  const crowded = crowdedMember(input)
  if (crowded !== null) {
    throw invalidInput(what, [{ path: crowded, message: `More than ${MAX_MEMBERS} members are never possible.` }])
  }
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

/** The path of an object with more members than any may have, at the top (empty) or right below it; null where there is none. */
function crowdedMember(input: unknown): string | null {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return null
  const members = Object.entries(input)
  if (members.length > MAX_MEMBERS) return ''
  const isCrowded = (value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > MAX_MEMBERS
  return members.find(([, value]) => isCrowded(value))?.[0].slice(0, MAX_PATH_LENGTH) ?? null
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
