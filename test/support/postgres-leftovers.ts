import { readdirSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { cleanUp } from './postgres-watchdog.ts'

/** Named after the process that owns it, so that a later start can tell whether that one still lives. */
export function folderPrefix(pid?: number): string {
  return `postgres-${hostname()}-${pid === undefined ? '' : `${pid}-`}`
}

/** What is left of owners that were killed together with their watchdog, or by a power cut. */
export async function removeLeftovers(base: string): Promise<void> {
  const prefix = folderPrefix()
  for (const name of readdirSync(base).filter((entry) => entry.startsWith(prefix))) {
    const owner = Number.parseInt(name.slice(prefix.length), 10)
    if (Number.isNaN(owner) || isAlive(owner)) continue
    const folder = join(base, name)
    const dataDir = join(folder, 'data')
    await cleanUp({ pid: serverIn(dataDir), dataDir, remove: [folder] }).catch(() => {
      // Another start, or another user's leftover: not ours to insist on.
    })
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The server that runs on this folder; a number in a stale lock file may be anybody's by now. */
function serverIn(dataDir: string): number | null {
  try {
    const pid = Number.parseInt(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8'), 10)
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(dataDir) ? pid : null
  } catch {
    return null
  }
}
