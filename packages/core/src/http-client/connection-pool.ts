import type { EventEmitter } from 'node:events'
import { Client } from 'undici'
import type { Clock } from '../clock.ts'
import type { Connect, ConnectAttempt, ConnectTarget } from './connector.ts'
import { type CarryingConnection, type Exchange, MAX_BODY_BYTES } from './exchange.ts'

/** Where connections lead, and as whom: they are shared only where `key` is the same. */
export interface Origin extends ConnectTarget {
  /** The text of the origin (`https://example.com:8443`). */
  url: string
  /** `url`, and after it the TLS identity where it is not the common one. */
  key: string
}

export interface ConnectionPoolOptions {
  connect: Connect
  clock: Clock
  connectionsPerOrigin: number
  maxIdleConnections: number
  keepAliveMs: number
}

/**
 * A connection that has carried requests for so long is closed at the next pause, in ms, so that a receiver that moved
 * to another address, or an address that is refused by now, is noticed under constant traffic too.
 */
const MAX_CONNECTION_AGE_MS = 300_000
/** What undici keeps off a receiver's `Keep-Alive: timeout=…`, in ms, so that a request does not meet its closing. */
const KEEP_ALIVE_MARGIN_MS = 1_000

/**
 * Connections of all origins. Per origin at most `connectionsPerOrigin` at once, each with one request at a time; whoever
 * comes then waits in order, within its own deadline. Idle ones are reused last in, first out, close after
 * `keepAliveMs`, and of all idle ones together the longest idle are closed beyond `maxIdleConnections`. A connection is
 * occupied from the moment it is opened for an exchange until the response has been read to its end (or 250 ms after
 * the head of a success, see `DRAIN_MS`): that may be after `send` has given its result. An origin without
 * connections takes no memory.
 */
export class ConnectionPool {
  readonly options: ConnectionPoolOptions
  readonly #origins = new Map<string, OriginConnections>()
  /** In the order in which they became idle. */
  readonly #idle = new Set<Connection>()

  constructor(options: ConnectionPoolOptions) {
    this.options = options
  }

  /** Puts the exchange on a connection, now or when one comes free. */
  carry(origin: Origin, exchange: Exchange): void {
    let connections = this.#origins.get(origin.key)
    if (connections === undefined) {
      connections = new OriginConnections(origin, this)
      this.#origins.set(origin.key, connections)
    }
    connections.carry(exchange)
  }

