/**
 * A small file system for Postgres' data, and how it becomes full: a tmpfs, mounted in a mount namespace of its own, which the
 * kernel takes away with the last process in it. So nothing stays mounted, however a run ends, and nobody else sees it.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, rmdirSync } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { choosePostgresUser, reachableTemporaryFolder } from '../support/postgres-binaries.ts'
import { makeOwnFolder } from './own-folder.ts'

/** What a cluster, its log and the databases of a run need, and some. It is memory: no more than this is ever taken. */
const SIZE_MB = 400
const CHUNK = Buffer.alloc(1 << 20)
const PAGE = CHUNK.subarray(0, 4096)

/** The log is kept small, so that the disk can be. */
export const SMALL_DISK_SETTINGS = { max_wal_size: '96MB', min_wal_size: '32MB' } as const

/** What a process has to be started with, to have a mount namespace of its own. */
export const IN_OWN_NAMESPACE = ['unshare', '--mount', '--propagation', 'private'] as const

/** Null, or why no disk can be made here. */
export function whyNoSmallDisk(): string | null {
  if (process.platform !== 'linux') return 'only Linux has private mounts'
  if (process.getuid?.() !== 0) return 'only root may mount'
  try {
    const [command, ...args] = [...IN_OWN_NAMESPACE, 'mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', tmpdir()]
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    return null
  } catch (error) {
    return String((error as { stderr?: Buffer }).stderr ?? error).trim()
  }
}

export interface SmallDisk {
  /** For Postgres. */
  readonly dataDir: string
  /** Takes all the space there is, also what becomes free meanwhile, until it is emptied. */
  fill(): Promise<void>
  /** Gives the space back. */
  empty(): Promise<void>
  /** Away with all of it, before the process ends; without this an empty folder stays, which the next start removes. */
  remove(): void
}

/** In a process that was started with `IN_OWN_NAMESPACE`. @throws Error in any other, where the mount would stay */
export function mountSmallDisk(): SmallDisk {
  const user = choosePostgresUser()
  const base = reachableTemporaryFolder(resolve(import.meta.dirname, '..', '..', '.tmp'), user)
  if (!inOwnNamespace()) throw new Error('A small disk is mounted in a mount namespace of its own only.')
  // What is left of a run that was killed is an empty folder: its mount has gone with it.
  const folder = makeOwnFolder(base, 'disk', rmdirSync)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE_MB}m,mode=0755`, 'posthaste-faults', folder])
  chmodSync(folder, 0o755)
  const ballast = join(folder, 'ballast')
  let filling: Promise<void> | null = null
  let enough = false
  return {
    dataDir: join(folder, 'data'),
    async fill() {
      enough = false
      const file = await open(ballast, 'w')
      await takeAll(file)
      filling = (async () => {
        while (!enough) {
          await new Promise((wake) => setTimeout(wake, 20))
          await takeAll(file)
        }
        await file.close()
      })()
    },
    async empty() {
      enough = true
      await filling
      filling = null
      await rm(ballast, { force: true })
    },
    remove() {
      execFileSync('umount', [folder])
      rmdirSync(folder)
    },
  }
}

/** The last page is taken as well: Postgres writes in pages. */
async function takeAll(file: FileHandle): Promise<void> {
  for (const piece of [CHUNK, PAGE]) {
    try {
      for (;;) if ((await file.write(piece)).bytesWritten < piece.length) break
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
  }
}

/** Compared with the parent's: whoever starts us in a namespace stays outside of it. */
function inOwnNamespace(): boolean {
  const of = (pid: number | 'self') => execFileSync('readlink', [`/proc/${pid}/ns/mnt`], { encoding: 'utf8' })
  return of('self') !== of(process.ppid)
}
