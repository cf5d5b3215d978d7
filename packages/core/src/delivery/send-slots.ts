import type { EndpointState } from './endpoint-state.ts'

/** An endpoint whose send took, or has taken, this long is slow until it answers sooner. */
export const SLOW_AFTER_MS = 1_000
/** An endpoint with sends under way that has not been heard of for this long is silent until it is. */
const SILENT_AFTER_MS = 300
/** Slow and silent endpoints together begin no send beyond this part of the slots. */
const SLOW_SHARE = 0.5
/** Endpoints that have not answered yet hold no more than this part of the slots that are left by the slow and silent. */
const UNPROVEN_SHARE = 0.75
/** The rest is for endpoints with nothing under way. */
const BUSY_SHARE = 0.9
/** Sends that an endpoint may begin before it has answered one; each answer allows two more, so it doubles at each turn. */
const FIRST_CREDITS = 2
const CREDITS_PER_ANSWER = 2
const MOST_CREDITS = 16

/** Quiet: slow, or silent at the moment. Proven: it has answered since its first send that is under way. Unproven: any other. */
export type Standing = 'quiet' | 'unproven' | 'proven'
export const STANDINGS: readonly Standing[] = ['proven', 'unproven', 'quiet']

/** The sends of one endpoint from the first that is under way until none is. */
interface Run {
  flights: number
  /** Sends that it may begin without another answer. */
  credits: number
  answered: boolean
  /** When it was last heard of, or began; monotonic ms. */
  heardAt: number
  /** Slow or silent. */
  quiet: boolean
}

/**
 * Who may have another of a worker's slots. A hanging endpoint is not known as such before its deadline, so slots are lent by what
 * is known at the moment: little to one that has not answered yet, and less and less to all such together as more of them are
 * silent. So whatever number of endpoints begin to hang at once, some slots go on serving those that answer.
 */
export class SendSlots {
  readonly #slots: number
  readonly #runs = new Map<EndpointState, Run>()
  /** Remembered as long as the endpoint's state. */
  #slow = new WeakSet<EndpointState>()
  #flights = 0
  #quiet = 0
  #unproven = 0
  /** When an endpoint that had not answered yet last did; monotonic ms. */
  #provenAt = Number.NEGATIVE_INFINITY

  /** @param slots sends under way at once, over all endpoints */
  constructor(slots: number) {
    this.#slots = slots
  }

  standingOf(state: EndpointState): Standing {
    const run = this.#runs.get(state)
    if (run?.quiet ?? this.#slow.has(state)) return 'quiet'
    return run?.answered ? 'proven' : 'unproven'
  }

  /** Whether an endpoint of this standing may begin another send. */
  hasRoom(standing: Standing): boolean {
    if (this.#flights >= this.#slots) return false
    if (standing === 'proven') return this.#flights < this.#slots * BUSY_SHARE
    if (standing === 'quiet') return this.#quiet < this.#slots * SLOW_SHARE
    return this.#unproven < (this.#slots - this.#quiet) * UNPROVEN_SHARE
  }

  /** It begins no further send before one that is under way has ended. */
  mustAnswer(state: EndpointState): boolean {
    const run = this.#runs.get(state)
    return run !== undefined && run.credits <= 0
  }

  began(state: EndpointState, nowMs: number): void {
    const run = this.#runs.get(state) ?? {
      flights: 0,
      credits: FIRST_CREDITS,
      answered: false,
      heardAt: nowMs,
      quiet: this.#slow.has(state),
    }
    this.#runs.set(state, run)
    this.#change(run, () => {
      run.flights++
      run.credits--
    })
  }

  /** A send ended, whatever came of it, after `tookMs`. */
  ended(state: EndpointState, tookMs: number, nowMs: number): void {
    if (tookMs > SLOW_AFTER_MS) this.#slow.add(state)
    else this.#slow.delete(state)
    const run = this.#runs.get(state)
    if (run === undefined) return
    if (!run.answered) this.#provenAt = nowMs
    this.#change(run, () => {
      run.flights--
      run.credits = Math.min(MOST_CREDITS, run.credits + CREDITS_PER_ANSWER)
      run.answered = true
      run.heardAt = nowMs
      run.quiet = tookMs > SLOW_AFTER_MS
    })
    if (run.flights === 0) this.#runs.delete(state)
  }

  /** Endpoints that had not answered yet are answering: those that wait behind them get their turn soon. */
  unprovenAreAnswering(nowMs: number): boolean {
    return nowMs - this.#provenAt < SILENT_AFTER_MS
  }

  /** Looks who has fallen silent. Answers who has just been found to be slow. */
  look(nowMs: number): EndpointState[] {
    const slow: EndpointState[] = []
    for (const [state, run] of this.#runs) {
      const silentMs = nowMs - run.heardAt
      if (silentMs > SILENT_AFTER_MS && !run.quiet) this.#change(run, () => (run.quiet = true))
      if (silentMs > SLOW_AFTER_MS && !this.#slow.has(state)) {
        this.#slow.add(state)
        slow.push(state)
      }
    }
    return slow
  }

  clear(): void {
    this.#runs.clear()
    this.#slow = new WeakSet()
    this.#flights = 0
    this.#quiet = 0
    this.#unproven = 0
  }

  #change(run: Run, change: () => void): void {
    this.#count(run, -run.flights)
    change()
    this.#count(run, run.flights)
  }

  #count(run: Run, flights: number): void {
    this.#flights += flights
    if (run.quiet) this.#quiet += flights
    else if (!run.answered) this.#unproven += flights
  }
}
