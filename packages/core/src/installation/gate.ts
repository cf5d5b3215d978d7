import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Lifecycle } from '../lifecycle/events.ts'
import type { Logger } from '../logger.ts'
import type { Refusal } from './refusal.ts'

export interface GateOptions {
  /** Null where this process may work. */
  check(): Promise<Refusal | null>
  begin(): Promise<void>
  end(): Promise<void>
  loops: Pick<Loops, 'start'>
  logger: Logger
  lifecycle: Lifecycle
}

/** Lets this process work while it may, and watches for that to change. */
export interface Gate {
  /** Begins to work; or, where it may not, says so and begins as soon as it may. Rejects where `begin` does. */
  open(): Promise<void>
  /** Looks again at once: an adoption is over. */
  look(): void
  /** It was found out that this process may not work any more: ends the work, and begins again as soon as it may. */
  refuse(): void
  /** Ends the work, and the watching. */
  close(): Promise<void>
}

const LOOK_EVERY_MS = 2_000
/** It is woken when there is something to look for. */
const ASLEEP_MS = 3_600_000

export function createGate({ check, begin, end, loops, logger, lifecycle }: GateOptions): Gate {
  let working = false
  let closed = false
  let told = ''
  let loop: BackgroundLoop | null = null

  async function tryToWork(): Promise<void> {
    const refusal = await check()
    if (closed) return
    if (refusal !== null) {
      tell(refusal)
      return
    }
    await begin()
    working = true
    if (told === '') return
    told = ''
    logger.info('posthaste: this installation may work in this database now')
    lifecycle.raise('delivery.resumed', {})
  }

  function tell({ reason, message, belongsTo }: Refusal): void {
    if (told === reason) return
    told = reason
    logger.warn(`posthaste: nothing is sent from here. ${message}`)
    lifecycle.raise('delivery.paused', { reason, belongsTo })
  }

  function watch(): void {
    loop ??= loops.start({
      name: 'waiting to be let in',
      logger,
      maxErrorPauseMs: 30_000,
      step: async () => {
        if (!working) await tryToWork()
        return working ? ASLEEP_MS : LOOK_EVERY_MS
      },
    })
  }

  let opening: Promise<void> = Promise.resolve()
  let ending: Promise<void> = Promise.resolve()
  return {
    async open() {
      opening = tryToWork()
      await opening
      if (!working && !closed) watch()
    },
    look: () => loop?.wake(),
    refuse() {
      if (!working || closed) return
      working = false
      ending = end().catch(() => {})
      void ending.then(() => {
        if (closed) return
        watch()
        loop?.wake()
      })
    },
    async close() {
      closed = true
      await opening.catch(() => {})
      await loop?.stop()
      await ending
      if (working) await end()
      working = false
    },
  }
}
