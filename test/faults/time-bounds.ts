/** Times that something may take. They are as promised; where one is missed, it is said whether the machine stood still meanwhile. */
import type { Bound, Evidence, Stall } from './testimony.ts'

/** How much of that time the machine gave the run nothing. */
export function stalledMs(stalls: readonly Stall[], from: number, to: number): number {
  let total = 0
  for (const stall of stalls) {
    const common = Math.min(to, stall.to) - Math.max(from, stall.from)
    if (common > 0) total += Math.min(stall.ms, common)
  }
  return total
}

/** `missed`: also without the time that the machine stalled. `stalled`: missed by no more than that; this is not judged. */
export function judgeBound({ stalls }: Pick<Evidence, 'stalls'>, { from, to, withinMs }: Bound) {
  if (to - from <= withinMs) return 'kept'
  return to - from - stalledMs(stalls, from, to) > withinMs ? 'missed' : 'stalled'
}

export function describeBound({ stalls }: Pick<Evidence, 'stalls'>, { what, from, to, withinMs }: Bound): string {
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`
  const during = stalls.filter((stall) => stall.to > from && stall.from < to)
  const worst = during.toSorted((a, b) => b.ms - a.ms)[0]
  const machine =
    worst === undefined
      ? 'the machine did not stall'
      : `the machine stalled ${seconds(stalledMs(stalls, from, to))} of it, ${Math.round(worst.ms)} ms at once for ${worst.who}`
  return `${what} took ${seconds(to - from)}, bound ${seconds(withinMs)}; ${machine}`
}
