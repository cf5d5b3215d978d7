import { PosthasteError } from './errors.ts'

/** Milliseconds, or a whole or decimal number with a unit: `'500ms'`, `'5s'`, `'30m'`, `'2h'`, `'1d'`. */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`

const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const FORM = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/

/**
 * A duration in ms.
 *
 * @throws PosthasteError CONFIG_INVALID for anything that is not a duration of at least 0, naming the option
 */
export function parseDuration(value: Duration, option: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value
  const match = typeof value === 'string' ? FORM.exec(value) : null
  if (match === null) {
    throw new PosthasteError(
      'CONFIG_INVALID',
      `${option} must be milliseconds or a text such as '5s', '30m' or '2h', not ${JSON.stringify(value)}.`,
    )
  }
  return Number(match[1]) * UNITS[match[2] as string]!
}
