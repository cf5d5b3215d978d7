/** The value below which the share `p` (0–1) of the sample lies, by the nearest rank. */
export function percentile(sample: readonly number[], p: number): number {
  if (sample.length === 0) return Number.NaN
  const sorted = [...sample].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] as number
}

/** The middle value; of an even number of values the mean of the two in the middle. */
export function median(sample: readonly number[]): number {
  if (sample.length === 0) return Number.NaN
  const sorted = [...sample].sort((a, b) => a - b)
  const middle = sorted.length / 2
  if (!Number.isInteger(middle)) return sorted[Math.floor(middle)] as number
  return ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

/** Rounds differ; the median with the smallest and the largest says by how much. */
export interface Spread {
  median: number
  min: number
  max: number
}

export function spread(sample: readonly number[]): Spread {
  return { median: median(sample), min: Math.min(...sample), max: Math.max(...sample) }
}

/** `0.81 (0.78–0.83)`; one round has no spread to show. */
export function formatSpread({ median: middle, min, max }: Spread, digits = 2): string {
  if (min === max) return middle.toFixed(digits)
  return `${middle.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`
}
