import type { Attempt } from './attempt.ts'
import type { DeliveryItem } from './endpoint-state.ts'

/** One finished attempt and what it changes in `retries`. */
export interface Outcome {
  item: DeliveryItem
  /** As they were when the attempt was made; the item itself may have gone on. */
  retryStep: number | null
  step: number | null
  attempt: Attempt
  succeeded: boolean
  /** Nothing follows by itself. */
  final: boolean
  /** It is being sent again at once: this attempt does not end it. */
  again: boolean
  /** Due again: which step, in how many ms. Null: nothing is due. */
  next: { step: number; delayMs: number } | null
  /** Somebody asked for it, beside the schedule: a success ends the retry that waits, a failure only changes its number. */
  besideSchedule: boolean
}
