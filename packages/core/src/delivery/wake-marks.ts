import type { OpenWork } from '../lanes/lane-progress.ts'
import { Queue } from './queue.ts'

interface Mark {
  through: number
  /** Lower bound of the event ids concerned. */
  oldest: string
  work: OpenWork
  /** Monotonic ms when it was made. */
  at: number
}

/** Below every event id. */
export const NO_EVENT = '00000000-0000-0000-0000-000000000000'

/**
 * What holds a lane's position back on behalf of one endpoint: wake-ups whose deliveries are not all recorded, unless its
 * `backlogs` row stands for them.
 */
export class WakeMarks {
  readonly #marks = new Queue<Mark>()
  #covered = false
  /** Lower bound of the event ids that the `backlogs` row stands for. */
  #coveredFrom = NO_EVENT

  /** Deliveries through `through` exist; `work` is done when they are all recorded. */
  add(through: number, oldest: string, work: OpenWork, at: number): void {
    this.#marks.push({ through, oldest, work, at })
  }

  /** Everything through this sequence number is recorded. */
  recorded(through: number): void {
    for (let mark = this.#marks.peek(); mark !== undefined && mark.through <= through; mark = this.#marks.peek()) {
      mark.work.done()
      this.#marks.shift()
    }
  }

  /** The `backlogs` row stands for everything unrecorded, of events from `oldest` on: the lane's position may pass that. */
  cover(oldest: string): void {
    this.#covered = true
    this.#coveredFrom = oldest
    const marks = [...this.#marks]
    this.#marks.clear()
    for (const mark of marks) {
      if (mark.oldest >= oldest) mark.work.done()
      else this.#marks.push(mark)
    }
  }

  /** The `backlogs` row is gone. */
  uncover(): void {
    this.#covered = false
  }

  /** A `backlogs` row stands for everything unrecorded. */
  get isCovered(): boolean {
    return this.#covered
  }

  /** The `backlogs` row stands for events from this one on, too. */
  covers(oldest: string): boolean {
    return this.#covered && oldest >= this.#coveredFrom
  }

  /** The age of the oldest wake-up whose work is not recorded, in ms; 0 without one. */
  ageMs(monotonicMs: number): number {
    const mark = this.#marks.peek()
    return mark === undefined ? 0 : monotonicMs - mark.at
  }
}
