import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

// Where vitest keeps a token for its user interface, by default outside the checkout.
process.env.XDG_DATA_HOME = join(import.meta.dirname, '.tmp', 'data')

/** Of the whole repository: unit tests beside their sources, and everything under test/ and the examples. */
export default defineConfig({
  // The workspace's packages lead to their sources; vitest passes this on to its workers, and so to what they fork.
  resolve: { conditions: ['posthaste-source'] },
  ssr: { resolve: { conditions: ['posthaste-source'], externalConditions: ['posthaste-source'] } },
  test: {
    include: [
      'packages/*/src/**/*.test.ts',
      'test/**/*.test.ts',
      'examples/*/{src,test}/**/*.test.ts',
      '{bench,scripts}/**/*.test.ts',
    ],
    exclude: ['**/node_modules/**', '**/dist/**', '**/*.slow.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    reporters: process.env.CI ? ['default', './test/support/closing-line-reporter.ts'] : ['default'],
    pool: 'forks',
    // Most tests wait for a database, a receiver or a lease: on two cores, two at a time leave a third of the machine idle.
    maxWorkers: 4,
    testTimeout: 20_000,
    hookTimeout: 30_000,
    teardownTimeout: 20_000,
  },
})
