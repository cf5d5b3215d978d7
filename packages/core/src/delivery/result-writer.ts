import type { Loops } from '../background-loop.ts'
import { errorFields, type Logger } from '../logger.ts'
import type { DeliveryItem } from './endpoint-state.ts'
import { Queue } from './queue.ts'
import type { Outcome } from './recorded-outcome.ts'
import type { Recorder, WrittenRetry } from './recorder.ts'

export interface ResultWriterOptions {
  recorder: Recorder
  token(): number
  keepResponses: 'failed' | 'all' | 'none'
  loops: Loops
  logger: Logger
  /** Written: whatever follows from these outcomes may follow. */
  onWritten(outcomes: readonly Outcome[], retries: readonly WrittenRetry[]): void
  onFenced(): void
}

/** Rows of one statement: its cost grows with them, its overhead is shared by them. */
const MOST_ROWS = 500
/** Fewer than this wait a little for more: 500 deliveries a second otherwise meant 160 statements of 3 rows. */
const FEW_ROWS = 32
const GATHER_MS = 5
/** More than this unwritten: stop sending until the database answers again. */
const MOST_UNWRITTEN = 5_000

/**
 * Writes outcomes in groups: one statement at a time, and as soon as it has returned the next one with all that has come in
 * since. A statement that fails (a lost connection, a restart of Postgres) is repeated with the same rows.
 */
export class ResultWriter {
  readonly #options: ResultWriterOptions
  readonly #queue = new Queue<Outcome>()
  #writing = false
  #idle: (() => void)[] = []
  #generation = 0

  constructor(options: ResultWriterOptions) {
    this.#options = options
  }

  get full(): boolean {
    return this.#queue.length >= MOST_UNWRITTEN
  }

  /** Something is not written yet. */
  get busy(): boolean {
    return this.#writing || this.#queue.length > 0
  }

  add(outcome: Outcome): void {
    this.#queue.push(outcome)
    if (!this.#writing) void this.#write()
  }

  /** Resolves when everything added so far is written or was refused. */
  async flushed(): Promise<void> {
    if (!this.#writing && this.#queue.length === 0) return
    await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  /** Fenced: what is not written can no longer be. */
  clear(): void {
    this.#generation++
    this.#queue.clear()
  }

  async #write(): Promise<void> {
    this.#writing = true
    while (this.#queue.length > 0) {
      // What answers within a few milliseconds shares a statement.
      if (this.#queue.length < FEW_ROWS) await this.#options.loops.pause(GATHER_MS)
      const batch = this.#nextBatch()
      const generation = this.#generation
      const retries = await this.#record(batch, generation)
      if (generation !== this.#generation) continue
      if (retries === null) {
        this.clear()
        this.#options.onFenced()
      } else {
        this.#options.onWritten(batch, retries)
      }
    }
    this.#writing = false
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** An item that was sent again at once has two outcomes: the second builds on what the first wrote. */
  #nextBatch(): Outcome[] {
    const batch: Outcome[] = []
    const items = new Set<DeliveryItem>()
    while (batch.length < MOST_ROWS) {
      const next = this.#queue.peek()
      if (next === undefined || items.has(next.item)) break
      items.add(next.item)
      batch.push(next)
      this.#queue.shift()
    }
    return batch
  }

  async #record(batch: readonly Outcome[], generation: number): Promise<WrittenRetry[] | null> {
    const { recorder, token, keepResponses, logger } = this.#options
    for (let pauseMs = 20; ; pauseMs = Math.min(pauseMs * 2, 1_000)) {
      try {
        return await recorder.record(token(), batch, keepResponses)
      } catch (error) {
        if (generation !== this.#generation) return []
        logger.warn(`posthaste: writing ${batch.length} attempts failed, next try in ${pauseMs} ms`, errorFields(error))
        await new Promise((resolve) => setTimeout(resolve, pauseMs))
      }
    }
  }
}
