import type { Lifecycle } from '../lifecycle/events.ts'
import type { Logger } from '../logger.ts'
import type { ProxyChange } from './proxy-health.ts'

/** Tells the operator, by log and by lifecycle event, when the host's own proxy goes down and when it works again. */
export function reportProxy(lifecycle: Lifecycle, logger: Logger): (change: ProxyChange) => void {
  return (change) => {
    if (change.down) {
      const { code: errorCode, message, retryInMs } = change
      logger.warn('posthaste: the proxy is down, what goes through it waits', { errorCode, error: message, retryInMs })
      lifecycle.raise('proxy.degraded', { errorCode, message, retryInMs })
    } else {
      logger.info('posthaste: the proxy works again')
      lifecycle.raise('proxy.recovered', {})
    }
  }
}
