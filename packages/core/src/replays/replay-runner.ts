import type { BackgroundLoop, Loops } from '../background-loop.ts'
import { laneOf } from '../lanes/lane-number.ts'
import type { Logger } from '../logger.ts'
import type { Sql } from '../storage/connection.ts'

export interface ReplayRunnerOptions {
  sql: Sql
  schema: string
  loops: Loops
  logger: Logger
  /** The lanes that this worker serves: a replay is worked off where its endpoint is served, and so by one process at a time. */
  lanes(): readonly number[]
  /** A chunk was handed to the dispatcher. */
  onHanded(): void
}

export interface ReplayRunner {
  /** There may be a new replay. */
  wake(): void
  start(): void
  stop(): Promise<void>
}

/** Events, or failed deliveries, that one step looks at: one short statement each. */
const LOOKED_AT_PER_STEP = 1_000
const IDLE_PAUSE_MS = 1_000
/** Pauses before asking again whether a chunk was dispatched and half sent. */
const FIRST_WAIT_MS = 20
const LONGEST_WAIT_MS = 2_000

interface Waiting {
  pauseMs: number
  dueAt: number
}

/**
 * Takes running replays forward, one chunk at a time each, none further ahead of its endpoint than a chunk and a half. Where a
 * replay stands is in its row, so any process goes on with it at any time.
 */
export function createReplayRunner(options: ReplayRunnerOptions): ReplayRunner {
  const { sql, schema, loops, logger, lanes, onHanded } = options
  const s = sql(schema)
  let loop: BackgroundLoop | null = null
  let waiting = new Map<number, Waiting>()

  async function step(): Promise<number> {
    const owned = new Set(lanes())
    const rows = await sql`select no, endpoint from ${s}.replays where status = 'running' order by no`
    const running = rows.filter((row) => owned.has(laneOf(row.endpoint as number))).map((row) => row.no as number)
    const before = waiting
    waiting = new Map()
    for (const no of running) {
      const wait = before.get(no) ?? { pauseMs: FIRST_WAIT_MS, dueAt: Number.NEGATIVE_INFINITY }
      waiting.set(no, wait.dueAt > loops.monotonic() ? wait : await takeForward(no, wait))
    }
    const next = Math.min(...[...waiting.values()].map(({ dueAt }) => dueAt))
    return Math.max(0, Math.min(IDLE_PAUSE_MS, next - loops.monotonic()))
  }

  async function takeForward(no: number, { pauseMs }: Waiting): Promise<Waiting> {
    const [row] = await sql`select ${s}.replay_step(${no}::int, ${LOOKED_AT_PER_STEP}::int) answer`
    const answer = row?.answer as 'more' | 'waiting' | 'over'
    if (answer === 'waiting') {
      return { pauseMs: Math.min(pauseMs * 2, LONGEST_WAIT_MS), dueAt: loops.monotonic() + pauseMs }
    }
    onHanded()
    return { pauseMs: FIRST_WAIT_MS, dueAt: loops.monotonic() }
  }

  return {
    wake: () => loop?.wake(),
    start() {
      loop = loops.start({ name: 'replaying', logger, step })
    },
    async stop() {
      await loop?.stop()
    },
  }
}
