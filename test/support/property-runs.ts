/** How often property tests run, and on which cases. */
import type { Parameters } from 'fast-check'

/** Any number will do. */
const SEED = 20_240_120

const TIMES = Number(process.env.PROPERTY_RUNS ?? 1)

/** In ms. For property tests that talk to a database; far more than any takes. */
export const PROPERTY_TIMEOUT = 180_000 * TIMES

/**
 * A fixed seed: the same cases on every run, on every machine, so that a change is judged by what it changed. To look
 * further, `PROPERTY_SEED=random` takes another each time and `PROPERTY_SEED=7` that one; `PROPERTY_RUNS=10` makes ten
 * times as many cases.
 */
export function propertyRuns(numRuns: number): Pick<Parameters, 'seed' | 'numRuns'> {
  const { PROPERTY_SEED: seed } = process.env
  return {
    seed: seed === 'random' ? Math.floor(Math.random() * 2 ** 31) : Number(seed ?? SEED),
    numRuns: numRuns * TIMES,
  }
}
