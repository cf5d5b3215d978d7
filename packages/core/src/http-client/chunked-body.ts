/** What a byte of a chunked body may be (RFC 9112 section 7.1). */
type Expecting =
  | 'size'
  | 'extension'
  | 'size LF'
  | 'data'
  | 'data CR'
  | 'data LF'
  | 'trailer line'
  | 'trailer'
  | 'trailer LF'
  | 'end LF'
  | 'nothing'

const CR = 0x0d
const LF = 0x0a
const SEMICOLON = 0x3b
const TAB = 0x09
const SPACE = 0x20

/** 12 hex digits: 2^48 bytes, exact as a number. */
const MOST_SIZE_DIGITS = 12

/** Takes a body in the `chunked` coding apart as it comes. Extensions and trailers are passed over, within a limit. */
export class ChunkedBody {
  /** Bytes of extensions and trailers that are put up with, each: they mean nothing to us. */
  readonly #limit: number
  #expecting: Expecting = 'size'
  #digits = 0
  #left = 0
  #passedOver = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get ended(): boolean {
    return this.#expecting === 'nothing'
  }

  /**
   * Reads on from `at` and hands pieces of data to `take`, which says whether to go on. Answers where it stopped: behind the
   * body's end, at the end of what there is, or where `take` said so; -1 where this is no chunked body.
   */
  read(bytes: Buffer, at: number, take: (data: Buffer) => boolean): number {
    while (at < bytes.length && this.#expecting !== 'nothing') {
      if (this.#expecting === 'data') {
        const end = Math.min(bytes.length, at + this.#left)
        this.#left -= end - at
        if (this.#left === 0) this.#expecting = 'data CR'
        const data = bytes.subarray(at, end)
        at = end
        if (!take(data)) return at
      } else if (!this.#step(bytes[at++] as number)) return -1
    }
    return at
  }

  #step(byte: number): boolean {
    switch (this.#expecting) {
      case 'size':
        return this.#sizeByte(byte)
      case 'extension':
        return this.#passOver(byte, 'size LF')
      case 'size LF':
        if (byte !== LF || this.#digits === 0) return false
        this.#expecting = this.#left === 0 ? 'trailer line' : 'data'
        this.#digits = 0
        return true
      case 'data CR':
        this.#expecting = 'data LF'
        return byte === CR
      case 'data LF':
        this.#expecting = 'size'
        return byte === LF
      case 'trailer line':
        if (byte === CR) {
          this.#expecting = 'end LF'
          return true
        }
        this.#expecting = 'trailer'
        return this.#passOver(byte, 'trailer LF')
      case 'trailer':
        return this.#passOver(byte, 'trailer LF')
      case 'trailer LF':
        this.#expecting = 'trailer line'
        return byte === LF
      default:
        this.#expecting = 'nothing'
        return byte === LF
    }
  }

  #sizeByte(byte: number): boolean {
    const digit = hexDigit(byte)
    if (digit >= 0) {
      this.#left = this.#left * 16 + digit
      return ++this.#digits <= MOST_SIZE_DIGITS
    }
    if (byte === CR) this.#expecting = 'size LF'
    else if (byte === SEMICOLON || byte === SPACE || byte === TAB) this.#expecting = 'extension'
    else return false
    return this.#digits > 0
  }

  #passOver(byte: number, atEnd: Expecting): boolean {
    if (byte === CR) {
      this.#expecting = atEnd
      return true
    }
    return byte !== LF && byte !== 0 && ++this.#passedOver <= this.#limit
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
}
