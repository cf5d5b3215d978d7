import { describe, expect, test } from 'vitest'
import { LatencyHistogram } from './latency-histogram.ts'

const bucketOf = (ms: number) => Math.ceil(Math.log(Math.max(ms, 1)) / Math.log(1.05))

describe('LatencyHistogram', () => {
  test('is right to within 2.5 % over hours of different sizes', () => {
    const histogram = new LatencyHistogram()
    const values: number[] = []
    for (let hour = 1; hour <= 5; hour++) {
      const counts = new Map<number, number>()
      for (let n = 0; n < hour * 400; n++) {
        const ms = 2 + ((n * 7919) % 9973) * hour * 0.3
        values.push(ms)
        counts.set(bucketOf(ms), (counts.get(bucketOf(ms)) ?? 0) + 1)
      }
      histogram.add([...counts.keys()], [...counts.values()])
    }
    values.sort((a, b) => a - b)
    const exact = (share: number) => values[Math.ceil(share * values.length) - 1] as number
    const { p50, p90, p99 } = histogram.percentiles()
    for (const [found, share] of [
      [p50, 0.5],
      [p90, 0.9],
      [p99, 0.99],
    ] as const) {
      expect(Math.abs((found as number) / exact(share) - 1)).toBeLessThan(0.026)
    }
  })

  test('has no percentiles of nothing, and all alike of one value', () => {
    const histogram = new LatencyHistogram()
    expect(histogram.percentiles()).toEqual({ p50: null, p90: null, p99: null })
    histogram.add([bucketOf(40)], [1])
    const { p50, p90, p99 } = histogram.percentiles()
    expect([p90, p99]).toEqual([p50, p50])
    expect(p50).toBeGreaterThan(39)
    expect(p50).toBeLessThan(41)
  })
})
