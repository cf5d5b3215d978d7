import { errorFields, type Logger } from './logger.ts'

export interface BackgroundLoop {
  /** Runs the next step now instead of after its pause; during a step: once more right after it. */
  wake(): void
  /** No further step; resolves when the one under way has ended. */
  stop(): Promise<void>
}

export interface BackgroundLoopOptions {
  /** For log lines: `dispatch`. */
  name: string
  /** Does one piece of work and answers after how many ms to be called again. */
  step(): Promise<number>
  logger: Logger
  /** The longest pause after steps that failed, in ms; the first is 50 ms, doubling. Default 2,000. */
  maxErrorPauseMs?: number
  /** Told of each failure, beside the log. */
  onError?(error: unknown): void
}

/** How work repeats itself, and waits. Tests that drive it step by step put their own in its place. */
export interface Loops {
  start(options: BackgroundLoopOptions): BackgroundLoop
  /** A pause that only gathers work: what comes meanwhile shares a statement. */
  pause(ms: number): Promise<void>
  /** Milliseconds that never go back, between looks for work; rules go by the clock instead. */
  monotonic(): number
}

/** With timers, as in production. */
export const timedLoops: Loops = {
  start: (options) => startLoop(options),
  pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  monotonic: () => performance.now(),
}

/**
 * Repeats a step until stopped. A step that fails is logged and repeated with growing pauses, for ever: nothing that a
 * database or a network does ends a loop of ours or becomes an unhandled rejection in the host's process.
 */
export function startLoop({
  name,
  step,
  logger,
  maxErrorPauseMs = 2_000,
  onError,
}: BackgroundLoopOptions): BackgroundLoop {
  let stopped = false
  let woken = false
  let errorPauseMs = 0
  let endPause: (() => void) | null = null

  async function run(): Promise<void> {
    while (!stopped) {
      woken = false
      let pauseMs: number
      try {
        pauseMs = await step()
        errorPauseMs = 0
      } catch (error) {
        if (stopped) return
        errorPauseMs = Math.min(errorPauseMs === 0 ? 50 : errorPauseMs * 2, maxErrorPauseMs)
        pauseMs = errorPauseMs
        logger.warn(`posthaste: ${name} failed, next try in ${pauseMs} ms`, errorFields(error))
        onError?.(error)
        // A wake-up must not turn an outage into a busy loop.
        woken = false
      }
      // Woken while it ran: at once, but never without a turn for everything else in this process.
      if (!stopped) await pause(woken ? 0 : pauseMs)
    }
  }

  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (ms <= 0) {
        setImmediate(resolve)
        return
      }
      const timer = setTimeout(end, ms)
      function end() {
        clearTimeout(timer)
        endPause = null
        resolve()
      }
      endPause = errorPauseMs === 0 ? end : null
    })
  }

  const running = run()
  return {
    wake() {
      woken = true
      endPause?.()
    },
    async stop() {
      stopped = true
      errorPauseMs = 0
      endPause?.()
      await running
    },
  }
}
