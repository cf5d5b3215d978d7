import { type Duration, parseDuration } from '../duration.ts'
import { PosthasteError } from '../errors.ts'

/**
 * Delays after each failed attempt: ten attempts over about 75.6 hours, the example of the Standard Webhooks
 * specification ("Deliverability and reliability").
 */
export const DEFAULT_RETRY_SCHEDULE: readonly Duration[] = ['5s', '5m', '30m', '2h', '5h', '10h', '14h', '20h', '24h']

/** Jitter only delays: a receiver is never asked again earlier than the schedule says. */
const JITTER = 0.1

export interface RetrySchedule {
  /**
   * How long after the failure of step `step` (0 is the first attempt) the next one is due, in ms with up to 10 % jitter
   * upwards; null where the schedule is at its end.
   */
  delayAfter(step: number, type: string): number | null
}

export interface RetryScheduleOptions {
  schedule: readonly Duration[]
  /** Other schedules for some event types. */
  byEventType: Readonly<Record<string, readonly Duration[]>>
  /** 0 ≤ x < 1; the source of jitter. */
  random: () => number
}

/** @throws PosthasteError CONFIG_INVALID for a schedule of more than 100 delays or with something that is no duration */
export function createRetrySchedule({ schedule, byEventType, random }: RetryScheduleOptions): RetrySchedule {
  const standard = parse(schedule, 'retrySchedule')
  const special = new Map(
    Object.entries(byEventType).map(([type, delays]) => [type, parse(delays, `retrySchedules['${type}']`)] as const),
  )
  return {
    delayAfter(step, type) {
      const delay = (special.get(type) ?? standard)[step]
      return delay === undefined ? null : Math.round(delay * (1 + JITTER * random()))
    },
  }
}

function parse(schedule: readonly Duration[], option: string): number[] {
  if (!Array.isArray(schedule) || schedule.length > 100) {
    throw new PosthasteError(
      'CONFIG_INVALID',
      `${option} must be a list of at most 100 delays, such as ['5s', '5m', '2h'].`,
    )
  }
  return schedule.map((delay, index) => parseDuration(delay, `${option}[${index}]`))
}
