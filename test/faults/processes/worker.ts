/** A process that delivers. Its library is loaded from a path, so that two versions can run side by side. */
import { pathToFileURL } from 'node:url'
import type * as Core from '@posthaste/core'
import * as z from 'zod'
import { serve } from '../ipc.ts'

export interface WorkerSettings {
  database: string
  /** The folder of the library's source. */
  library: string
  jobEngine: boolean
  /** Receivers see the worker come to this loopback address. */
  address: string
  /** By which the process's wall clock is off. */
  clockOffsetMs: number
  retrySchedule: readonly Core.Duration[]
  deadlineMs: number
  leaseMs: number
  secretKeys: { current: string; keys: Record<string, string> }
}

export type WorkerOrder = { do: 'start' | 'stop' } | { do: 'clock'; offsetMs: number } | { do: 'dns'; works: boolean }
/** `lost`: it lost its lease, or gave up recording; what it had in its hands may be sent again. */
export type WorkerTold = { at: number; what: 'lost' | 'unhandled'; message: string }

let stopped = false

serve<WorkerSettings, WorkerOrder, WorkerTold>(
  async (settings, tell) => {
    const report = (error: unknown) =>
      tell({ at: Date.now(), what: 'unhandled', message: error instanceof Error ? (error.stack ?? '') : String(error) })
    process.on('unhandledRejection', report)
    process.on('uncaughtException', report)
    const { createWebhooks, defineEvents } = (await import(
      pathToFileURL(`${settings.library}/index.ts`).href
    )) as typeof Core
    let { clockOffsetMs } = settings
    let dns = true
    const onLog = (message: string) => {
      if (/lost its lease|could not be recorded|could not be given back/.test(message)) {
        tell({ at: Date.now(), what: 'lost', message })
      }
    }
    const webhooks = createWebhooks({
      database: settings.database,
      installation: 'faults',
      events: defineEvents({
        'test.happened': {
          schema: z.object({ n: z.int() }),
          description: 'Something happened',
          trigger: 'A test',
          example: { n: 1 },
        },
      }),
      secretKeys: settings.secretKeys,
      retrySchedule: settings.retrySchedule,
      connections: { worker: 4, api: 2 },
      clock: { now: () => Date.now() + clockOffsetMs, monotonic: () => performance.now() },
      http: {
        allowHttp: true,
        allowedCidrs: ['127.0.0.0/8'],
        deadline: `${settings.deadlineMs}ms`,
        lookup: async () => {
          if (!dns) throw Object.assign(new Error('SERVFAIL'), { code: 'EAI_AGAIN' })
          return [{ address: settings.address, family: 4 }]
        },
      },
      worker: { lease: `${settings.leaseMs}ms`, jobEngine: settings.jobEngine, concurrency: 40 },
      logger: { debug() {}, info() {}, warn: onLog, error: onLog },
    })
    return async (order) => {
      if (order.do === 'start') await webhooks.start()
      else if (order.do === 'stop') {
        await webhooks.stop()
        stopped = true
      } else if (order.do === 'clock') clockOffsetMs = order.offsetMs
      else if (order.do === 'dns') dns = order.works
    }
  },
  () => stopped,
)
