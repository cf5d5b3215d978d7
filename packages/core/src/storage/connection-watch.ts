import { Socket } from 'node:net'

/** What postgres.js 3.4.9 hands to its `socket` option: its own options, parsed. */
interface ParsedOptions {
  host: readonly string[]
  port: readonly number[]
  /** Of a Unix-domain socket. */
  path?: string | false
}

interface Watched {
  bytesRead: number
  bytesWritten: number
  /** Nothing came since then, although something was sent. */
  quietSince: number
  /** Something was sent since something came. */
  asked: boolean
}

/** How often connections are looked at, as a part of the silence that is allowed. */
const LOOKS_PER_SILENCE = 10
const MOST_SILENCE_MS = 300_000
const LEAST_SILENCE_MS = 250
/** After this long without giving a connection up, the silence that is allowed is the first one again. */
const FORGIVEN_AFTER_MS = 600_000
/** How long the server has to close connections on which nothing is asked any more, in ms. */
const FAREWELL_MS = 500

/**
 * Gives up connections that do not answer. A server that disappears without a word (a network that drops packets, a fail-over
 * to another machine) leaves connections on which a statement waits for as long as TCP tries: a quarter of an hour. While a
 * statement has been unanswered for `silenceMs`, connections on which nothing came for that long are reset; their statements
 * reject as with any lost connection, and the next ones get new connections.
 *
 * A statement that is merely slow is not told apart, so each time the allowed silence doubles, up to five minutes: it ends in
 * one of its next tries.
 */
export class ConnectionWatch {
  readonly #firstSilenceMs: number
  #silenceMs: number
  #gaveUpAt = Number.NEGATIVE_INFINITY
  readonly #sockets = new Map<Socket, Watched>()
  readonly #statements = new Set<{ since: number }>()
  #timer: NodeJS.Timeout | null = null
  #hostIndex = 0
  #hurried = false

  constructor(silenceMs: number) {
    this.#firstSilenceMs = silenceMs
    this.#silenceMs = silenceMs
  }

  /** Connects, as postgres.js would itself. */
  open({ host, port, path }: ParsedOptions): Socket {
    const socket = new Socket()
    if (path) socket.connect(path)
    else {
      const index = this.#hostIndex++ % host.length
      const to = { host: host[index] as string, port: port[index] as number }
      socket.connect(to)
      // postgres.js reads the server's name for TLS here.
      Object.assign(socket, to)
    }
    return this.adopt(socket)
  }

  adopt(socket: Socket): Socket {
    this.#sockets.set(socket, { bytesRead: 0, bytesWritten: 0, quietSince: performance.now(), asked: false })
    return socket
  }

  /** Notes a statement, or a whole transaction, until it ends. */
  follow(work: PromiseLike<unknown>): void {
    const statement = { since: performance.now() }
    this.#statements.add(statement)
    const ended = () => void this.#statements.delete(statement)
    Promise.prototype.then.call(work, ended, ended)
    this.#timer ??= this.#startLooking()
  }

  /** For the end: from now on no connection may be silent for longer than this, and each time for less. */
  hurry(silenceMs: number): void {
    this.#hurried = true
    this.#silenceMs = Math.min(silenceMs, this.#silenceMs)
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = this.#startLooking()
  }

  /** For the end: connections need not be closed by the server once nothing has been asked on any of them for a moment. */
  release(): void {
    let idleSince = performance.now()
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = setInterval(() => {
      this.#look()
      if (this.#statements.size > 0) idleSince = performance.now()
      else if (performance.now() - idleSince >= FAREWELL_MS) this.close()
    }, FAREWELL_MS / 10)
  }

  /** Destroys what is left, so that no connection that nobody answers keeps the process alive. */
  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    for (const socket of this.#sockets.keys()) socket.destroy()
    this.#sockets.clear()
    this.#statements.clear()
  }

  #startLooking(): NodeJS.Timeout {
    const everyMs = Math.max(20, Math.min(this.#silenceMs / LOOKS_PER_SILENCE, this.#hurried ? 100 : 1_000))
    return setInterval(() => this.#look(), everyMs).unref()
  }

  #look(): void {
    const now = performance.now()
    const oldest = Math.min(Number.POSITIVE_INFINITY, ...[...this.#statements].map(({ since }) => since))
    const unanswered = now - oldest >= this.#silenceMs
    let gaveUp = false
    for (const [socket, watched] of this.#sockets) {
      if (socket.destroyed) {
        this.#sockets.delete(socket)
        continue
      }
      notice(socket, watched, now)
      if (!unanswered || now - watched.quietSince < this.#silenceMs) continue
      gaveUp = true
      this.#sockets.delete(socket)
      giveUp(socket)
    }
    if (gaveUp && this.#hurried) {
      // Dozens of statements may wait for the few connections: each time there is less to hope for.
      this.#silenceMs = Math.max(LEAST_SILENCE_MS, this.#silenceMs / 2)
    } else if (gaveUp) {
      this.#gaveUpAt = now
      this.#silenceMs = Math.min(this.#silenceMs * 2, Math.max(MOST_SILENCE_MS, this.#firstSilenceMs))
    } else if (now - this.#gaveUpAt > FORGIVEN_AFTER_MS) {
      this.#silenceMs = Math.min(this.#silenceMs, this.#firstSilenceMs)
    }
  }
}

function notice({ bytesRead, bytesWritten }: Socket, watched: Watched, now: number): void {
  if (bytesRead !== watched.bytesRead) {
    Object.assign(watched, { bytesRead, bytesWritten, quietSince: now, asked: false })
  } else if (bytesWritten !== watched.bytesWritten) {
    // What was asked later does not make what was asked first any younger.
    Object.assign(watched, { bytesWritten, quietSince: watched.asked ? watched.quietSince : now, asked: true })
  }
}

/** With a reset, which takes back what is still to be sent: it must not be carried out when its repetition has been. */
function giveUp(socket: Socket): void {
  const error = Object.assign(new Error('Postgres did not answer, so the connection was given up.'), {
    code: 'CONNECTION_CLOSED',
  })
  // Told of no error, postgres.js goes on connecting for a statement that waits for its first connection.
  if (socket.listenerCount('error') > 0) socket.emit('error', error)
  if (socket.connecting) socket.destroy()
  else socket.resetAndDestroy()
  setTimeout(() => socket.destroy(), 500).unref()
}
