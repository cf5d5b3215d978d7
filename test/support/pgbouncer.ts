/**
 * A PgBouncer in transaction mode in front of a server: each transaction may run on another connection, and whatever a session
 * had set or prepared is somewhere else. Debian's package has the program; where there is none, the tests say so and skip.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { choosePostgresUser, reachableTemporaryFolder } from './postgres-binaries.ts'
import { makeFolder, processOptions } from './postgres-cluster.ts'
import { startWatchdog } from './postgres-watchdog.ts'

export interface PgBouncer {
  /** The given URL, led through PgBouncer. */
  url(behind: string): string
  stop(): Promise<void>
}

/** Null where there is no PgBouncer on this machine. */
export function findPgBouncer(): string | null {
  const places = [
    process.env.PGBOUNCER,
    '/usr/sbin/pgbouncer',
    '/usr/local/bin/pgbouncer',
    '/opt/homebrew/bin/pgbouncer',
  ]
  return places.find((path) => path !== undefined && existsSync(path)) ?? null
}

/** Such as `PgBouncer 1.18.0`. */
export function versionOf(program: string): string {
  return execFileSync(program, ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? ''
}

/**
 * @param serverUrl any URL of the server, with the role that PgBouncer uses for all of its clients
 * @param poolSize connections to each database: few, so that clients really share them
 */
export async function startPgBouncer(program: string, serverUrl: string, poolSize: number): Promise<PgBouncer> {
  const server = new URL(serverUrl)
  // It refuses to run as root, as Postgres does.
  const user = choosePostgresUser()
  const base = reachableTemporaryFolder(resolve(import.meta.dirname, '..', '..', '.tmp'), user)
  const folder = join(base, `pgbouncer-${process.pid}-${randomBytes(4).toString('hex')}`)
  makeFolder(folder, user)
  const watchdog = startWatchdog({ pid: null, dataDir: folder, remove: [folder] })
  for (let attempt = 1; ; attempt++) {
    const port = 20_000 + (randomBytes(2).readUInt16BE() % 12_000)
    const file = join(folder, 'pgbouncer.ini')
    writeFileSync(
      file,
      `[databases]
* = host=${server.hostname} port=${server.port} user=${server.username} password=${server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 500
`,
      { mode: 0o600 },
    )
    if (user !== null) chownSync(file, user.uid, user.gid)
    const child = spawn(program, [file], { ...processOptions(user), cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
    let log = ''
    child.stderr.on('data', (chunk) => {
      log += chunk
    })
    watchdog.update({ pid: child.pid ?? null })
    if (await answers(port, child)) {
      return {
        url(behind) {
          const url = new URL(behind)
          url.hostname = '127.0.0.1'
          url.port = String(port)
          return url.href
        },
        async stop() {
          const exited = once(child, 'exit')
          if (child.exitCode === null && child.kill('SIGTERM')) await exited
          await watchdog.finish()
        },
      }
    }
    if (attempt === 5) {
      await watchdog.finish()
      throw new Error(`PgBouncer did not start:\n${log}`)
    }
  }
}

async function answers(port: number, child: ChildProcess): Promise<boolean> {
  for (let tries = 0; tries < 200 && child.exitCode === null; tries++) {
    const socket = connect(port, '127.0.0.1')
    const connected = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (connected) return true
    await sleep(25)
  }
  return false
}
