import { type Channel, channel } from 'node:diagnostics_channel'
import { errorFields, type Logger } from '../logger.ts'

/** What all our channels' names begin with. */
const PREFIX = 'posthaste:'

/** Every channel that there is; docs/network.md lists the same. */
export const CHANNEL_NAMES = new Set<string>()

/** A channel of node:diagnostics_channel, kept, so that asking whether anybody listens is one property. */
export interface DiagnosticsChannel {
  readonly name: string
  readonly heard: boolean
  /** Never throws. A subscriber that throws is logged, and the others still hear. */
  publish(message: object, logger: Logger): void
}

type Subscriber = (message: unknown, name: string) => void

export function diagnosticsChannel(event: string): DiagnosticsChannel {
  const name = `${PREFIX}${event}`
  CHANNEL_NAMES.add(name)
  const target: Channel & { _subscribers?: unknown } = channel(name)
  return {
    name,
    get heard() {
      return target.hasSubscribers
    },
    publish(message, logger) {
      // `Channel.publish` raises what a subscriber throws as an uncaught exception, which ends a process by default: too much
      // for a defect of an APM agent. So they are called one by one where Node shows them, as all versions so far do.
      const subscribers = target._subscribers
      if (!Array.isArray(subscribers)) {
        target.publish(message)
        return
      }
      for (const subscriber of subscribers as Subscriber[]) {
        try {
          subscriber(message, name)
        } catch (error) {
          logger.error(`posthaste: a subscriber of ${name} failed`, errorFields(error))
        }
      }
    },
  }
}
