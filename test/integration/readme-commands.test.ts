/** The commands of the READMEs: what starts a server starts it, and what pnpm is told to run is there. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { generateSecret } from '@posthaste/core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { snippetsOf } from '../support/snippets.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const PATIENCE = { timeout: 60_000 }

let database: TestDatabase
let server: ChildProcess | null = null
beforeAll(async () => {
  database = await createTestDatabase()
})
afterEach(() => {
  // The shell, and what it started.
  if (server?.pid !== undefined && server.exitCode === null) process.kill(-server.pid, 'SIGKILL')
})
afterAll(() => database.drop())

describe('pnpm', () => {
  test.each([
    ['README.md', 0, 'demo'],
    ['README.md', 1, 'test'],
    ['examples/express/README.md', 0, 'demo'],
  ])('%s, command %i runs a script that there is, by the version of CONTRIBUTING.md', (page, index, script) => {
    const [, version] = /pnpm@([\d.]+)/.exec(read('CONTRIBUTING.md'))!
    expect(snippetsOf(page, 'sh')[index]?.code).toBe(`npx -y pnpm@${version} ${script}\n`)
    expect(JSON.parse(read('package.json')).scripts).toHaveProperty(script)
  })

  test('`demo` is the program that example-demo.test.ts runs', () => {
    const program = JSON.parse(read('package.json')).scripts.demo.split(' ').at(-1) as string
    const parts = program.split('/').map((part) => `'${part}'`)
    expect(read('test/integration/example-demo.test.ts')).toContain(`join(CHECKOUT, ${parts.join(', ')})`)
  })
})

describe('a server', () => {
  test.each([
    ['examples/express/README.md', 1, []],
    ['examples/fastify/README.md', 0, []],
    ['examples/koa/README.md', 0, []],
    ['examples/receiver/README.md', 0, []],
    ['examples/receiver-inbox/README.md', 0, ['whsec_…', 'PORT=4000']],
  ] as const)('%s starts it, as it stands but for what is the reader’s own', PATIENCE, async (page, index, own) => {
    let command = snippetsOf(page, 'sh')[index]!.code
    const secret = generateSecret()
    const instead: Record<string, string> = { 'whsec_…': secret, 'PORT=4000': 'PORT=0' }
    for (const text of own) {
      expect(command).toContain(text)
      command = command.replace(text, instead[text]!)
    }
    command = command.replace(/postgres:\/\/\S+/, database.url)
    const file = /\S+\.ts/.exec(command)![0]
    const cwd = existsSync(join(ROOT, file)) ? ROOT : join(ROOT, dirname(page))
    expect(existsSync(join(cwd, file))).toBe(true)
    server = spawn('sh', ['-e', '-c', command], {
      cwd,
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: process.env.PATH,
        // What a reader of the pages of Fastify and Koa has exported by the page of Express.
        DATABASE_URL: database.url,
        API_KEY: 'sk_live_your_api_key',
        POSTHASTE_KEY: randomBytes(32).toString('base64'),
        PORT: '0',
      },
    })
    const lines: string[] = []
    for await (const line of createInterface({ input: server.stdout! })) {
      lines.push(line)
      if (/http:\/\/127\.0\.0\.1:\d+|on port \d+/.test(line)) break
    }
    expect(lines.join()).toMatch(/:[1-9]\d+|port [1-9]\d+/)
  })
})
