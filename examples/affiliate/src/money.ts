import { ProgramError } from './errors.ts'

/**
 * Money is whole cents inside, in the database and in every sum, and a JSON number of the currency's unit (`85.5`) where
 * it leaves the program. Rates are whole hundredths of a percent inside (1,500 for 15 %).
 */

/** Cents of an amount such as 85.5. Refuses negative amounts, more than two decimals, and what a double cannot hold. */
export function toCents(amount: number, name: string): number {
  const cents = Math.round(amount * 100)
  // A double is the nearest one to at most one amount of whole cents, so this holds exactly when no fraction was cut off.
  if (!Number.isSafeInteger(cents) || cents < 0 || cents / 100 !== amount) {
    throw new ProgramError('INVALID_INPUT', `${name} must be an amount of money such as 85.5, not ${amount}.`)
  }
  return cents
}

/** The number that goes into JSON: 8550 → 85.5. */
export function toAmount(cents: number): number {
  return cents / 100
}

/** Hundredths of a percent of a rate such as 15 or 12.25. */
export function toRatePoints(percent: number, name: string): number {
  const points = Math.round(percent * 100)
  if (!(points >= 0 && points <= 10_000) || points / 100 !== percent) {
    throw new ProgramError('INVALID_INPUT', `${name} must be a percentage from 0 to 100 with at most two decimals.`)
  }
  return points
}

/** The share of an amount, rounded half up to whole cents. */
export function shareOf(cents: number, ratePoints: number): number {
  return Number((BigInt(cents) * BigInt(ratePoints) + 5_000n) / 10_000n)
}

/** A `bigint` column as the driver gives it (text by default) to a number; every amount of ours fits. */
export function fromColumn(value: string | number | bigint | null): number {
  const cents = Number(value ?? 0)
  if (!Number.isSafeInteger(cents)) throw new RangeError(`${value} cents do not fit a number.`)
  return cents
}
