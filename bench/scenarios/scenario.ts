import type { BenchPostgres } from '../support/bench-database.ts'

export interface BenchContext {
  postgres: BenchPostgres
  rounds: number
  /** Rounds of the scenarios that take minutes each. */
  shortRounds: number
  /** Of bursts: how large a part of the million. */
  scale: number
  /** A tenth of the work: to see that everything runs, not to measure. */
  quick: boolean
  /** The whole size, where that takes an hour or more. */
  full: boolean
  /** Of a scenario with several cases: only those whose name begins with this. Null for all. */
  only: string | null
  /** Where CPU profiles of workers go; null for none. */
  profileFolder: string | null
  /** Options of node for worker processes. */
  workerFlags: readonly string[]
  /** Of storage: how long each window is. Null: its own choice. */
  windowSeconds: number | null
  /** Writes what is measured so far, so that a run that is ended early leaves it behind. */
  save(data: unknown): void
  /** A line of progress, to stderr. */
  progress(text: string): void
}

export interface Scenario {
  name: string
  describe: string
  run(context: BenchContext): Promise<ScenarioResult>
}

export interface ScenarioResult {
  /** Printed. */
  tables: { title: string; text: string }[]
  /** Written as JSON: every round's figures. */
  data: unknown
  /** What was found wrong: anything here makes the run exit with 1. */
  failures: string[]
}
