/** Whose data is meant: an account's, or whatever events say about somebody. */
import { PosthasteError } from '../errors.ts'

/**
 * All of one account: its endpoints, events and everything that belongs to them. Or the events whose data has this value at this
 * path, of one account or of all: `{ member: 'affiliate_id', value: 456 }`. A path's members are joined by dots; arrays on the way
 * match with any element. `456` and `'456'` are the same.
 */
export type DataSubject =
  | { account: string; member?: undefined; value?: undefined }
  | { account?: string; member: string; value: string | number }

/** @throws PosthasteError VALIDATION_FAILED */
export function checkSubject(given: unknown): DataSubject {
  const { account, member, value } = (given ?? {}) as Record<string, unknown>
  const errors = []
  if (account !== undefined && (typeof account !== 'string' || account === '')) {
    errors.push({ path: 'account', message: 'must be the name of an account' })
  }
  if (member === undefined && account === undefined) {
    errors.push({ path: 'account', message: 'say whose data: an account, or a member of the data and its value' })
  }
  if (member !== undefined && (typeof member !== 'string' || !/^[^.]+(\.[^.]+)*$/.test(member))) {
    errors.push({
      path: 'member',
      message: "must be a path in the events' data, such as 'affiliate_id' or 'customer.id'",
    })
  }
  const usable = (typeof value === 'string' && value !== '') || (typeof value === 'number' && Number.isFinite(value))
  if ((member !== undefined && !usable) || (member === undefined && value !== undefined)) {
    errors.push({ path: 'value', message: 'must be the text or number to look for, together with member' })
  }
  if (errors.length > 0) {
    throw new PosthasteError('VALIDATION_FAILED', `Whose data is not said well: ${errors[0]!.message}.`, { errors })
  }
  return given as DataSubject
}

/** What the JSON text of matching data contains: most others are so passed over without being parsed. */
export function needleOf(value: string | number): string {
  return JSON.stringify(String(value)).slice(1, -1)
}

/** Whether the data has the value at the path. */
export function isAbout(dataText: string, member: string, value: string | number): boolean {
  return matches(JSON.parse(dataText), member.split('.'), String(value))
}

function matches(at: unknown, path: readonly string[], value: string): boolean {
  if (Array.isArray(at)) return at.some((element) => matches(element, path, value))
  const [member, ...rest] = path
  if (member === undefined) return (typeof at === 'string' || typeof at === 'number') && String(at) === value
  if (typeof at !== 'object' || at === null || !Object.hasOwn(at, member)) return false
  return matches((at as Record<string, unknown>)[member], rest, value)
}
