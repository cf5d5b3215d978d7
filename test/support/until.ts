import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until the condition holds. @throws Error, with what was waited for, after `withinMs` (default 10 s) */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  withinMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Waited ${withinMs} ms in vain for: ${what}`)
    await sleep(10)
  }
}
