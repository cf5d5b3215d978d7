/**
 * The processes that are measured run what a host installs: plain JavaScript, and `@posthaste/core` as it is published. From the
 * sources a worker begins with 35 MB more (the type stripper and the texts), and takes a second longer to load.
 */
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'tsdown'

const bench = join(import.meta.dirname, '..')
const PROCESSES = ['host-application', 'other-queue', 'receiver', 'undici-loop']

/** Builds the core and the processes of the benchmark; a few seconds. */
export async function buildProcesses(): Promise<void> {
  await build({ cwd: join(bench, '..', 'packages', 'core'), logLevel: 'error' })
  await build({
    cwd: bench,
    config: false,
    entry: PROCESSES.map((name) => `processes/${name}.ts`),
    outDir: 'dist',
    format: 'esm',
    platform: 'node',
    external: [/^[^./]/],
    outExtensions: () => ({ js: '.js' }),
    dts: false,
    clean: true,
    logLevel: 'error',
  })
}

/** Where the built form of a process file lies. */
export function builtProcess(source: URL): string {
  return join(bench, 'dist', `${basename(fileURLToPath(source), '.ts')}.js`)
}

/** Of this process' own options those that its children need, too. */
export function childOptions(execArgv: readonly string[]): string[] {
  return execArgv.filter((option) => option !== '--conditions=posthaste-source')
}
