import { defineConfig } from 'vitest/config'

/** As jest does it: each file, and what it imports, in a context of its own, with an `Error` that is not that of Node's modules. */
export default defineConfig({
  cacheDir: '../../.tmp/other-realm',
  resolve: { conditions: ['posthaste-source'] },
  ssr: { resolve: { conditions: ['posthaste-source'], externalConditions: ['posthaste-source'] } },
  test: { include: ['kit.ts'], pool: 'vmForks', maxWorkers: 1, testTimeout: 60_000, hookTimeout: 60_000 },
})
