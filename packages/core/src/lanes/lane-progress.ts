/** A row of `dispatches` as far as it concerns one lane: how many of its endpoints have work of it left. */
interface OpenPage {
  n: number
  open: number
}

/** A mark that a piece of work of one page is unfinished. */
export interface OpenWork {
  done(): void
}

/**
 * How far a lane's work is recorded: up to which row of `dispatches` everything was either attempted and recorded, or
 * handed over to a `backlogs` or `retries` row. A new owner begins there.
 */
export class LaneProgress {
  /** The position at which the lane was taken: rows up to it are none of ours. */
  readonly from: number
  /** The newest delivery's sequence number then: an earlier owner may have attempted any through it. */
  readonly checkThrough: number
  #frozenAt: number | null = null
  #pages: OpenPage[] = []
  #head = 0

  constructor(from: number, checkThrough: number) {
    this.from = from
    this.checkThrough = checkThrough
  }

  /** The lane is being given up: rows after `readThrough` are the next owner's. */
  freeze(readThrough: number): void {
    this.#frozenAt ??= readThrough
  }

  get frozen(): boolean {
    return this.#frozenAt !== null
  }

  /** Notes that page `n` woke an endpoint of this lane. Pages come in rising order. */
  open(n: number): OpenWork {
    let page = this.#pages.at(-1)
    if (page === undefined || this.#head >= this.#pages.length || page.n !== n) {
      page = { n, open: 0 }
      this.#pages.push(page)
    }
    page.open++
    const opened = page
    let finished = false
    return {
      done() {
        if (finished) return
        finished = true
        opened.open--
      },
    }
  }

  /** The lane's position, where `readThrough` is the newest row that its owner has read. */
  position(readThrough: number): number {
    while (this.#head < this.#pages.length && this.#pages[this.#head]!.open === 0) this.#head++
    if (this.#head > 256 && this.#head * 2 > this.#pages.length) {
      this.#pages = this.#pages.slice(this.#head)
      this.#head = 0
    }
    const oldest = this.#pages[this.#head]
    return Math.max(this.from, oldest === undefined ? (this.#frozenAt ?? readThrough) : oldest.n - 1)
  }
}
