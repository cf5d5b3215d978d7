import { expect, test } from 'vitest'
import { isSameSecret } from './same-secret.ts'

test.each([
  ['a secret', 'a secret', true],
  ['', '', true],
  ['a secret', 'a secreT', false],
  ['a secret', 'a secret ', false],
  ['é', 'e\u0301', false],
])('%j and %j', (given, stored, same) => {
  expect(isSameSecret(given, stored)).toBe(same)
})
