import { defineConfig } from 'vitest/config'

/** As a host's own: the guide's file for vitest, without this repository's setup. */
export default defineConfig({
  // Not beside the files, where it would be taken for one of them.
  cacheDir: '../../.tmp/testing-guide',
  resolve: { conditions: ['posthaste-source'] },
  ssr: { resolve: { conditions: ['posthaste-source'], externalConditions: ['posthaste-source'] } },
  test: { include: ['rolled-back.ts'], pool: 'forks', maxWorkers: 1, testTimeout: 60_000, hookTimeout: 60_000 },
})
