import type { Reporter, TestModule } from 'vitest/node'

/** Ends the output of a run with one plain line, `N passed, N failed, N skipped`, for a CI that reads no vitest. */
export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const counts = { passed: 0, failed: 0, skipped: 0, pending: 0 }
    for (const module of modules) {
      for (const test of module.children.allTests()) counts[test.result().state]++
      // A file that does not load, or whose hooks fail, may have no failing test of its own.
      if (!module.ok() && [...module.children.allTests('failed')].length === 0) counts.failed++
    }
    const failed = counts.failed + counts.pending + unhandledErrors.length
    if (counts.passed + failed === 0) return
    process.stdout.write(`\n${counts.passed} passed, ${failed} failed, ${counts.skipped} skipped\n`)
  }
}
