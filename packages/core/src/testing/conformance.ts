/** Cases that somebody else's code must pass, apart from any test runner: they run one by one, and a report says how it went. */
import { isError } from '../errors.ts'

export interface ConformanceCase<Context> {
  /** What is expected, as a sentence without its subject: `refuses a tampered body`. */
  readonly name: string
  /** Rejects with an Error that says what was wrong. `Skip` where it does not apply. */
  run(context: Context): Promise<void>
}

/** Thrown by a case that does not apply, with the reason. */
export class Skip extends Error {}

export interface CaseResult {
  name: string
  outcome: 'passed' | 'failed' | 'skipped'
  /** Why it failed or was skipped. */
  detail: string | null
  ms: number
}

export interface ConformanceReport {
  /** Nothing failed. */
  passed: boolean
  results: CaseResult[]
  /** One line for each case, for people. */
  toString(): string
}

/** A case that takes longer hangs. */
const MOST_MS = 60_000

/** Runs the cases one after the other, all of them whatever fails. */
export async function runCases<Context>(
  cases: readonly ConformanceCase<Context>[],
  context: Context,
): Promise<ConformanceReport> {
  const results: CaseResult[] = []
  for (const one of cases) {
    const at = performance.now()
    const [outcome, detail] = await runCase(one, context)
    results.push({ name: one.name, outcome, detail, ms: Math.round(performance.now() - at) })
  }
  return {
    passed: results.every(({ outcome }) => outcome !== 'failed'),
    results,
    toString: () => results.map(lineOf).join('\n'),
  }
}

async function runCase<Context>(
  { run }: ConformanceCase<Context>,
  context: Context,
): Promise<[CaseResult['outcome'], string | null]> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    reject(
      new Error(
        `it did not end within ${MOST_MS / 1000} s; does it need a connection that another of its transactions holds?`,
      ),
    )
  }, MOST_MS)
  try {
    await Promise.race([run(context), late])
    return ['passed', null]
  } catch (error) {
    const message = isError(error) ? error.message : String(error)
    return [error instanceof Skip ? 'skipped' : 'failed', message]
  } finally {
    clearTimeout(timer)
  }
}

const MARKS = { passed: '✓', failed: '✗', skipped: '–' } as const

function lineOf({ name, outcome, detail, ms }: CaseResult): string {
  return `${MARKS[outcome]} ${name} (${ms} ms)${detail === null ? '' : `: ${detail}`}`
}
