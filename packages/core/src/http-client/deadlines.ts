/** Something that ends at a moment on the scale of `performance.now()`. */
export interface Expiring {
  deadlineAt: number
  /** Called once, at or after the moment, when it is no longer a member. */
  expire(): void
}

/** What a Node timer can hold (a signed 32-bit number of ms). */
const MAX_TIMER_MS = 2 ** 31 - 1

/**
 * Watches many deadlines with one timer, armed for the earliest: a member costs one insertion and one removal in a set,
 * and since deadlines of equal length come in order, the timer is rarely armed anew. Moments are real time whatever
 * clock is injected elsewhere, because the network does not follow an injected clock. The timer does not keep the
 * process alive; the sockets do.
 */
export class Deadlines<Member extends Expiring> {
  readonly #members = new Set<Member>()
  #timer: NodeJS.Timeout | undefined
  #armedFor = Number.POSITIVE_INFINITY

  /** Adds a member, or heeds that the deadline of one has moved. */
  watch(member: Member): void {
    this.#members.add(member)
    if (member.deadlineAt < this.#armedFor) this.#arm(member.deadlineAt)
  }

  forget(member: Member): void {
    this.#members.delete(member)
  }

  get size(): number {
    return this.#members.size
  }

  /** Who has been watched for longest. */
  first(): Member | undefined {
    return this.#members.values().next().value
  }

  /** Who is being watched now. */
  members(): Member[] {
    return [...this.#members]
  }

  #arm(moment: number): void {
    clearTimeout(this.#timer)
    this.#armedFor = moment
    const delayMs = Math.min(Math.max(0, Math.ceil(moment - performance.now())), MAX_TIMER_MS)
    this.#timer = setTimeout(() => this.#expireDue(), delayMs).unref()
  }

  #expireDue(): void {
    this.#armedFor = Number.POSITIVE_INFINITY
    const now = performance.now()
    const due: Member[] = []
    let earliest = Number.POSITIVE_INFINITY
    for (const member of this.#members) {
      if (member.deadlineAt <= now) due.push(member)
      else if (member.deadlineAt < earliest) earliest = member.deadlineAt
    }
    for (const member of due) this.#members.delete(member)
    if (earliest < Number.POSITIVE_INFINITY) this.#arm(earliest)
    for (const member of due) member.expire()
  }
}
