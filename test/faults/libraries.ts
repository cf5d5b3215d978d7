/** The versions of the library that a deploy goes between. */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const CORE = resolve(import.meta.dirname, '..', '..', 'packages', 'core')

/**
 * This checkout's source, and another: of `other`, the root of another checkout, or else a copy of this one that calls itself
 * another version. A copy shows that workers of two processes' worth of code and prepared statements share lanes, leases and
 * fences; what a later version changes shows only with two real ones.
 */
export function prepareLibraries(folder: string, other?: string): string[] {
  const ours = join(CORE, 'src')
  if (other !== undefined) return [ours, join(resolve(other), 'packages', 'core', 'src')]
  const copy = join(folder, 'next-version')
  mkdirSync(copy, { recursive: true })
  cpSync(ours, join(copy, 'src'), { recursive: true })
  cpSync(join(CORE, 'package.json'), join(copy, 'package.json'))
  symlinkSync(join(CORE, 'node_modules'), join(copy, 'node_modules'))
  const version = join(copy, 'src', 'version.ts')
  writeFileSync(version, readFileSync(version, 'utf8').replace(/VERSION = '[^']*'/, "VERSION = '999.0.0'"))
  return [ours, join(copy, 'src')]
}
