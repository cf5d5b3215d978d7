/** Collects the beginning of a response body, never more than it was made for. */
export class ResponseExcerpt {
  readonly #limit: number
  readonly #chunks: Buffer[] = []
  #length = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get isFull(): boolean {
    return this.#length >= this.#limit
  }

  /** Copies what it keeps: a chunk is a view of a buffer of the socket that may be far larger. */
  add(chunk: Uint8Array): void {
    const room = this.#limit - this.#length
    if (room <= 0) return
    const kept = Buffer.from(chunk.subarray(0, room))
    this.#chunks.push(kept)
    this.#length += kept.length
  }

  /**
   * The bytes as UTF-8, U+FFFD in place of what is not; a character that the limit cut in two is left out. U+0000 becomes
   * U+FFFD too: it means nothing to people, and Postgres takes it in no text.
   */
  text(): string {
    const bytes = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks)
    return new TextDecoder().decode(bytes, { stream: this.isFull }).replaceAll('\u0000', '\ufffd')
  }
}
