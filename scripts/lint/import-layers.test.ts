import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const CHECKOUT = resolve(import.meta.dirname, '..', '..')
const OXLINT = join(dirname(createRequire(import.meta.url).resolve('oxlint/package.json')), 'bin', 'oxlint')

const RULES = ['posthaste(import-layers)', 'import(no-cycle)']

interface Diagnostic {
  code: string
  filename: string
  message: string
}

/** Each file is linted with the repository's own configuration; `expected` is a part of the message, null for none. */
const CASES: Record<string, { code: string; expected: string | null }> = {
  // the order of the layers
  'core/src/clock.ts': { code: "import './storage/a.ts'", expected: 'clock may not import storage' },
  'core/src/logger.ts': { code: "import './lifecycle/events.ts'", expected: 'logger may not import lifecycle' },
  'core/src/ids.ts': { code: "import { e } from './errors.ts'\nexport const i = e", expected: null },
  'core/src/lifecycle/a.ts': { code: "import '../catalog/a.ts'", expected: 'lifecycle may not import catalog' },
  'core/src/catalog/a.ts': { code: "import '../signing/a.ts'", expected: 'catalog may not import signing' },
  'core/src/signing/a.ts': { code: "export * from '../emit/a.ts'", expected: 'signing may not import emit' },
  'core/src/storage/a.ts': {
    code: "export { d } from '../dispatch/a.ts'",
    expected: 'storage may not import dispatch',
  },
  'core/src/emit/a.ts': { code: "import '../lanes/a.ts'", expected: 'emit may not import lanes' },
  'core/src/dispatch/a.ts': {
    code: "export const d = import('../delivery/a.ts')",
    expected: 'dispatch may not import',
  },
  'core/src/lanes/deep/a.ts': { code: "import '../../queue/a.ts'", expected: 'lanes may not import queue' },
  'core/src/http-client/a.ts': {
    code: "export type D = import('../delivery/b.ts').D",
    expected: 'may not import delivery',
  },
  'core/src/delivery/a.ts': {
    code: "import type { A } from '../api/a.ts'\nexport type B = A",
    expected: 'may not import api',
  },
  'core/src/delivery/fine.ts': { code: "import '../lanes/deep/b.ts'\nimport '../signing/b.ts'", expected: null },
  'core/src/queue/a.ts': { code: "import '../api/a.ts'", expected: 'queue may not import api' },
  'core/src/api/a.ts': { code: "import '../webhooks.ts'", expected: 'api may not import webhooks' },
  'core/src/api/b.ts': { code: "import '../node/a.ts'", expected: 'api may not import node' },
  'core/src/webhooks.ts': { code: "import './index.ts'", expected: 'webhooks may not import index' },
  'core/src/node/a.ts': { code: "import '../webhooks.ts'", expected: 'node may not import webhooks' },
  'core/src/invented/a.ts': { code: "import '../errors.ts'", expected: 'invented is in no layer yet' },
  // one home for each library with consequences
  'core/src/queue/static.ts': {
    code: "import { run } from 'graphile-worker'\nrun()",
    expected: 'load it with import()',
  },
  'core/src/queue/lazy.ts': {
    code: "import type { Runner } from 'graphile-worker'\nexport const load = (): Promise<Runner> => import('graphile-worker')",
    expected: null,
  },
  'core/src/lanes/worker.ts': { code: "export const g = import('graphile-worker')", expected: 'Only queue may import' },
  'core/src/emit/drizzle.ts': {
    code: "import 'drizzle-orm/pg-core'",
    expected: 'Only storage may import drizzle-orm',
  },
  'core/src/dispatch/pg.ts': { code: "import 'pg'", expected: 'Only storage, queue may import pg' },
  'core/src/api/sql.ts': { code: "import 'postgres'", expected: 'Only storage may import postgres' },
  'core/src/storage/drivers.ts': { code: "import 'drizzle-orm'\nimport 'pg'\nimport 'postgres'", expected: null },
  // the receiver stands alone
  'core/src/receiver/node.ts': { code: "import 'node:crypto'", expected: 'imports nothing at runtime' },
  'core/src/receiver/errors.ts': { code: "import '../errors.ts'", expected: 'imports nothing at runtime' },
  'core/src/receiver.ts': {
    code: "import type { FieldError } from './errors.ts'\nimport './receiver/verify.ts'\nexport type E = FieldError",
    expected: null,
  },
  // packages know each other by name
  'core/src/api/self.ts': { code: "import '@posthaste/core'", expected: 'core imports itself by relative paths' },
  'core/src/api/c.ts': { code: "import '../../../express/src/a.ts'", expected: 'leaves the package' },
  'express/src/index.ts': { code: "import '../../core/src/index.ts'", expected: 'leaves the package' },
  'express/src/fine.ts': { code: "import '@posthaste/core'\nimport './index.ts'", expected: null },
  'core/src/emit/any.test.ts': { code: "import '../webhooks.ts'\nimport 'pg'", expected: null },
  // cycles, of types too, also within a layer
  'core/src/storage/c1.ts': {
    code: "import { b } from './c2.ts'\nexport const a = () => b",
    expected: 'Dependency cycle',
  },
  'core/src/storage/c2.ts': {
    code: "import { a } from './c1.ts'\nexport const b = () => a",
    expected: 'Dependency cycle',
  },
  'core/src/storage/t1.ts': {
    code: "import type { B } from './t2.ts'\nexport type A = B | 1",
    expected: 'Dependency cycle',
  },
  'core/src/storage/t2.ts': {
    code: "import type { A } from './t1.ts'\nexport type B = A | 2",
    expected: 'Dependency cycle',
  },
}

describe('the import rule', () => {
  let folder: string
  const messages = new Map<string, string[]>()

  beforeAll(async () => {
    mkdirSync(join(CHECKOUT, '.tmp'), { recursive: true })
    folder = mkdtempSync(join(CHECKOUT, '.tmp', 'lint-'))
    // Looks like a repository of its own, so that the checkout's .gitignore does not hide it from oxlint.
    mkdirSync(join(folder, '.git'))
    for (const [path, { code }] of Object.entries(CASES)) {
      const file = join(folder, 'packages', path)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, `${code}\n`)
    }
    for (const { code, filename, message } of await lint(folder)) {
      if (!RULES.includes(code)) continue
      const path = filename.replaceAll('\\', '/').split('/packages/').at(-1) ?? filename
      messages.set(path, [...(messages.get(path) ?? []), message])
    }
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test.each(Object.entries(CASES))('%s', (path, { expected }) => {
    const found = messages.get(path) ?? []
    if (expected === null) expect(found).toEqual([])
    else expect(found.join('\n')).toContain(expected)
  })
})

async function lint(folder: string): Promise<Diagnostic[]> {
  const config = join(CHECKOUT, '.oxlintrc.json')
  const args = [OXLINT, '-c', config, '-f', 'json', folder]
  const output = await new Promise<string>((done) => {
    execFile(process.execPath, args, { cwd: CHECKOUT }, (_error, stdout, stderr) => done(stdout || stderr))
  })
  return (JSON.parse(output) as { diagnostics: Diagnostic[] }).diagnostics
}
