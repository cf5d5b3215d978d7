import { describe, expect, expectTypeOf, test } from 'vitest'
import * as z from 'zod'
import { isoDate, isRfc3339 } from './iso-date.ts'

describe('isRfc3339', () => {
  test.each([
    '2024-01-20T14:30:00Z',
    '2024-02-29T23:59:59.123456789+05:30',
    '2000-02-29t00:00:00z',
    '0000-01-01T00:00:00-00:00',
    new Date(0).toISOString(),
  ])('takes %s', (text) => {
    expect(isRfc3339(text)).toBe(true)
    expect(Number.isNaN(Date.parse(text))).toBe(false)
  })

  test.each([
    '2024-01-20',
    '2024-01-20T14:30Z',
    '2024-01-20T14:30:00',
    '2024-01-20 14:30:00Z',
    '2023-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '2024-04-31T00:00:00Z',
    '2024-13-01T00:00:00Z',
    '2024-01-20T24:00:00Z',
    '2024-01-20T14:30:60Z',
    '2024-01-20T14:30:00+24:00',
    '+010000-01-01T00:00:00Z',
    '2024-01-20T14:30:00Z\n',
    '',
  ])('refuses %j', (text) => {
    expect(isRfc3339(text)).toBe(false)
  })
})

test('hosts may give a Date, the schema sees text, and JSON Schema says date-time', () => {
  const schema = z.object({ at: isoDate(), later: isoDate().optional(), never: isoDate().nullable() })
  expectTypeOf<z.input<typeof schema>>().toEqualTypeOf<{
    at: Date | string
    later?: Date | string | undefined
    never: Date | string | null
  }>()
  expectTypeOf<z.output<typeof schema>['at']>().toEqualTypeOf<string>()
  expect(schema.safeParse({ at: '2024-01-20T14:30:00Z', never: null }).success).toBe(true)
  expect(schema.safeParse({ at: 'yesterday', never: null }).success).toBe(false)
  expect(z.toJSONSchema(schema, { io: 'input' }).properties?.at).toStrictEqual({ type: 'string', format: 'date-time' })
})
