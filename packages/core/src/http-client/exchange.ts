import type { Clock } from '../clock.ts'
import type { ConnectAttempt } from './connector.ts'
import type { Deadlines, Expiring } from './deadlines.ts'
import { ResponseExcerpt } from './response-excerpt.ts'
import { headersOf, type ResponseHead } from './response-head.ts'
import type { ResponseSink } from './response-reader.ts'
import type { OutboundRequest, OutboundResult, Timings, TransportErrorCode } from './transport.ts'
import { TransportFailure } from './transport-failure.ts'

/** The connection that carries an exchange, as far as the exchange must know it. */
export interface CarryingConnection {
  /** How the open connection was made, or is being made. */
  readonly attempt: ConnectAttempt | null
  /** Requests written to the open connection so far. */
  requestsWritten: number
  /** The exchange is over and the connection is of no more use. */
  discard(): void
}

/** A body of a 2xx may hold its connection for so long after its head, to keep it alive for the next request, in ms. */
export const DRAIN_MS = 250
/** And while it is no longer than this, in bytes (the contract's limit of what is read of a response). */
export const MAX_BODY_BYTES = 16_384
/** More `1xx` heads than this before the answer are a flood. */
const MAX_INTERIM_RESPONSES = 16

type Phase =
  /** Waits for a connection, or for its turn on it. Nothing was written. */
  | 'waiting'
  /** Written; no complete head yet. */
  | 'written'
  /** The head is there, and the result needs what of the body arrives. */
  | 'reading'
  /** The result is out; the rest of the body is read so that the connection can be used again. */
  | 'draining'
  | 'over'

/** One request on its way: its bytes, what is heard of its answer, and the result that `send` promised. */
export class Exchange implements ResponseSink, Expiring {
  readonly result: Promise<OutboundResult>
  /** Head and body, as they go on the wire. */
  readonly bytes: Buffer
  readonly wantsFreshConnection: boolean
  deadlineAt: number
  connection: CarryingConnection | null = null
  /** The host is being asked for the TLS settings of this receiver. */
  awaitsTlsSettings = false
  readonly #request: OutboundRequest
  readonly #clock: Clock
  readonly #deadlines: Deadlines<Exchange>
  readonly #startedAt: number
  #resolve!: (result: OutboundResult) => void
  #phase: Phase = 'waiting'
  #wasReused = false
  #writtenAt = 0
  #firstByteMs: number | null = null
  #interimResponses = 0
  #head: ResponseHead | null = null
  #excerpt: ResponseExcerpt | null = null
  #drainedBytes = 0
  /** On the scale of `performance.now()`; 0 while the body has not kept us waiting. */
  #drainsUntil = 0

  constructor(request: OutboundRequest, bytes: Buffer, clock: Clock, deadlines: Deadlines<Exchange>) {
    this.#request = request
    this.#clock = clock
    this.#deadlines = deadlines
    this.bytes = bytes
    this.wantsFreshConnection = request.freshConnection === true
    this.#startedAt = clock.monotonic()
    this.deadlineAt = performance.now() + request.deadlineMs
    this.result = new Promise((resolve) => {
      this.#resolve = resolve
    })
    deadlines.watch(this)
  }

  /** True while the exchange still wants a connection. */
  get isWaiting(): boolean {
    return this.#phase === 'waiting'
  }

