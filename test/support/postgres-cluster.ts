import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isReachable, type PostgresUser } from './postgres-binaries.ts'
import type { Watchdog } from './postgres-watchdog.ts'

const PASSWORD_FILE = 'posthaste-password'

/** The superuser's password, which lies in the data folder so that a kept one can be used again. */
export function readPassword(dataDir: string): string {
  return readFileSync(join(dataDir, PASSWORD_FILE), 'utf8').trim()
}

/** Makes the cluster with initdb, unless `dataDir` holds one. `folder` is for temporary files. */
export async function ensureCluster(
  native: string,
  dataDir: string,
  folder: string,
  user: PostgresUser | null,
  watchdog: Watchdog,
): Promise<void> {
  if (existsSync(join(dataDir, 'PG_VERSION'))) return
  makeFolder(dataDir, user, 0o700)
  if (user !== null && !isReachable(dataDir, user)) {
    throw new Error(`The user ${user.name}, who runs Postgres for root, cannot reach ${dataDir}.`)
  }
  const passwordFile = join(folder, 'password')
  const password = `${randomBytes(16).toString('hex')}\n`
  writeFileSync(passwordFile, password, { mode: 0o600 })
  if (user !== null) chownSync(passwordFile, user.uid, user.gid)
  const child = spawn(
    join(native, 'bin', 'initdb'),
    [
      `--pgdata=${dataDir}`,
      '--username=postgres',
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--no-sync',
      '--no-instructions',
      '--set=scram_iterations=1',
      '--set=dynamic_shared_memory_type=mmap',
    ],
    { ...processOptions(user), stdio: ['ignore', 'pipe', 'pipe'], cwd: folder, detached: true },
  )
  await once(child, 'spawn')
  watchdog.update({ pid: child.pid ?? null })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  child.stderr.on('data', (chunk) => {
    output += chunk
  })
  const [code] = (await once(child, 'close')) as [number | null]
  watchdog.update({ pid: null })
  if (code !== 0) throw new Error(`initdb failed with ${code ?? 'a signal'}:\n${output}`)
  const kept = join(dataDir, PASSWORD_FILE)
  writeFileSync(kept, password, { mode: 0o600 })
  if (user !== null) chownSync(kept, user.uid, user.gid)
}

/** No PG… variable, locale or time zone of the developer's machine gets in. */
export function processOptions(user: PostgresUser | null) {
  const env = { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' }
  return user === null ? { env } : { env, uid: user.uid, gid: user.gid }
}

export function makeFolder(path: string, user: PostgresUser | null, mode = 0o755): void {
  mkdirSync(path, { recursive: true })
  chmodSync(path, mode)
  if (user !== null) chownSync(path, user.uid, user.gid)
}
