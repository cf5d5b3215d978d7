import type { Clock } from '../clock.ts'

/** A clock that stands still until it is moved. */
export class TestClock implements Clock {
  #nowMs: number
  #movedMs = 0

  constructor(startMs: number) {
    this.#nowMs = startMs
  }

  now(): number {
    return this.#nowMs
  }

  monotonic(): number {
    return this.#movedMs
  }

  move(ms: number): void {
    this.#nowMs += ms
    this.#movedMs += ms
  }
}
