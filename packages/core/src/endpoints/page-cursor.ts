/** Cursor pagination: newest first by time-ordered ids, so that pages neither repeat nor skip what stays. */
import * as z from 'zod'
import { invalidInput } from './validate-input.ts'

/** From the contract. */
export const MAX_PAGE_SIZE = 100
export const DEFAULT_PAGE_SIZE = 20

/** A part of a list, newest first. */
export interface Page<T> {
  data: T[]
  /** Give it back as `cursor` for what follows; null at the end. */
  next_cursor: string | null
}

export interface PageQuery {
  /** 1 to 100; default 20. */
  limit?: number | undefined
  /** `next_cursor` of the page before. */
  cursor?: string | undefined
}

export const pageQueryMembers = {
  limit: z.int().min(1).max(MAX_PAGE_SIZE).default(DEFAULT_PAGE_SIZE).describe('How many to answer at most.'),
  cursor: z.string().optional().describe('`next_cursor` of the page before.'),
}

export function pageSchema<S extends z.ZodType>(item: S) {
  return z.object({
    data: z.array(item),
    next_cursor: z.string().nullable().describe('Give it back as `cursor` for what follows; null at the end.'),
  })
}

const VERSION = 1

/** Opaque for clients: what it holds may change with the next release. */
export function encodeCursor(uuid: string): string {
  return Buffer.concat([Buffer.from([VERSION]), Buffer.from(uuid.replaceAll('-', ''), 'hex')]).toString('base64url')
}

/**
 * The uuid after which the page begins.
 *
 * @throws {PosthasteError} `VALIDATION_FAILED` for what is not a cursor of ours
 */
export function decodeCursor(cursor: string): string {
  const bytes = cursor.length < 64 ? Buffer.from(cursor, 'base64url') : Buffer.alloc(0)
  if (bytes.length !== 17 || bytes[0] !== VERSION || bytes.toString('base64url') !== cursor) {
    throw invalidInput('The query', [{ path: 'cursor', message: 'This is not a next_cursor of a page before.' }])
  }
  const hex = bytes.toString('hex', 1)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
