/**
 * Checks what would be published, as a user's tools will see it: packs every public package, looks into the tarball, lets
 * publint and attw judge it, compiles its declarations as the strictest host would, and imports each entry from the build under this
 * Node. Needs `pnpm build` first.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'

interface Manifest {
  name: string
  version: string
  private?: boolean
  exports: Record<string, string | Record<string, string>>
  dependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
}

const CHECKOUT = resolve(import.meta.dirname, '..')
/** Only the workspace resolves packages to their sources. */
const SOURCE_CONDITION = 'posthaste-source'
const folder = join(CHECKOUT, '.tmp', `packages-${process.pid}`)
const problems: string[] = []

mkdirSync(folder, { recursive: true })
try {
  const manifests = globSync('packages/*/package.json', { cwd: CHECKOUT }).toSorted()
  for (const file of manifests) checkPackage(join(CHECKOUT, file, '..'))
} finally {
  rmSync(folder, { recursive: true, force: true })
}
for (const problem of problems) console.error(`✗ ${problem}`)
if (problems.length > 0) process.exit(1)

function checkPackage(source: string): void {
  const declared = readManifest(source)
  if (declared.private) return
  const before = problems.length
  const fail = (problem: string) => problems.push(`${declared.name}: ${problem}`)
  const tarball = join(folder, `${declared.name.replaceAll('/', '-')}.tgz`)
  run('pnpm', ['pack', '--out', tarball], source, fail)
  const unpacked = join(folder, declared.name)
  mkdirSync(unpacked, { recursive: true })
  run('tar', ['-xzf', tarball, '-C', unpacked, '--strip-components=1'], folder, fail)
  const packed = readManifest(unpacked)

  for (const file of ['LICENSE', 'README.md']) {
    if (!existsSync(join(unpacked, file))) fail(`${file} is missing from the tarball`)
  }
  if (JSON.stringify(Object.keys(packed.exports)) !== JSON.stringify(Object.keys(declared.exports))) {
    fail('publishConfig.exports has other entries than exports')
  }
  for (const [entry, targets] of Object.entries(packed.exports)) {
    const conditions = typeof targets === 'string' ? { default: targets } : targets
    if (SOURCE_CONDITION in conditions) fail(`the entry ${entry} is published with the condition ${SOURCE_CONDITION}`)
    for (const path of Object.values(conditions)) {
      if (!existsSync(join(unpacked, path))) fail(`the entry ${entry} names ${path}, which is not in the tarball`)
    }
  }
  for (const [name, range] of Object.entries({ ...packed.dependencies, ...packed.peerDependencies })) {
    if (/^(workspace|catalog):/.test(range)) fail(`${name} is published as "${range}"`)
  }
  for (const file of globSync('**/*.test.*', { cwd: unpacked })) fail(`the tarball holds a test: ${file}`)

  run('publint', ['run', tarball, '--strict'], CHECKOUT, fail)
  run('attw', [tarball, '--profile', 'esm-only', '--no-color', '--no-emoji'], CHECKOUT, fail)

  const declarations = Object.values(packed.exports).flatMap((targets) =>
    typeof targets === 'object' && targets.types !== undefined ? [targets.types] : [],
  )
  const strictest = '--ignoreConfig --noEmit --strict --exactOptionalPropertyTypes --skipLibCheck false --types node'
  for (const resolver of ['--module nodenext', '--module esnext --moduleResolution bundler']) {
    // In the package's own folder, where its dependencies are found.
    run('tsc', [...`${strictest} --target es2023 ${resolver}`.split(' '), ...declarations], source, fail)
  }
  for (const entry of Object.keys(packed.exports).filter((name) => name !== './package.json')) {
    const specifier = join(declared.name, entry)
    // From the package's own folder, which Node lets import itself by name; without the source condition that is dist.
    run(process.execPath, ['--input-type=module', '--eval', `await import(${JSON.stringify(specifier)})`], source, fail)
  }
  const receiver = join(unpacked, 'dist', 'receiver.js')
  if (existsSync(receiver) && /\bimport\b[^;]*["']|\brequire\(/.test(withoutComments(readFileSync(receiver, 'utf8')))) {
    fail('dist/receiver.js imports something; it must stand alone, so that it runs anywhere')
  }
  if (problems.length === before)
    console.log(`✓ ${packed.name} ${packed.version}: ${Object.keys(packed.exports).join(', ')}`)
}

function readManifest(path: string): Manifest {
  return JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')) as Manifest
}

function withoutComments(code: string): string {
  return code.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
}

function run(command: string, args: string[], cwd: string, fail: (problem: string) => void): void {
  try {
    execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    fail(`${command} ${args.join(' ')}\n${stdout}${stderr || (error as Error).message}`)
  }
}
