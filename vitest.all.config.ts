import { mergeConfig } from 'vitest/config'
import base from './vitest.config.ts'

/** The slow suites on top: long runs, many processes, whole machines of load. */
const all = mergeConfig(base, {
  test: {
    include: ['{packages,test,examples,bench,scripts}/**/*.slow.test.ts'],
    testTimeout: 180_000,
    hookTimeout: 60_000,
  },
})
all.test.exclude = ['**/node_modules/**', '**/dist/**']

export default all
