import { describe, expect, test } from 'vitest'
import { PosthasteError } from '../errors.ts'
import { typedDatabaseError } from './unavailable.ts'

const withCode = (code: unknown) => Object.assign(new Error('it says this'), { code })
const codeOf = (error: unknown) => (typedDatabaseError(error) as { code: unknown }).code

describe('an error of the database', () => {
  test.each(['ECONNREFUSED', 'ENOTFOUND', 'CONNECT_TIMEOUT', 'CONNECTION_CLOSED', 'CONNECTION_ENDED', 'ENOENT'])(
    'is UNAVAILABLE where Node or the driver says %s',
    (code) => expect(codeOf(withCode(code))).toBe('UNAVAILABLE'),
  )

  test.each([
    '08006',
    '25006',
    '28P01',
    '3D000',
    '40P01',
    '40001',
    '53300',
    '53100',
    '55P03',
    '57014',
    '57P01',
    '57P03',
  ])('is UNAVAILABLE where the server says %s', (code) => expect(codeOf(withCode(code))).toBe('UNAVAILABLE'))

  test.each(['42P01', '42703', '42883', '3F000'])('is NOT_MIGRATED where the server says %s', (code) => {
    const typed = typedDatabaseError(withCode(code)) as PosthasteError
    expect([typed.code, typed.status]).toEqual(['NOT_MIGRATED', 503])
    expect(typed.message).toContain('it says this')
    expect(typed.cause).toBeInstanceOf(Error)
  })

  test.each(['23505', '22P02', '42501', '25P02', 'ERR_INVALID_ARG_TYPE', 42, undefined])(
    'is itself where it says %s: a mistake is not to look like an outage',
    (code) => {
      const error = withCode(code)
      expect(typedDatabaseError(error)).toBe(error)
    },
  )

  test('stays as it is where it is ours already, or no error at all', () => {
    const ours = new PosthasteError('NOT_FOUND', 'There is none.')
    expect(typedDatabaseError(ours)).toBe(ours)
    expect(typedDatabaseError('ECONNREFUSED')).toBe('ECONNREFUSED')
  })
})
