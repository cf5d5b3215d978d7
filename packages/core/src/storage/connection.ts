import type { Socket } from 'node:net'
import postgres from 'postgres'
import { isError } from '../errors.ts'
import { ConnectionWatch } from './connection-watch.ts'

/** A connection string, or the options of postgres.js. Posthaste opens connections of its own with them. */
// biome-ignore lint/complexity/noBannedTypes: postgres.js' own "no custom types"
export type DatabaseOption = string | postgres.Options<{}>

/** 64-bit integers come as numbers: ours (sequence numbers, tokens) stay below 2^53. */
const BIGINT: postgres.PostgresType<number> = { to: 20, from: [20], serialize: String, parse: Number }

/**
 * Arrays, which postgres.js otherwise learns of by a query of its own on each new connection. That query's promise is nobody's:
 * where the connection ends during it (3.4.9), its rejection is unhandled, which ends the host's process.
 */
const NUMBERS: postgres.PostgresType<number[] | string> = {
  to: 1007,
  // smallint[], int[], bigint[], double precision[]
  from: [1005, 1007, 1016, 1022],
  serialize: arrayText,
  parse: (text: string) => (text === '{}' ? [] : text.slice(1, -1).split(',').map(Number)),
}
const TEXTS: postgres.PostgresType<string[] | string> = {
  to: 1009,
  // text[], varchar[], uuid[]
  from: [1009, 1015, 2951],
  serialize: arrayText,
  parse: parseTexts,
}

type Types = { bigint: typeof BIGINT; numbers: typeof NUMBERS; texts: typeof TEXTS }

export type Sql = postgres.Sql<{ bigint: number; numbers: number[] | string; texts: string[] | string }>

/** What `begin()` hands to its callback. */
export type TransactionSql = postgres.TransactionSql<{
  bigint: number
  numbers: number[] | string
  texts: string[] | string
}>

/**
 * The pause in seconds before a connection that failed is made again. The default of postgres.js grows to 20 s, which a server
 * that was away for moments would cost us in delivery; the loops that ask have growing pauses of their own.
 */
function backoff(failures: number): number {
  return Math.min(1, 0.02 * 2 ** failures)
}

/** After this long without an answer a connection is given up, where the caller says nothing else. */
const SILENCE_MS = 30_000

/**
 * Opens a pool of `max` connections. `prepare: false` and the like in the host's options are kept, as a transaction-pooling
 * proxy may need them.
 *
 * @param silenceMs after this long without an answer a connection is given up (see `ConnectionWatch`)
 */
export function connect(database: DatabaseOption, max: number, silenceMs = SILENCE_MS): Sql {
  const watch = new ConnectionWatch(silenceMs)
  const options = {
    max,
    idle_timeout: 60,
    connect_timeout: 10,
    backoff,
    onnotice: () => {},
    connection: { application_name: 'posthaste' },
    types: { bigint: BIGINT, numbers: NUMBERS, texts: TEXTS },
    fetch_types: false,
    // postgres.js has this option, its types do not.
    socket: (parsed: Parameters<ConnectionWatch['open']>[0]) => watch.open(parsed),
  } as postgres.Options<Types>
  if (typeof database === 'string') return watched(postgres<Types>(database, options), watch)
  const { connection, idle_timeout = 60, connect_timeout = 10, ...rest } = database
  const { socket } = database as { socket?: (options: unknown) => Socket | Promise<Socket> }
  return watched(
    postgres<Types>({
      ...(rest as postgres.Options<Types>),
      ...options,
      ...(socket === undefined ? {} : { socket: async (parsed: unknown) => watch.adopt(await socket(parsed)) }),
      idle_timeout,
      connect_timeout,
      connection: { application_name: 'posthaste', ...connection },
    } as postgres.Options<Types>),
    watch,
  )
}

const watches = new WeakMap<object, ConnectionWatch>()

/** Of a client of `connect`: from now on a connection is given up after this long without an answer. */
export function hurryConnections(sql: Sql, silenceMs: number): void {
  watches.get(sql)?.hurry(silenceMs)
}

/** The client, with every statement and transaction followed until it ends, and an end that leaves no socket open. */
function watched(sql: Sql, watch: ConnectionWatch): Sql {
  const follow = (query: postgres.PendingQuery<postgres.Row[]>) => {
    const lazy = query as unknown as { handle?: () => Promise<void>; executed?: boolean }
    const { handle } = lazy
    // Identifiers and lists have none; fragments are never executed themselves.
    if (handle === undefined) return query
    lazy.handle = function () {
      if (this.executed !== true) watch.follow(query)
      return handle.call(this)
    }
    return query
  }
  const own = {
    unsafe: (...args: Parameters<Sql['unsafe']>) => follow(sql.unsafe(...args)),
    begin(...args: Parameters<Sql['begin']>) {
      const work = sql.begin(...args)
      watch.follow(work)
      return work
    },
    async end(options?: { timeout?: number }) {
      if (options?.timeout !== undefined) watch.hurry(options.timeout * 1_000)
      const ended = sql.end(options)
      watch.release()
      await ended.finally(() => watch.close())
    },
  }
  const proxy: Sql = new Proxy(sql, {
    apply: (target, self, args) => follow(Reflect.apply(target, self, args)),
    get: (target, name) => (name in own ? own[name as keyof typeof own] : Reflect.get(target, name)),
  })
  watches.set(proxy, watch)
  return proxy
}

/**
 * For the callback of `begin()`. When a transaction's connection is lost, postgres.js 3.4.9 answers the callback's rejection
 * with a `rollback` on that connection, whose socket is gone: a TypeError in a `setImmediate`, which nobody can catch and
 * which ends the host's process. So the callback does not end then; `begin()` itself rejects when the connection closes.
 */
export async function untilConnectionLost<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!isConnectionLost(error)) throw error
    return await new Promise<never>(() => {})
  }
}

/** Ours (`CONNECTION_CLOSED` …) and the server's last words: class 08, and 57P01 to 57P03 (PostgreSQL, appendix A). */
function isConnectionLost(error: unknown): boolean {
  for (let at: unknown = error; isError(at); at = at.cause) {
    const code = (at as { code?: unknown }).code
    if (typeof code !== 'string') continue
    if (code.startsWith('CONNECTION_') || code.startsWith('08') || /^57P0[123]$/.test(code)) return true
    if (code === 'ECONNRESET' || code === 'EPIPE') return true
  }
  return false
}

/** An array as Postgres reads it (PostgreSQL, section 8.15.2). What is text already was made so by drizzle. */
function arrayText(value: readonly (string | number | null)[] | string): string {
  if (typeof value === 'string') return value
  const elements = value.map((element) =>
    element === null
      ? 'NULL'
      : typeof element === 'number'
        ? String(element)
        : `"${element.replace(/["\\]/g, '\\$&')}"`,
  )
  return `{${elements.join(',')}}`
}

/** One-dimensional arrays of text, as Postgres writes them: elements in quotes where they need it, backslash before `"` and `\\`. */
function parseTexts(text: string): string[] {
  if (text === '{}') return []
  const elements: string[] = []
  for (const [, quoted, plain] of text.matchAll(/"((?:[^"\\]|\\.)*)"|([^{},"]+)/g)) {
    elements.push(quoted === undefined ? (plain as string) : quoted.replace(/\\(.)/g, '$1'))
  }
  return elements
}
