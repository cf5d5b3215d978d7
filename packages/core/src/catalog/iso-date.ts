import * as z from 'zod'

const RFC_3339 =
  /^(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$/

/**
 * A date and time in RFC 3339 section 5.6 (`2024-01-20T14:30:00Z`, `2024-01-20T15:30:00.5+01:00`), on a day that exists.
 * Leap seconds (`:60`) are refused, because most receivers' parsers refuse them.
 */
export function isRfc3339(text: string): boolean {
  const match = RFC_3339.exec(text)
  if (match === null) return false
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])]
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0
  return day <= (month === 2 ? (leap ? 29 : 28) : month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31)
}

/**
 * Schema of a date in an event's `data`. The host may give a `Date` or RFC 3339 text; the receiver gets text. Validation
 * runs on the wire form, where every `Date` has become text already, so this is a check on strings without a transform, and
 * its JSON Schema is `{ "type": "string", "format": "date-time" }`.
 */
export function isoDate(): z.ZodType<string, Date | string> {
  // Only the static input type differs from the schema's own: see above for where a Date goes.
  return z.stringFormat('datetime', isRfc3339, {
    error: 'Expected a date and time in RFC 3339, such as 2024-01-20T14:30:00Z, or a Date.',
  }) as unknown as z.ZodType<string, Date | string>
}
