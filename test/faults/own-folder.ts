/** Folders of a process of ours in `.tmp`: named after it, so that a later one can tell that it was killed and left them. */
import { mkdirSync, readdirSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'

/** Makes the folder of this process, and has `remove` take away those of processes that are gone. */
export function makeOwnFolder(base: string, kind: string, remove: (folder: string) => void): string {
  const prefix = `faults-${kind}-${hostname()}-`
  mkdirSync(base, { recursive: true })
  for (const name of readdirSync(base)) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length)))) continue
    try {
      remove(join(base, name))
    } catch {
      // Another start was quicker, or it is not what it seems to be.
    }
  }
  const folder = join(base, `${prefix}${process.pid}`)
  mkdirSync(folder)
  return folder
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
