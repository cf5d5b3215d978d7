/** What happens in one run, when, and to whom. Made from the seed alone; only how long things really take varies. */
import type { Duration } from '@posthaste/core'
import { seededRandom } from './random.ts'

/** Short, so that a run is over soon. The second: so short that deliveries fail for good, and can be asked for again. */
const RETRY_SCHEDULES = [
  ['300ms', '600ms', '1s', '2s', '4s', '8s'],
  ['200ms', '300ms'],
] as const satisfies Duration[][]

/** Every fault, with the least and most ms that it lasts. */
export const FAULTS = {
  'worker-killed': [0, 1_500],
  'worker-killed-unrecorded': [200, 800],
  'worker-frozen': [3_500, 5_500],
  'worker-stopped': [0, 1_500],
  deploy: [0, 0],
  'host-killed': [0, 1_000],
  'host-commits-late': [2_000, 6_000],
  'postgres-fast': [100, 2_500],
  'postgres-immediate': [100, 2_500],
  'postgres-killed': [100, 2_500],
  'disk-full': [1_000, 3_000],
  'connections-cut': [300, 1_500],
  'connections-full': [800, 2_500],
  'read-only': [500, 2_500],
  'statement-timeout': [500, 2_500],
  'tables-locked': [500, 2_500],
  'black-hole': [1_000, 4_000],
  'clock-forward': [0, 0],
  'clock-back': [0, 0],
  'dns-fails': [500, 2_500],
  'receiver-killed': [300, 2_500],
  'receiver-hangs': [500, 2_500],
  'receiver-resets': [500, 2_500],
  'receiver-slow': [500, 3_000],
  'receiver-fails': [500, 3_000],
  'receiver-refuses': [500, 2_000],
  'receiver-gone': [300, 1_500],
  'endpoint-disabled': [300, 2_500],
  'endpoint-deleted': [0, 0],
  'endpoint-moved': [0, 0],
  'endpoint-rotated': [0, 0],
  'replay-failed': [1_500, 3_000],
  'replay-missing': [300, 2_000],
  'replay-all': [0, 0],
  'replay-cancelled': [200, 2_000],
  'replay-worker-killed': [200, 2_000],
  'retried-by-hand': [500, 2_500],
  'retried-worker-killed': [300, 1_500],
} as const satisfies Record<string, readonly [least: number, most: number]>

export type FaultName = keyof typeof FAULTS
export const FAULT_NAMES = Object.keys(FAULTS) as FaultName[]

export interface Step {
  atMs: number
  forMs: number
  fault: FaultName
  /** 0 ≤ x < 1: which worker, host, receiver or endpoint. */
  victim: number
  /** 0 ≤ x < 1: what else the fault has to choose. */
  choice: number
}

export interface EndpointPlan {
  ordering: 'none' | 'fifo'
  maxConcurrency: number | null
  /** Per second. */
  rateLimit: number | null
  receiver: number
}

export interface Schedule {
  seed: number
  /** How long hosts emit. */
  activeMs: number
  workers: number
  hosts: number
  receivers: number
  jobEngine: boolean
  retrySchedule: readonly Duration[]
  endpoints: EndpointPlan[]
  steps: Step[]
}

export interface ScheduleOptions {
  seed: number
  seconds: number
  /** Only these faults. Default: all. */
  only?: readonly FaultName[]
  /** One fault and no other, for measurements. Default false. */
  alone?: boolean
}

/** Before the first fault, and after the start of the last one. */
const QUIET_MS = 1_000

export function makeSchedule({ seed, seconds, only = FAULT_NAMES, alone = false }: ScheduleOptions): Schedule {
  const random = seededRandom(seed)
  const activeMs = seconds * 1_000
  const receivers = random.between(1, 2)
  const endpoints = Array.from({ length: random.between(5, 9) }, (_, index): EndpointPlan => {
    const kind = index === 0 ? 0 : random.next()
    return {
      ordering: kind > 0.8 ? 'fifo' : 'none',
      maxConcurrency: kind > 0.6 && kind < 0.7 ? random.between(1, 3) : null,
      rateLimit: kind > 0.7 && kind < 0.8 ? random.between(60, 120) : null,
      receiver: random.between(0, receivers - 1),
    }
  })
  const step = (fault: FaultName): Step => {
    const [least, most] = FAULTS[fault]
    return {
      atMs: random.between(QUIET_MS, Math.max(QUIET_MS, activeMs - QUIET_MS)),
      forMs: random.between(least, most),
      fault,
      victim: random.next(),
      choice: random.next(),
    }
  }
  // Seeds in turn begin with every fault in turn, so that none is left out; what joins it is chance.
  const steps = [step(only[seed % only.length] as FaultName)]
  for (let more = alone ? 0 : random.between(1, 5); more > 0; more--) steps.push(step(random.pick(only)))
  return {
    seed,
    activeMs,
    workers: random.between(2, 3),
    hosts: random.between(1, 2),
    receivers,
    jobEngine: random.chance(0.3),
    retrySchedule: random.chance(0.6) ? RETRY_SCHEDULES[0] : RETRY_SCHEDULES[1],
    endpoints,
    steps: steps.toSorted((a, b) => a.atMs - b.atMs),
  }
}

/** One line for each step, as `test:faults` prints it. */
export function describeSchedule({
  seed,
  workers,
  hosts,
  receivers,
  endpoints,
  jobEngine,
  retrySchedule,
  steps,
}: Schedule): string {
  const stage = `seed ${seed}: ${workers} workers${jobEngine ? ' with job engine' : ''}, ${hosts} hosts, ${receivers} receivers, ${endpoints.length} endpoints (${endpoints.filter(({ ordering }) => ordering === 'fifo').length} fifo), ${retrySchedule.length} retries`
  const lines = steps.map(
    ({ atMs, forMs, fault }) =>
      `  ${(atMs / 1000).toFixed(1).padStart(5)} s  ${fault}${forMs > 0 ? ` for ${forMs} ms` : ''}`,
  )
  return [stage, ...lines].join('\n')
}
