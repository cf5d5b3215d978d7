import type { BackgroundLoop, BackgroundLoopOptions, Loops } from '../background-loop.ts'

/** More rounds than any test can mean: something wakes itself for ever. */
const MOST_ROUNDS = 10_000
/** How much later it is for the loops in each round: longer than any of their pauses. */
const ROUND_MS = 60_000

/**
 * The worker's loops without timers: nothing happens until `settle` takes one step of each in turn, again and again until none
 * has anything left to do.
 */
export class DrivenLoops implements Loops {
  readonly #steps = new Set<() => Promise<number>>()
  #woken = false
  #round = 0

  start({ step }: BackgroundLoopOptions): BackgroundLoop {
    this.#steps.add(step)
    return {
      wake: () => {
        this.#woken = true
      },
      stop: async () => {
        this.#steps.delete(step)
      },
    }
  }

  async pause(): Promise<void> {}

  /** The same throughout a round, so that a loop that looked does not look again before the others had their turn. */
  monotonic(): number {
    return this.#round * ROUND_MS
  }

  /**
   * Runs until a whole round changed nothing. A step that fails ends it: in production it would be repeated with growing
   * pauses, in a test its error is what one wants to see.
   *
   * @param atRest waits for what the round has begun; answers whether that was anything
   */
  async settle(atRest: () => Promise<boolean>): Promise<void> {
    for (let rounds = 0; rounds < MOST_ROUNDS; rounds++) {
      this.#round++
      this.#woken = false
      let goesOn = false
      for (const step of this.#steps) if ((await step()) <= 0) goesOn = true
      if (await atRest()) goesOn = true
      if (!goesOn && !this.#woken) return
    }
    throw new Error(
      `settle() did not come to rest in ${MOST_ROUNDS} rounds: deliveries make each other happen for ever.`,
    )
  }
}
