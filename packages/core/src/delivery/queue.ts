/** A first-in-first-out queue without the cost of `Array.shift` on long arrays. */
export class Queue<T> {
  #items: T[] = []
  #head = 0

  get length(): number {
    return this.#items.length - this.#head
  }

  push(item: T): void {
    // Most queues are an endpoint's, of which there may be 50,000, and hold one item: `push` would make room for 17.
    if (this.#items.length === 0) this.#items = [item]
    else this.#items.push(item)
  }

  peek(): T | undefined {
    return this.#items[this.#head]
  }

  shift(): T | undefined {
    const item = this.#items[this.#head]
    if (item === undefined) return undefined
    this.#items[this.#head++] = undefined as never
    if (this.#head === this.#items.length) this.clear()
    else if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }

  /** Puts an item in front of all others. */
  unshift(item: T): void {
    if (this.#head > 0) this.#items[--this.#head] = item
    else this.#items.unshift(item)
  }

  /** The newest item. */
  last(): T | undefined {
    return this.#items.length > this.#head ? this.#items[this.#items.length - 1] : undefined
  }

  /** Removes the newest item. */
  pop(): T | undefined {
    return this.#items.length > this.#head ? this.#items.pop() : undefined
  }

  /** Takes the first item out for which this holds, wherever it is. */
  remove(matches: (item: T) => boolean): T | null {
    const at = this.#items.findIndex((item, index) => index >= this.#head && matches(item))
    return at < 0 ? null : (this.#items.splice(at, 1)[0] as T)
  }

  clear(): void {
    this.#items = []
    this.#head = 0
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#items.slice(this.#head).values()
  }
}
