import type { Dispatcher } from 'undici'
import type { Clock } from '../clock.ts'
import type { ConnectAttempt } from './connector.ts'
import type { Deadlines, Expiring } from './deadlines.ts'
import { ResponseExcerpt } from './response-excerpt.ts'
import type { OutboundRequest, OutboundResult, Timings, TransportErrorCode } from './transport.ts'
import { classifyExchangeError, TransportFailure } from './transport-failure.ts'

/** The connection that carries an exchange, as far as the exchange must know it. */
export interface CarryingConnection {
  /** How the open connection was made, or is being made. */
  readonly attempt: ConnectAttempt | null
  /** Requests written to the open connection so far. */
  requestsWritten: number
  /** The exchange is over and the connection is at the end of a response. */
  giveBack(): void
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

/** One request on its way: the handler that undici calls back, and the result that `send` promised. */
export class Exchange implements Dispatcher.DispatchHandler, Expiring {
  readonly result: Promise<OutboundResult>
  readonly dispatchOptions: Dispatcher.DispatchOptions
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
  #statusCode = 0
  #headers: Record<string, string | string[] | undefined> = {}
  #excerpt: ResponseExcerpt | null = null
  #drainedBytes = 0

  constructor(
    request: OutboundRequest,
    dispatchOptions: Dispatcher.DispatchOptions,
    clock: Clock,
    deadlines: Deadlines<Exchange>,
  ) {
    this.#request = request
    this.#clock = clock
    this.#deadlines = deadlines
    this.dispatchOptions = dispatchOptions
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

  // --- called by undici ---

  /** The request is about to be written. What is thrown here ends it before, and leaves the connection as it was. */
  onRequestStart(): void {
    if (this.#phase !== 'waiting') throw NOT_STARTED
    const { mayStart } = this.#request
    if (mayStart !== undefined && !asksTrue(mayStart)) throw NOT_STARTED
    this.#phase = 'written'
    this.#writtenAt = this.#clock.monotonic()
    if (this.connection !== null) this.#wasReused = this.connection.requestsWritten++ > 0
  }

  /** The first byte of a head, interim ones included. */
  onResponseStarted(): void {
    if (this.#firstByteMs === null) this.#firstByteMs = this.#clock.monotonic() - this.#writtenAt
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    statusCode: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (this.#phase !== 'written') return
    if (statusCode < 200) {
      if (++this.#interimResponses > MAX_INTERIM_RESPONSES) this.fail(INTERIM_FLOOD)
      return
    }
    this.#statusCode = statusCode
    this.#headers = headers
    if (statusCode < 300 && this.#request.keepResponse !== true) {
      this.#resolve(this.#response())
      this.#phase = 'draining'
      this.deadlineAt = Math.min(this.deadlineAt, performance.now() + DRAIN_MS)
      this.#deadlines.watch(this)
    } else {
      this.#phase = 'reading'
      this.#excerpt = new ResponseExcerpt(MAX_BODY_BYTES)
    }
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#phase === 'draining') {
      this.#drainedBytes += chunk.length
      if (this.#drainedBytes > MAX_BODY_BYTES) this.fail(ENOUGH_READ)
    } else if (this.#phase === 'reading') {
      this.#excerpt?.add(chunk)
      if (this.#excerpt?.isFull) this.fail(ENOUGH_READ)
    }
  }

  onResponseEnd(): void {
    if (this.#phase === 'over') return
    this.#finish(ENOUGH_READ, false)
    this.connection?.giveBack()
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#phase === 'over') return
    const failure = classifyExchangeError(error)
    const lost = failure.code === 'CONNECTION_RESET'
    const stale = lost && this.#isReused && this.#firstByteMs === null
    // Refused by `mayStart`, or by undici for what it holds: nothing was written, the connection is as good as before.
    const untouched = !lost && this.#phase === 'waiting' && this.connection?.attempt?.stage === 'done'
    this.#finish(failure, stale)
    if (untouched) this.connection?.giveBack()
    else this.connection?.discard()
  }

  // --- results ---

  /** Where a complete head was received it decides, and the failure of its body is only why reading ended. */
  #finish(failure: TransportFailure, staleConnection: boolean): void {
    this.#deadlines.forget(this)
    if (this.#phase === 'reading') this.#resolve(this.#response())
    else if (this.#phase !== 'draining') this.#resolve(this.#error(failure.code, failure.message, staleConnection))
    this.#phase = 'over'
  }

  #response(): OutboundResult {
    const keep = this.#excerpt !== null
    const retryAfter = this.#headers['retry-after']
    return {
      kind: 'response',
      statusCode: this.#statusCode,
      headers: keep ? joinHeaders(this.#headers) : {},
      retryAfter: (Array.isArray(retryAfter) ? retryAfter[0] : retryAfter) ?? null,
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

function joinHeaders(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  const joined: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name === '__proto__') continue
    joined[name] = typeof value === 'string' ? value : value.join(', ')
  }
  return joined
}
