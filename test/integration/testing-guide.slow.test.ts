/** docs/testing.md: every file that it shows is run as it stands, by the runner that it is written for. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const FOLDER = join(ROOT, 'test', 'testing-guide')
const VITEST = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
const guide = readFileSync(join(ROOT, 'docs', 'testing.md'), 'utf8')
const PATIENCE = { timeout: 120_000 }

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

/** Of a child that knows nothing of this run but the database. @throws with its output, where it fails */
async function run(args: string[], folder = FOLDER): Promise<string> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_|TEST)/.test(name))
  const { stdout } = await promisify(execFile)(process.execPath, ['--conditions=posthaste-source', ...args], {
    cwd: folder,
    env: { ...Object.fromEntries(inherited), TEST_DATABASE_URL: database.url, NO_COLOR: '1' },
  }).catch((error: { stdout?: string; stderr?: string }) => {
    throw new Error(`${error.stdout}\n${error.stderr}`)
  })
  return stdout
}

const files = readdirSync(FOLDER).filter((name) => name !== 'vitest.config.ts')

test('the guide shows every file, word for word, and no other code', () => {
  expect([...guide.matchAll(/```ts\n/g)]).toHaveLength(files.length)
  for (const name of files) expect(guide).toContain(`\`\`\`ts\n${readFileSync(join(FOLDER, name), 'utf8')}\`\`\``)
})

describe('node:test', () => {
  test.each([
    ['deliveries.ts', 4],
    ['receiver.ts', 3],
    ['adapter.ts', 1],
  ])('runs %s', PATIENCE, async (name, count) => {
    const output = await run(['--test', '--test-reporter=tap', name])
    expect(output).toMatch(new RegExp(`^# pass ${count}$`, 'm'))
  })
})

test('vitest runs rolled-back.ts', PATIENCE, async () => {
  const output = await run([VITEST, 'run', '--config', 'vitest.config.ts', '--root', '.'])
  expect(output).toMatch(/Tests +2 passed/)
})

test('in another realm than that of Node, as under jest', PATIENCE, async () => {
  const folder = join(ROOT, 'test', 'other-realm')
  const output = await run([VITEST, 'run', '--config', 'vitest.config.ts', '--root', '.'], folder)
  expect(output).toMatch(/Tests +4 passed/)
})
