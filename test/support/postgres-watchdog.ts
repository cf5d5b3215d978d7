/**
 * A small process that outlives the one which started Postgres, however that one ends (Ctrl-C, a crash, SIGKILL). It learns
 * through its standard input what is there; when that closes it stops the server and removes the temporary folders.
 * Postgres itself would run on for ever: it notices the death of its clients, not of its parent.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

export interface WatchdogState {
  /** The running initdb or postmaster; null while there is none. */
  pid: number | null
  /** Where the server's `postmaster.pid` lies. */
  dataDir: string
  /** Removed once the server is gone. */
  remove: string[]
}

if (process.argv[1] === import.meta.filename) {
  // A Ctrl-C reaches every process of the terminal's foreground group; this one is what cleans up after it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
  let state: WatchdogState | null = null
  for await (const line of createInterface({ input: process.stdin })) state = JSON.parse(line) as WatchdogState
  if (state !== null) await cleanUp(state)
}

/** Stops what runs, at once, and removes what is temporary. */
export async function cleanUp({ pid, dataDir, remove }: WatchdogState): Promise<void> {
  if (pid !== null) {
    const lockFile = join(dataDir, 'postmaster.pid')
    // An immediate shutdown: it needs no clean state, and it frees the shared memory that SIGKILL would leave.
    if (signal(pid, 'SIGQUIT')) {
      const giveUpAt = performance.now() + 10_000
      // The lock file is asked too: a dead server may stay a zombie where nobody collects orphans (some containers).
      while (signal(pid, 0) && lockedBy(lockFile) === pid && performance.now() < giveUpAt) await sleep(20)
      if (lockedBy(lockFile) === pid) signal(pid, 'SIGKILL')
    }
  }
  for (const folder of remove) rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
}

function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name)
  } catch {
    return false
  }
}

function lockedBy(lockFile: string): number | null {
  return existsSync(lockFile) ? Number.parseInt(readFileSync(lockFile, 'utf8'), 10) : null
}

export interface Watchdog {
  update(change: Partial<WatchdogState>): void
  /** Stops and removes what there is, and ends. */
  finish(): Promise<void>
}

/** Starts that process. */
export function startWatchdog(initial: WatchdogState): Watchdog {
  let state = initial
  const child = spawn(process.execPath, [import.meta.filename], {
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
    detached: true,
    env: { PATH: process.env.PATH },
  })
  const exited = once(child, 'exit')
  exited.catch(() => {})
  // Where the watchdog itself was killed, writing fails; the server is then stopped by `stop` as ever.
  child.stdin.on('error', () => {})
  child.unref()
  ;(child.stdin as unknown as { unref(): void }).unref()
  const update = (change: Partial<WatchdogState>) => {
    state = { ...state, ...change }
    if (child.stdin.writable) child.stdin.write(`${JSON.stringify(state)}\n`)
  }
  update({})
  return {
    update,
    async finish() {
      child.ref()
      child.stdin.end()
      await exited
    },
  }
}
