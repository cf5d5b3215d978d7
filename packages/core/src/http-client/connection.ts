import type { Socket } from 'node:net'
import type { Clock } from '../clock.ts'
import type { ConnectAttempt, ConnectCallback } from './connector.ts'
import type { Expiring } from './deadlines.ts'
import type { CarryingConnection, Exchange } from './exchange.ts'
import { ResponseReader } from './response-reader.ts'
import { classifySocketError, TransportFailure } from './transport-failure.ts'

/**
 * A connection that has carried requests for so long is closed at the next pause, in ms, so that a receiver that moved
 * to another address, or an address that is refused by now, is noticed under constant traffic too.
 */
const MAX_CONNECTION_AGE_MS = 300_000
/** What is kept off a receiver's `Keep-Alive: timeout=…`, in ms, so that a request does not meet its closing. */
const KEEP_ALIVE_MARGIN_MS = 1_000

/** Who keeps a connection and hands it exchanges. */
export interface ConnectionOwner {
  readonly clock: Clock
  readonly keepAliveMs: number
  connect(callback: ConnectCallback): ConnectAttempt
  /** It can carry another exchange. */
  giveBack(connection: Connection): void
  /** It is of no more use. */
  remove(connection: Connection): void
}

/** One socket, from its connect to its end, with one exchange on it at a time. */
export class Connection implements CarryingConnection, Expiring {
  readonly attempt: ConnectAttempt
  requestsWritten = 0
  /** While idle: when it is closed. */
  deadlineAt = 0
  readonly #owner: ConnectionOwner
  readonly #reader = new ResponseReader()
  readonly #openedAt: number
  #socket: Socket | null = null
  #exchange: Exchange | null = null
  #keepAliveMs: number
  #discarded = false

  constructor(owner: ConnectionOwner) {
    this.#owner = owner
    this.#openedAt = owner.clock.monotonic()
    this.#keepAliveMs = owner.keepAliveMs
    this.attempt = owner.connect((error, socket) => {
      if (socket !== null) this.#opened(socket)
      else this.#lose(error ?? CLOSED_EARLY)
    })
  }

  /** It can carry a request; false where the other side closed it a moment ago. */
  get isUsable(): boolean {
    return this.#socket?.readable === true && this.#socket.writable
  }

  /** Sends it now, or when the connection is open. Only while no other exchange is on it. */
  carry(exchange: Exchange): void {
    this.#exchange = exchange
    exchange.connection = this
    if (this.#socket !== null) this.#write()
  }

  /** Idle for long enough. */
  expire(): void {
    this.discard()
  }

  discard(): void {
    if (this.#discarded) return
    this.#discarded = true
    this.#exchange = null
    this.attempt.cancel()
    this.#socket?.destroy()
    this.#owner.remove(this)
  }

  /** Resolves when the socket is closed. */
  async destroy(): Promise<void> {
    const socket = this.#socket
    const closed = socket === null || socket.closed ? null : new Promise((resolve) => socket.once('close', resolve))
    this.discard()
    await closed
  }

  #opened(socket: Socket): void {
    this.#socket = socket
    socket.on('data', (bytes: Buffer) => this.#read(bytes))
    socket.on('end', () => this.#ended())
    socket.on('error', (error) => this.#lose(classifySocketError(error)))
    socket.on('close', () => this.#lose(CLOSED_EARLY))
    // One that came through a proxy was paused behind the proxy's answer.
    socket.resume()
    this.#write()
  }

  #write(): void {
    const exchange = this.#exchange
    if (exchange?.start() !== true) {
      this.#becomeIdle()
      return
    }
    this.#reader.begin()
    this.#socket?.write(exchange.bytes)
  }

  #read(bytes: Buffer): void {
    const exchange = this.#exchange
    if (exchange === null) {
      // Nobody asked for it.
      this.discard()
      return
    }
    exchange.heard()
    const state = this.#reader.read(bytes, exchange)
    if (state === 'more') exchange.onPause()
    else if (state === 'end') this.#finish(exchange)
    else if (state !== 'stopped') this.#lose(state)
  }

  #finish(exchange: Exchange): void {
    exchange.onEnd()
    const { head, leftOver } = this.#reader
    if (head === null || !head.persistent || leftOver) {
      this.discard()
      return
    }
    if (head.keepAliveMs !== null) {
      this.#keepAliveMs = Math.min(this.#owner.keepAliveMs, head.keepAliveMs - KEEP_ALIVE_MARGIN_MS)
    }
    this.#becomeIdle()
  }

  #becomeIdle(): void {
    this.#exchange = null
    if (this.#keepAliveMs <= 0 || this.#owner.clock.monotonic() - this.#openedAt > MAX_CONNECTION_AGE_MS) {
      this.discard()
      return
    }
    this.deadlineAt = performance.now() + this.#keepAliveMs
    this.#owner.giveBack(this)
  }

  #ended(): void {
    const exchange = this.#exchange
    if (exchange !== null && this.#reader.endsHere) exchange.onEnd()
    this.#lose(CLOSED_EARLY)
  }

  #lose(failure: TransportFailure): void {
    const exchange = this.#exchange
    this.discard()
    exchange?.onLost(failure)
  }
}

const CLOSED_EARLY = new TransportFailure('CONNECTION_RESET', 'The receiver closed the connection before it answered.')
