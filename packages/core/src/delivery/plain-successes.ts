import type { Outcome } from './recorded-outcome.ts'

/**
 * A success at the first try, of which nothing is kept but status, timings and who signed it: nearly all outcomes are this. It
 * changes nothing in `retries`, so it needs few columns and goes as arrays, which Postgres reads at two thirds of the cost of JSON
 * (measured with 300 rows: 11.5 µs of Postgres for each instead of 16.5).
 */
export function isPlainSuccess(
  { attempt, succeeded, final, retryStep, next, besideSchedule, again }: Outcome,
  keepResponses: 'failed' | 'all' | 'none',
): boolean {
  if (!succeeded || !final || again || besideSchedule || keepResponses === 'all') return false
  return attempt.secretNumber !== null && retryStep === null && next === null
}

/** Names, types and order of what `plainSuccessArrays` makes. */
const COLUMNS = [
  ['delivery_id', 'uuid'],
  ['number', 'int'],
  ['endpoint', 'int'],
  ['step', 'smallint'],
  ['status', 'smallint'],
  ['at', 'float8'],
  ['dns', 'real'],
  ['connect', 'real'],
  ['tls', 'real'],
  ['first_byte', 'real'],
  ['total', 'real'],
  ['secret_number', 'int'],
] as const

/** The columns and casts of an `unnest` of the arrays, whose first is parameter `$first`. */
export function plainSuccessRows(first: number): string {
  const arrays = COLUMNS.map(([, type], index) => `$${first + index}::${type}[]`)
  return `unnest(${arrays.join(', ')}) x(${COLUMNS.map(([name]) => name).join(', ')})`
}

/** One array for each column, as Postgres reads it (PostgreSQL, section 8.15.2): none of the values needs quotes. */
export function plainSuccessArrays(outcomes: readonly Outcome[]): string[] {
  const columns: (string | number)[][] = COLUMNS.map(() => [])
  for (const { item, step, attempt } of outcomes) {
    const { timings } = attempt.result
    const values = [
      item.id,
      attempt.number,
      item.endpoint.no,
      step,
      attempt.result.kind === 'response' ? attempt.result.statusCode : null,
      attempt.atMs,
      timings.dns,
      timings.connect,
      timings.tls,
      timings.firstByte,
      timings.total,
      attempt.secretNumber,
    ]
    for (const [column, value] of values.entries()) columns[column]!.push(value ?? 'NULL')
  }
  return columns.map((values) => `{${values.join(',')}}`)
}
