/** `pnpm demo` as a user runs it, in a process of its own: that it succeeds, that it can fail, and what it leaves behind. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'

const CHECKOUT = resolve(import.meta.dirname, '..', '..')
/** A run takes about five seconds; a busy machine may need a multiple of that. */
const PATIENCE_MS = 90_000

let running: ChildProcess | null = null
// A test that fails must not leave its demo behind.
afterEach(() => {
  running?.kill('SIGKILL')
})

function startDemo(env: Record<string, string> = {}) {
  const child = spawn(
    process.execPath,
    ['--conditions=posthaste-source', join(CHECKOUT, 'examples', 'express', 'src', 'demo.ts')],
    { cwd: CHECKOUT, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  running = child
  const demo = { child, output: '', ended: once(child, 'close').then(([code]) => code as number | null) }
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      demo.output += chunk
    })
  return demo
}

type Demo = ReturnType<typeof startDemo>

async function printed(demo: Demo, text: string): Promise<void> {
  while (!demo.output.includes(text)) {
    if (demo.child.exitCode !== null) throw new Error(`The demo ended without "${text}":\n${demo.output}`)
    await sleep(20)
  }
}

/** The receiver's process and the database's folder are gone with the demo. */
async function expectNothingLeft(demo: Demo): Promise<void> {
  const receiver = Number(/\(process (\d+)\)/.exec(demo.output)?.[1])
  expect(receiver).toBeGreaterThan(0)
  expect(() => process.kill(receiver, 0)).toThrow(/ESRCH/)
  const temporary = join(CHECKOUT, '.tmp')
  expect(readdirSync(temporary).filter((name) => name.includes(`-${demo.child.pid}-`))).toEqual([])
}

describe('the demo', () => {
  test('delivers every event as expected and says so', { timeout: PATIENCE_MS }, async () => {
    const demo = startDemo()
    expect([await demo.ended, demo.output]).toEqual([0, expect.stringContaining('Everything as expected')])
    expect(demo.output).toContain('12 of 12 event types occurred, in 16 committed events')
    expect(demo.output).toContain('23 of 23 expected deliveries arrived, 0 unexpected requests')
    expect(demo.output).toContain('2 of 2 rolled back events did not arrive')
    expect(demo.output).toContain('25 of 25 requests verified')
    expect(demo.output).toContain('23 succeeded, 2 attempts retried, 0 given up')
    expect(demo.output).toMatch(/payout\.\w+ +\/flaky +3 \(503 503 200\) +valid/)
    expect(demo.output).toContain('The books add up')
    // Not a terminal: no colours.
    expect(demo.output).not.toContain('\u001b')
    await expectNothingLeft(demo)
  })

  test('fails where a signature does not fit', { timeout: PATIENCE_MS }, async () => {
    const demo = startDemo({ POSTHASTE_DEMO_WRONG_SECRET: 'not_the_secret' })
    expect([await demo.ended, demo.output]).toEqual([1, expect.stringContaining('Not as expected')])
    expect(demo.output).toContain("the page's algorithm refuses X-Webhook-Signature")
    expect(demo.output).not.toContain('Everything as expected')
    await expectNothingLeft(demo)
  })

  test('ends cleanly at Ctrl-C in the middle', { timeout: PATIENCE_MS }, async () => {
    const demo = startDemo()
    await printed(demo, '/conversions')
    demo.child.kill('SIGINT')
    expect([await demo.ended, demo.output]).toEqual([130, expect.stringContaining('everything has been stopped')])
    await expectNothingLeft(demo)
  })

  test('ends cleanly at SIGTERM while it starts', { timeout: PATIENCE_MS }, async () => {
    const demo = startDemo()
    await printed(demo, 'Receiver')
    demo.child.kill('SIGTERM')
    expect(await demo.ended).toBe(130)
    await expectNothingLeft(demo)
  })
})
