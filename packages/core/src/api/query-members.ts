/** Members of a query, which come as text; in the document they have the type that the text stands for. */
import * as z from 'zod'
import { DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE } from '../endpoints/page-cursor.ts'

export function flag(description: string) {
  return z
    .enum(['true', 'false'])
    .transform((text) => text === 'true')
    .optional()
    .meta({ description, parameter: { type: 'boolean' } })
}

function wholeNumber(min: number, max: number) {
  return z
    .string()
    .regex(/^\d{1,9}$/, 'Expected a whole number.')
    .transform(Number)
    .pipe(z.int().min(min).max(max))
}

/** `limit` and `cursor` of every list. */
export const pageQuery = {
  limit: wholeNumber(1, MAX_PAGE_SIZE)
    .optional()
    .meta({
      description: 'How many to answer at most.',
      parameter: { type: 'integer', minimum: 1, maximum: MAX_PAGE_SIZE, default: DEFAULT_PAGE_SIZE },
    }),
  cursor: z.string().optional().meta({ description: '`next_cursor` of the page before.' }),
}
