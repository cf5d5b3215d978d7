/** docs/security.md is true where a test can tell: the tests that it names exist, and its snippet runs. */
import { existsSync, readFileSync } from 'node:fs'
import { generateEd25519Keys } from '@posthaste/core'
import { expect, test } from 'vitest'
import { importEd25519Keys } from '../../packages/core/src/signing/ed25519-keys.ts'

const ROOT = new URL('../../', import.meta.url)
const page = readFileSync(new URL('docs/security.md', ROOT), 'utf8')

test('every test and page that it names is there', () => {
  const tests = [
    ...new Set([...page.matchAll(/`((?:packages|test)\/[\w./-]+\.test\.ts)`/g)].map(([, path = '']) => path)),
  ]
  expect(tests.length).toBeGreaterThan(15)
  for (const path of tests) expect([path, existsSync(new URL(path, ROOT))]).toEqual([path, true])
  const links = [...page.matchAll(/\]\(([\w./-]+)\)/g)].map(([, path = '']) => path)
  for (const path of links) expect([path, existsSync(new URL(`docs/${path}`, ROOT))]).toEqual([path, true])
})

test('the key pair that it makes can be used as it says', async () => {
  const code = /^```ts\n(.*?)^```/ms.exec(page)?.[1]?.replace(/^import .*$/m, '') ?? ''
  const AsyncFunction = (async () => {}).constructor as new (
    ...source: string[]
  ) => (given: unknown) => Promise<unknown>
  const pair = await new AsyncFunction('generateEd25519Keys', `${code}\nreturn { privateKey, publicKey }`)(
    generateEd25519Keys,
  )
  const { privateKey, publicKey } = pair as { privateKey: string; publicKey: string }
  const keys = importEd25519Keys({ privateKeys: [privateKey], publicKeys: [publicKey] })
  expect([keys.sign.length, keys.jwks.keys.length]).toEqual([1, 1])
})