  /** Closes idle connections and destroys busy ones; waits until all are closed. */
  async close(): Promise<void> {
    await Promise.all([...this.#origins.values()].map((connections) => connections.close()))
  }

  becameIdle(connection: Connection): void {
    this.#idle.add(connection)
    if (this.#idle.size <= this.options.maxIdleConnections) return
    for (const longest of this.#idle) {
      longest.discard()
      break
    }
  }

  noLongerIdle(connection: Connection): void {
    this.#idle.delete(connection)
  }

  forget(connections: OriginConnections): void {
    const { key } = connections.origin
    if (this.#origins.get(key) === connections) this.#origins.delete(key)
  }
}

/** The connections of one origin, and who waits for one. */
class OriginConnections {
  readonly origin: Origin
  readonly pool: ConnectionPool
  readonly #all = new Set<Connection>()
  readonly #idle: Connection[] = []
  readonly #waiting: Exchange[] = []
  /** Those of `#waiting` before this index were served; they are cut off now and then, not one by one. */
  #served = 0
  #servingScheduled = false

  constructor(origin: Origin, pool: ConnectionPool) {
    this.origin = origin
    this.pool = pool
  }

  carry(exchange: Exchange): void {
    // Whoever waits comes first, also in the moment between a connection's return and its next use.
    const connection = this.#isAwaited ? null : this.#connectionFor(exchange)
    if (connection === null) this.#waiting.push(exchange)
    else connection.carry(exchange)
  }

  giveBack(connection: Connection): void {
    this.#idle.push(connection)
    this.pool.becameIdle(connection)
    this.#scheduleServing()
  }

  remove(connection: Connection): void {
    this.#all.delete(connection)
    const index = this.#idle.indexOf(connection)
    if (index !== -1) {
      this.#idle.splice(index, 1)
      this.pool.noLongerIdle(connection)
    }
    this.#scheduleServing()
    this.#forgetIfUnused()
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map((connection) => connection.destroy()))
  }

  #connectionFor(exchange: Exchange): Connection | null {
    if (!exchange.wantsFreshConnection) {
      const idle = this.#idle.pop()
      if (idle !== undefined) {
        this.pool.noLongerIdle(idle)
        return idle
      }
    } else if (this.#all.size >= this.pool.options.connectionsPerOrigin) this.#idle[0]?.discard()
    if (this.#all.size >= this.pool.options.connectionsPerOrigin) return null
    const connection = new Connection(this)
    this.#all.add(connection)
    return connection
  }

  get #isAwaited(): boolean {
    return this.#served < this.#waiting.length
  }

  /** In a microtask, because what is called here may call back here: many failures in a row would go deep. */
  #scheduleServing(): void {
    if (!this.#isAwaited || this.#servingScheduled) return
    this.#servingScheduled = true
    queueMicrotask(() => {
      this.#servingScheduled = false
      this.#serveWaiting()
      this.#forgetIfUnused()
    })
  }

  #serveWaiting(): void {
    for (let next = this.#waiting[this.#served]; next !== undefined; next = this.#waiting[this.#served]) {
      // One whose deadline passed meanwhile is only taken off.
      const connection = next.isWaiting ? this.#connectionFor(next) : undefined
      if (connection === null) break
      this.#served++
      connection?.carry(next)
    }
    if (this.#served * 2 < this.#waiting.length) return
    this.#waiting.splice(0, this.#served)
    this.#served = 0
  }

  #forgetIfUnused(): void {
    if (this.#all.size === 0 && !this.#isAwaited) this.pool.forget(this)
  }
}

/** One undici `Client`, which has one socket: so what is known of the connect is known of the request that it carries. */
class Connection implements CarryingConnection {
  attempt: ConnectAttempt | null = null
  requestsWritten = 0
  readonly #origin: OriginConnections
  readonly #client: Client
  readonly #openedAt: number
  #exchange: Exchange | null = null
  #discarded = false

  constructor(origin: OriginConnections) {
    this.#origin = origin
    const { connect, clock, keepAliveMs } = origin.pool.options
    this.#openedAt = clock.monotonic()
    this.#client = new Client(origin.origin.url, {
      // undici's own limits of time are off: the deadline of the exchange covers all of them.
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: keepAliveMs,
      keepAliveTimeoutThreshold: KEEP_ALIVE_MARGIN_MS,
      maxHeaderSize: MAX_BODY_BYTES,
      pipelining: 1,
      allowH2: false,
      connect: (_options, callback) => {
        this.requestsWritten = 0
        this.attempt = connect(origin.origin, (error, socket) => {
          if (error !== null) callback(error, null)
          else if (socket !== null) callback(null, socket)
        })
      },
    })
    // With a request on it, undici either reports the loss to the request or, where nothing was written, connects anew.
    this.#client.on('disconnect', () => {
      if (this.#exchange === null) this.discard()
    })
    // Where a call back threw, which ours do not: a connection of unknown state is of no use.
    const events: EventEmitter = this.#client
    events.on('error', () => this.discard())
  }

  carry(exchange: Exchange): void {
    this.#exchange = exchange
    exchange.connection = this
    this.#client.dispatch(exchange.dispatchOptions, exchange)
  }

  giveBack(): void {
    this.#exchange = null
    const { clock } = this.#origin.pool.options
    if (clock.monotonic() - this.#openedAt > MAX_CONNECTION_AGE_MS) this.discard()
    else if (!this.#discarded) this.#origin.giveBack(this)
  }

  discard(): void {
    if (this.#discarded) return
    this.#discarded = true
    this.attempt?.cancel()
    this.#origin.remove(this)
    // Not at once: undici may be in the middle of parsing for, or of calling back, the exchange that ends here.
    queueMicrotask(() => void this.destroy())
  }

  async destroy(): Promise<void> {
    this.#discarded = true
    this.attempt?.cancel()
    await this.#client.destroy()
  }
}
