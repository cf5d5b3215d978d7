import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Logger } from '../logger.ts'
import type { Sql } from '../storage/connection.ts'
import { LookPace } from './look-pace.ts'

/** What one look did. */
export interface DispatchStep {
  /** The newest row of `dispatches`; null: another process was dispatching at that moment. */
  n: number | null
  events: number
  deliveries: number
  commands: number
  /** The page was full: look again at once. */
  more: boolean
}

const NOTHING: DispatchStep = { n: null, events: 0, deliveries: 0, commands: 0, more: false }

/** A page is cut at this many events, or at this many matches (an event may match 50,000 endpoints). */
const EVENTS_PER_PAGE = 1_000
const MATCHES_PER_PAGE = 2_000

/**
 * One look for what was committed since the last, one page of it. Safe to call from any number of processes at once: one of
 * them works, and none of another installation than the one that the database belongs to.
 */
export async function dispatchOnce(sql: Sql, schema: string, installation: string): Promise<DispatchStep> {
  const [row] = await sql`
    select n, events, deliveries, commands, more from ${sql(schema)}.dispatch(${EVENTS_PER_PAGE}, ${MATCHES_PER_PAGE}, ${installation})`
  return row === undefined ? NOTHING : (row as unknown as DispatchStep)
}

export interface DispatcherOptions {
  sql: Sql
  schema: string
  installation: string
  loops: Loops
  logger: Logger
  /** Whether this process is the one that looks often; others look once a second, and after their own emits. */
  leads(): boolean
  onDispatched(step: DispatchStep): void
  /** Each look that was this process's turn: the newest row of `dispatches` then. */
  onLooked?(n: number): void
}

export interface Dispatcher {
  /** Something of this process is about to be committed. */
  nudge(): void
  start(): void
  stop(): Promise<void>
}

/**
 * After a nudge looks are dense, since the commit comes within milliseconds; then they thin out. The pauses after a find let
 * commits of the next milliseconds share a page: at 500 events/s that halves Postgres' work and costs 7 ms at the median.
 */
const PAUSE_AFTER_FIND_MS = 15
const DENSE: readonly { forMs: number; pauseMs: number }[] = [
  { forMs: 50, pauseMs: 3 },
  { forMs: 1_000, pauseMs: 12 },
]
/** Of whoever leads, while nothing comes: 13 looks a second. */
const LEADER_PAUSE_MS = 75
const FOLLOWER_PAUSE_MS = 1_000

/** Repeats `dispatchOnce` as often as is useful. */
export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { sql, schema, installation, loops, logger, leads, onDispatched, onLooked } = options
  let loop: BackgroundLoop | null = null
  let nudgedAt = Number.NEGATIVE_INFINITY
  const pace = new LookPace()

  function pauseMs(): number {
    const now = loops.monotonic()
    const since = now - nudgedAt
    for (const { forMs, pauseMs } of DENSE) {
      if (since < forMs) return Math.max(pauseMs, PAUSE_AFTER_FIND_MS - pace.sinceFound(now))
    }
    return leads() ? pace.pauseMs(now, LEADER_PAUSE_MS) : FOLLOWER_PAUSE_MS
  }

  return {
    nudge() {
      const now = loops.monotonic()
      const idle = now - nudgedAt > DENSE[0]!.forMs
      nudgedAt = now
      // Within the dense phase the loop comes round by itself; waking it for every emit would be a look per emit.
      if (idle) loop?.wake()
    },
    start() {
      loop = loops.start({
        name: 'dispatch',
        logger,
        step: async () => {
          const step = await dispatchOnce(sql, schema, installation)
          if (step.n !== null) onLooked?.(step.n)
          if (step.events > 0 || step.commands > 0 || step.deliveries > 0) {
            pace.found(loops.monotonic())
            onDispatched(step)
          }
          return step.more ? 0 : pauseMs()
        },
      })
    },
    async stop() {
      await loop?.stop()
    },
  }
}
