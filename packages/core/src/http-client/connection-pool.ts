import type { Clock } from '../clock.ts'
import { Connection, type ConnectionOwner } from './connection.ts'
import type { Connect, ConnectAttempt, ConnectCallback, ConnectTarget } from './connector.ts'
import { Deadlines } from './deadlines.ts'
import type { Exchange } from './exchange.ts'

/** Where connections lead, and as whom: they are shared only where `key` is the same. */
export interface Origin extends ConnectTarget {
  /** The text of the origin (`https://example.com:8443`), and after it the TLS identity where it is not the common one. */
  key: string
  /** The value of the `Host` header. */
  host: string
}

export interface ConnectionPoolOptions {
  connect: Connect
  clock: Clock
  connectionsPerOrigin: number
  maxIdleConnections: number
  keepAliveMs: number
}

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
  readonly #idle = new Deadlines<Connection>()

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
    this.#idle.watch(connection)
    if (this.#idle.size > this.options.maxIdleConnections) this.#idle.first()?.discard()
  }

  noLongerIdle(connection: Connection): void {
    this.#idle.forget(connection)
  }

  forget(connections: OriginConnections): void {
    const { key } = connections.origin
    if (this.#origins.get(key) === connections) this.#origins.delete(key)
  }
}

/** The connections of one origin, and who waits for one. */
class OriginConnections implements ConnectionOwner {
  readonly origin: Origin
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly keepAliveMs: number
  readonly #all = new Set<Connection>()
  readonly #idle: Connection[] = []
  readonly #waiting: Exchange[] = []
  /** Those of `#waiting` before this index were served; they are cut off now and then, not one by one. */
  #served = 0
  #servingScheduled = false

  constructor(origin: Origin, pool: ConnectionPool) {
    this.origin = origin
    this.pool = pool
    this.clock = pool.options.clock
    this.keepAliveMs = pool.options.keepAliveMs
  }

  connect(callback: ConnectCallback): ConnectAttempt {
    return this.pool.options.connect(this.origin, callback)
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
      for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
        this.pool.noLongerIdle(idle)
        if (idle.isUsable) return idle
        idle.discard()
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
