import { describe, expect, test } from 'vitest'
import { shareOf, toCents, toRatePoints } from './money.ts'

describe('money', () => {
  test('amounts are whole cents', () => {
    expect([0, 0.01, 0.29, 1.1, 85.5, 570, 90071992547409].map((amount) => toCents(amount, 'x'))).toEqual([
      0, 1, 29, 110, 8550, 57000, 9007199254740900,
    ])
    for (const amount of [-1, 0.001, 85.555, Number.NaN, Number.POSITIVE_INFINITY, 1e15]) {
      expect(() => toCents(amount, 'x'), String(amount)).toThrow(/amount of money/)
    }
  })

  test('shares are rounded half up, to the cent', () => {
    expect([shareOf(57000, 1500), shareOf(1, 5000), shareOf(1, 4999), shareOf(1999, 1000)]).toEqual([8550, 1, 0, 200])
    expect(toRatePoints(12.25, 'x')).toBe(1225)
    for (const rate of [-0.01, 100.01, 1.005, Number.NaN]) expect(() => toRatePoints(rate, 'x')).toThrow(/percentage/)
  })
})
