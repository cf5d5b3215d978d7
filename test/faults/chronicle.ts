/** What a run writes down while it goes on, and its judge needs afterwards: what was lost, disturbed, asked for, and how long it took. */
import type { Bound, Loss, ReplayAsk, RetryAsk } from './testimony.ts'

export class Chronicle {
  readonly losses: Loss[] = []
  readonly disturbances: { from: number; to: number; what: string }[] = []
  /** When Postgres was ready again: what recoveries are measured from. */
  readonly restarts: number[] = []
  readonly unhandled: string[] = []
  readonly bounds: Bound[] = []
  readonly stopMs: number[] = []
  readonly replayAsks: ReplayAsk[] = []
  readonly retryAsks: RetryAsk[] = []
  /** What the reader of the run should know: what was left out, how something ended. */
  readonly notes: string[] = []

  /** The moment that everything is written down with; no fault moves it. */
  now(): number {
    return Date.now()
  }

  /** While it runs, records may not be written. */
  async disturb<T>(what: string, work: () => Promise<T>): Promise<T> {
    const disturbance = { from: this.now(), to: Number.POSITIVE_INFINITY, what }
    this.disturbances.push(disturbance)
    try {
      return await work()
    } finally {
      disturbance.to = this.now()
    }
  }
}
