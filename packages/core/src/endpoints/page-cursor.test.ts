import { expect, test } from 'vitest'
import { decodeCursor, encodeCursor } from './page-cursor.ts'

const UUID = '0192f0c4-a5b8-7d3e-9f10-a2b3c4d5e6f7'

test('a cursor comes back as the uuid that it was made of', () => {
  expect(decodeCursor(encodeCursor(UUID))).toBe(UUID)
})

test.each([
  '',
  'x',
  UUID,
  `${encodeCursor(UUID)}=`,
  ` ${encodeCursor(UUID)}`,
  encodeCursor(UUID).slice(1),
  'A'.repeat(10_000),
])('%j is none', (cursor) => {
  expect(() => decodeCursor(cursor)).toThrow(expect.objectContaining({ code: 'VALIDATION_FAILED' }))
})
