/**
 * Every fenced block on our pages is run or checked by a test. Which one is written down here, block by block in the order of the
 * page: who adds a block finds this test red until he has said what keeps it true.
 */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { snippetsOf } from '../support/snippets.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

const COMMANDS = 'test/integration/readme-commands.test.ts'
const README = 'test/integration/readme.test.ts'
const SERVERS = 'test/integration/example-servers.test.ts'
const API = 'test/contract/api-docs.test.ts'
const NETWORK = 'test/integration/network-examples.test.ts'
const OPERATORS = 'test/integration/operator-guides.test.ts'
const PARTITIONS = 'test/integration/partition-upkeep.test.ts'
const TESTING = 'test/integration/testing-guide.slow.test.ts'
const LAYERS = 'test/integration/emit-data-layers-docs.test.ts'
const MOVING = 'test/chaos/moving-house.slow.test.ts'

/** Blocks of one language that follow each other, and the test that keeps them true. */
type Claim = [language: string, test: string, count?: number]

const CLAIMS: Record<string, Claim[]> = {
  'README.md': [
    ['sh', COMMANDS, 2],
    ['ts', README],
    ['sh', README],
    ['json', README],
  ],
  'docs/api.md': [
    ['ts', API, 4],
    ['json', API, 13],
    ['ts', API, 2],
  ],
  'docs/network.md': [['ts', NETWORK, 4]],
  'docs/operations.md': [
    ['ts', OPERATORS],
    ['sql', OPERATORS, 2],
    ['ts', OPERATORS],
    ['sql', OPERATORS, 3],
    ['ts', OPERATORS],
    ['sql', OPERATORS],
    ['ts', OPERATORS],
    ['sql', PARTITIONS],
    ['ts', OPERATORS],
  ],
  'docs/privacy.md': [
    ['ts', OPERATORS],
    ['json', OPERATORS],
    ['ts', OPERATORS],
  ],
  'docs/receiving.md': [['ts', NETWORK]],
  'docs/security.md': [['ts', 'test/integration/security-docs.test.ts']],
  'docs/testing.md': [['ts', TESTING, 5]],
  'docs/transactions.md': [
    ['ts', LAYERS, 12],
    ['sql', LAYERS],
  ],
  'docs/upgrading.md': [
    ['sh', MOVING],
    ['sql', MOVING, 4],
    ['ts', MOVING],
    ['ts', OPERATORS, 2],
  ],
  'examples/express/README.md': [
    ['sh', COMMANDS, 2],
    ['sh', SERVERS, 2],
  ],
  'examples/fastify/README.md': [['sh', COMMANDS]],
  'examples/koa/README.md': [['sh', COMMANDS]],
  'examples/receiver-inbox/README.md': [['sh', COMMANDS]],
  'examples/receiver/README.md': [['sh', COMMANDS]],
}

const pages = globSync(['*.md', 'docs/**/*.md', '{packages,examples}/*/*.md'], { cwd: ROOT }).toSorted()

describe('every block is claimed by a test', () => {
  test('pages are found, and a block by its fence', () => {
    expect(pages).toEqual(expect.arrayContaining(Object.keys(CLAIMS)))
    // Counted in another way: no block escapes the expression that finds them.
    for (const page of pages) {
      const fences = read(page).match(/^ *(```|~~~)/gm) ?? []
      expect([page, fences.length]).toEqual([page, 2 * snippetsOf(page).length])
    }
  })

  test.each(pages)('%s', (page) => {
    const claims = CLAIMS[page] ?? []
    const claimed = claims.flatMap(([language, , count = 1]) => Array.from({ length: count }, () => language))
    expect(snippetsOf(page).map(({ language }) => language)).toEqual(claimed)
    for (const path of new Set(claims.map(([, file]) => file))) {
      expect([path, existsSync(join(ROOT, path))]).toEqual([path, true])
      // It reads the page, instead of something that looked like it once.
      const name = page.endsWith('README.md') ? /README|readme/ : new RegExp(page.split('/').at(-1)!.replace('.md', ''))
      expect(read(path)).toMatch(name)
    }
  })
})