  /** Ends the exchange from outside with an error, or, where the head is known, with what is known. */
  fail(failure: TransportFailure): void {
    if (this.#phase === 'over') return
    this.#finish(failure, false)
    this.connection?.discard()
  }

  expire(): void {
    this.fail(this.#timeout())
  }

  // --- called by the connection ---

  /** The request is about to be written. False: it must not be; the exchange is over, and the connection as it was. */
  start(): boolean {
    if (this.#phase !== 'waiting') return false
    const { mayStart } = this.#request
    if (mayStart !== undefined && !asksTrue(mayStart)) {
      this.#finish(NOT_STARTED, false)
      return false
    }
    this.#phase = 'written'
    this.#writtenAt = this.#clock.monotonic()
    if (this.connection !== null) this.#wasReused = this.connection.requestsWritten++ > 0
    return true
  }

  /** Bytes of an answer came. */
  heard(): void {
    if (this.#firstByteMs === null) this.#firstByteMs = this.#clock.monotonic() - this.#writtenAt
  }

  onHead(head: ResponseHead): boolean {
    const { statusCode } = head
    if (statusCode < 200) {
      if (++this.#interimResponses <= MAX_INTERIM_RESPONSES) return true
      this.fail(INTERIM_FLOOD)
      return false
    }
    this.#head = head
    if (statusCode < 300 && this.#request.keepResponse !== true) {
      this.#resolve(this.#response(head))
      this.#phase = 'draining'
    } else {
      this.#phase = 'reading'
      this.#excerpt = new ResponseExcerpt(MAX_BODY_BYTES)
    }
    return true
  }

  onData(data: Buffer): boolean {
    if (this.#phase === 'draining') {
      this.#drainedBytes += data.length
      if (this.#drainedBytes <= MAX_BODY_BYTES) return true
    } else if (this.#phase === 'reading') {
      this.#excerpt?.add(data)
      if (this.#excerpt?.isFull !== true) return true
    }
    this.fail(ENOUGH_READ)
    return false
  }

  /** What came so far is read, and the response goes on. */
  onPause(): void {
    if (this.#phase !== 'draining' || this.#drainsUntil !== 0) return
    this.#drainsUntil = performance.now() + DRAIN_MS
    this.deadlineAt = Math.min(this.deadlineAt, this.#drainsUntil)
    this.#deadlines.watch(this)
  }

  /** The response is complete. */
  onEnd(): void {
    if (this.#phase !== 'over') this.#finish(ENOUGH_READ, false)
  }

  /** The connection ended, or what came over it is no answer. */
  onLost(failure: TransportFailure): void {
    if (this.#phase === 'over') return
    const stale = failure.code === 'CONNECTION_RESET' && this.#isReused && this.#firstByteMs === null
    this.#finish(failure, stale)
  }

  // --- results ---

  /** Where a complete head was received it decides, and the failure of its body is only why reading ended. */
  #finish(failure: TransportFailure, staleConnection: boolean): void {
    this.#deadlines.forget(this)
    if (this.#phase === 'reading' && this.#head !== null) this.#resolve(this.#response(this.#head))
    else if (this.#phase !== 'draining') this.#resolve(this.#error(failure.code, failure.message, staleConnection))
    this.#phase = 'over'
  }

  #response(head: ResponseHead): OutboundResult {
    return {
      kind: 'response',
      statusCode: head.statusCode,
      headers: this.#excerpt === null ? {} : headersOf(head),
      retryAfter: head.retryAfter,
      excerpt: this.#excerpt === null ? null : this.#excerpt.text(),
      timings: this.#timings(),
    }
  }

  #error(code: TransportErrorCode, message: string, staleConnection: boolean): OutboundResult {
    return { kind: 'error', code, message, staleConnection, timings: this.#timings() }
  }

  #timings(): Timings {
    const connect = this.#isReused ? null : (this.connection?.attempt?.timings ?? null)
    return {
      dns: rounded(connect?.dns),
      connect: rounded(connect?.connect),
      tls: rounded(connect?.tls),
      firstByte: rounded(this.#firstByteMs),
      total: rounded(this.#clock.monotonic() - this.#startedAt) ?? 0,
    }
  }

  #timeout(): TransportFailure {
    const within = `within ${this.#request.deadlineMs} ms`
    if (this.#phase !== 'waiting') return new TransportFailure('TIMEOUT', `The receiver did not answer ${within}.`)
    if (this.awaitsTlsSettings)
      return new TransportFailure('TLS_SETTINGS_FAILED', `http.tls.forEndpoint did not answer ${within}.`)
    switch (this.connection?.attempt?.stage) {
      case 'dns':
        return new TransportFailure('DNS_FAILED', `The name look-up was not answered ${within}.`)
      case 'connect':
        return new TransportFailure('CONNECT_TIMEOUT', `The receiver did not accept a connection ${within}.`)
      case 'proxy_connect':
        return new TransportFailure('PROXY_FAILED', `The proxy did not accept a connection ${within}.`)
      case 'proxy':
        return new TransportFailure('PROXY_TIMEOUT', `The proxy did not reach the receiver ${within}.`)
      case 'tls':
        return new TransportFailure('TLS_FAILED', `The TLS handshake was not completed ${within}.`)
      default:
        return new TransportFailure('TIMEOUT', `No connection to the receiver came free ${within}.`)
    }
  }

  /** Whether requests of others went over the open connection before this one. */
  get #isReused(): boolean {
    const written = this.connection?.requestsWritten ?? 0
    return this.#phase === 'waiting' ? written > 0 : this.#wasReused
  }
}

const NOT_STARTED = new TransportFailure('NOT_STARTED', 'The send was stopped before anything was written.')
const INTERIM_FLOOD = new TransportFailure('INVALID_RESPONSE', 'The receiver sent interim answers without end.')
/** Ends reading where the result is known. */
const ENOUGH_READ = new TransportFailure('SEND_FAILED', 'Reading the answer was ended.')

function asksTrue(ask: () => boolean): boolean {
  try {
    return ask()
  } catch {
    return false
  }
}

/** Hundredths of a ms are more than the clock of a loaded process can tell. */
function rounded(ms: number | null | undefined): number | null {
  return ms == null ? null : Math.round(ms * 100) / 100
}
