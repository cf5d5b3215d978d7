/** A histogram of times whose buckets are 5 % wide, so that hours can be summed up and a percentile is right to within 2.5 %. */

const WIDTH = 1.05

export interface Percentiles {
  p50: number | null
  p90: number | null
  p99: number | null
}

export class LatencyHistogram {
  readonly #counts = new Map<number, number>()
  #total = 0

  /** Bucket b holds what took up to 1.05^b ms and more than 1.05^(b-1); bucket 0 what took up to 1 ms. */
  add(buckets: readonly number[], counts: readonly number[]): void {
    for (const [index, bucket] of buckets.entries()) {
      const count = counts[index] ?? 0
      this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + count)
      this.#total += count
    }
  }

  percentiles(): Percentiles {
    const [p50 = null, p90 = null, p99 = null] = this.#total === 0 ? [] : this.#valuesAt([0.5, 0.9, 0.99])
    return { p50, p90, p99 }
  }

  /** The smallest value that at least this share of all is not greater than. `shares` rise. */
  #valuesAt(shares: readonly number[]): number[] {
    const buckets = [...this.#counts].toSorted(([a], [b]) => a - b)
    const values: number[] = []
    let upto = 0
    for (const [bucket, count] of buckets) {
      upto += count
      while (values.length < shares.length && upto >= (shares[values.length] as number) * this.#total) {
        values.push(middleOf(bucket))
      }
    }
    return values
  }
}

function middleOf(bucket: number): number {
  const ms = bucket <= 0 ? 1 : WIDTH ** (bucket - 0.5)
  return ms < 100 ? Math.round(ms * 10) / 10 : Math.round(ms)
}
