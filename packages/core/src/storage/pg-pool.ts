import { Socket } from 'node:net'
import type { Pool, PoolConfig } from 'pg'
import type { DatabaseOption } from './connection.ts'

/** A connection or a statement that is not answered for this long is given up. */
const SILENCE_MS = 60_000
const CONNECT_MS = 10_000

const socketsOf = new WeakMap<Pool, Set<Socket>>()

/**
 * A small pool of node-postgres, for the job engine; loaded when it is needed. A connection that breaks while nobody uses it
 * ends the process where nobody listens, so somebody does. `silenceMs`: after this long a statement without an answer is given up.
 */
export async function openPgPool(database: DatabaseOption, max: number, silenceMs = SILENCE_MS): Promise<Pool> {
  const { default: pg } = await import('pg')
  const sockets = new Set<Socket>()
  const pool = new pg.Pool({
    ...poolConfig(database),
    max,
    ...(Number.isFinite(silenceMs) ? { query_timeout: silenceMs } : {}),
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    stream: () => {
      const socket = new Socket()
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      return socket
    },
  })
  socketsOf.set(pool, sockets)
  pool.on('error', () => {})
  pool.on('connect', (client) => void client.on('error', () => {}))
  return pool
}

/** Breaks the connections of such a pool: what waits for an answer on them rejects. */
export function breakConnections(pool: Pool): void {
  for (const socket of socketsOf.get(pool) ?? []) socket.destroy()
}

/** The job engine talks through node-postgres: the same database, by what postgres.js was given. */
function poolConfig(database: DatabaseOption): PoolConfig {
  if (typeof database === 'string') return { connectionString: database, application_name: 'posthaste-jobs' }
  const { host, port, database: name, user, username, pass, password, ssl } = database
  const first = <V>(value: V | V[] | undefined): V | undefined => (Array.isArray(value) ? value[0] : value)
  const secret = password ?? pass
  return {
    application_name: 'posthaste-jobs',
    ...(host === undefined ? {} : { host: first(host) as string }),
    ...(port === undefined ? {} : { port: Number(first(port)) }),
    ...(name === undefined ? {} : { database: name }),
    ...((user ?? username) === undefined ? {} : { user: (user ?? username) as string }),
    ...(secret === undefined || secret === null ? {} : { password: secret as string }),
    ...(ssl === undefined ? {} : { ssl: sslConfig(ssl) }),
  }
}

/** As postgres.js reads it: `verify-full` verifies, `require`, `allow` and `prefer` only encrypt. */
function sslConfig(ssl: NonNullable<Exclude<DatabaseOption, string>['ssl']>): PoolConfig['ssl'] {
  if (typeof ssl === 'object' || typeof ssl === 'boolean') return ssl
  return ssl === 'verify-full' ? true : { rejectUnauthorized: false }
}
