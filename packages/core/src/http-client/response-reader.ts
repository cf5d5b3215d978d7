import { ChunkedBody } from './chunked-body.ts'
import { parseHead, type ResponseHead } from './response-head.ts'
import { TransportFailure } from './transport-failure.ts'

/** Who hears of a response as it comes. Each answers whether to go on reading. */
export interface ResponseSink {
  /** Of an interim answer (1xx) or of the final one. */
  onHead(head: ResponseHead): boolean
  /** A view of the bytes that were received: copied by whoever keeps it. */
  onData(data: Buffer): boolean
}

/** `more`: go on; `end`: the response is complete; `stopped`: the sink wants no more of it. */
export type ReadState = 'more' | 'end' | 'stopped' | TransportFailure

/** In bytes, of a head from its first to its last. */
export const MAX_HEAD_BYTES = 16_384
const HEAD_END = Buffer.from('\r\n\r\n')
const FIRST_BYTES = Buffer.from('HTTP/1.')
const CR = 0x0d
const LF = 0x0a

/**
 * Reads HTTP/1.1 responses from the bytes of one connection, one after the other. Holds at most one incomplete head
 * (`MAX_HEAD_BYTES`), and nothing of bodies.
 */
export class ResponseReader {
  /** Something came after the end of a response: whose it is nobody can say. */
  leftOver = false
  /** The beginning of a head that has not come to its end. */
  #partial: Buffer | null = null
  #partialLength = 0
  /** The head of the response whose body is being read; null before it. */
  #head: ResponseHead | null = null
  #bytesLeft = 0
  #chunked: ChunkedBody | null = null
  /** Where in the bytes at hand the head that was just read ended. */
  #headEnd = 0
  /** Receivers repeat themselves: all but the `Date` of most heads is the same from one to the next. */
  #last: ResponseHead | null = null

  /** The next bytes are those of another response. */
  begin(): void {
    this.#head = null
    this.#partialLength = 0
    this.#chunked = null
    this.leftOver = false
  }

  read(bytes: Buffer, sink: ResponseSink): ReadState {
    let at = 0
    while (this.#head === null) {
      const head = this.#readHead(bytes, at)
      if (head === null) return 'more'
      if (head instanceof TransportFailure) return head
      at = this.#headEnd
      if (head.statusCode === 101) return SWITCHED
      if (!sink.onHead(head)) return 'stopped'
      if (head.statusCode >= 200) this.#beginBody(head)
    }
    return this.#readBody(this.#head, bytes, at, sink)
  }

  /** The head of the final answer; null before it. */
  get head(): ResponseHead | null {
    return this.#head
  }

  /** The other side will send no more. Answers whether that is how this response ends. */
  get endsHere(): boolean {
    return this.#head?.framing.kind === 'close'
  }

  #readHead(bytes: Buffer, from: number): ResponseHead | TransportFailure | null {
    if (this.#partialLength > 0) return this.#continueHead(bytes)
    const end = bytes.indexOf(HEAD_END, from)
    if (end < 0 || end - from > MAX_HEAD_BYTES) return this.#keepPartial(bytes, from)
    this.#headEnd = end + HEAD_END.length
    return this.#parse(bytes.toString('latin1', from, end))
  }

  #continueHead(bytes: Buffer): ResponseHead | TransportFailure | null {
    const known = this.#partialLength
    const failure = this.#keepPartial(bytes, 0)
    const kept = this.#partial!.subarray(0, this.#partialLength)
    const end = kept.indexOf(HEAD_END, Math.max(0, known - HEAD_END.length + 1))
    if (end < 0) return failure
    this.#headEnd = end + HEAD_END.length - known
    this.#partialLength = 0
    return this.#parse(kept.toString('latin1', 0, end))
  }

  /** Keeps what came of a head, and says at once where it cannot become one. */
  #keepPartial(bytes: Buffer, from: number): TransportFailure | null {
    this.#partial ??= Buffer.allocUnsafe(MAX_HEAD_BYTES)
    const known = this.#partialLength
    this.#partialLength += bytes.copy(this.#partial, known, from)
    for (let at = known; at < this.#partialLength; at++) {
      const byte = this.#partial[at]
      if (at < FIRST_BYTES.length ? byte !== FIRST_BYTES[at] : byte === LF && this.#partial[at - 1] !== CR)
        return NOT_HTTP
    }
    return this.#partialLength >= MAX_HEAD_BYTES ? TOO_LARGE : null
  }

  #parse(text: string): ResponseHead | TransportFailure {
    if (this.#last?.text === text) return this.#last
    const head = parseHead(text)
    if (head === null) return NOT_HTTP
    this.#last = head
    return head
  }

  #beginBody(head: ResponseHead): void {
    this.#head = head
    // A connection that is idle holds nothing.
    this.#partial = null
    const { framing } = head
    if (framing.kind === 'length') this.#bytesLeft = framing.bytes
    else if (framing.kind === 'chunked') this.#chunked = new ChunkedBody(MAX_HEAD_BYTES)
  }

  #readBody(head: ResponseHead, bytes: Buffer, at: number, sink: ResponseSink): ReadState {
    switch (head.framing.kind) {
      case 'close':
        return at < bytes.length && !sink.onData(bytes.subarray(at)) ? 'stopped' : 'more'
      case 'length': {
        const end = Math.min(bytes.length, at + this.#bytesLeft)
        this.#bytesLeft -= end - at
        if (end > at && !sink.onData(bytes.subarray(at, end))) return 'stopped'
        if (this.#bytesLeft > 0) return 'more'
        this.leftOver = end < bytes.length
        return 'end'
      }
      case 'chunked': {
        let goesOn = true
        const chunked = this.#chunked!
        const end = chunked.read(bytes, at, (data) => {
          goesOn = sink.onData(data)
          return goesOn
        })
        if (!goesOn) return 'stopped'
        if (end < 0) return BAD_CHUNKS
        this.leftOver = end < bytes.length
        return chunked.ended ? 'end' : 'more'
      }
    }
  }
}

const NOT_HTTP = new TransportFailure('INVALID_RESPONSE', "The receiver's answer is not valid HTTP/1.1.")
const SWITCHED = new TransportFailure('INVALID_RESPONSE', 'The receiver switched to a protocol nobody asked for.')
const BAD_CHUNKS = new TransportFailure('INVALID_RESPONSE', "The body of the receiver's answer is badly chunked.")
const TOO_LARGE = new TransportFailure(
  'HEADERS_TOO_LARGE',
  "The headers of the receiver's answer are larger than 16 KiB.",
)
