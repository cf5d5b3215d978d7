import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { AttemptTrace, LifecycleEvents } from '@posthaste/core'

/** What an agent has, by whatever name. */
export interface Agent {
  startSpan(name: string, tags: Record<string, unknown>): { end(tags: Record<string, unknown>): void }
  count(metric: string, tags: Record<string, unknown>): void
}

/** Observes every Posthaste in this process, without touching the host's code. Answers how to end that. */
export function observePosthaste(agent: Agent): () => void {
  const spans = new WeakMap<object, ReturnType<Agent['startSpan']>>()
  const subscriptions = {
    'posthaste:attempt.start': (message: unknown) => {
      const { endpointId, eventType, attempt, origin } = message as AttemptTrace
      spans.set(message as object, agent.startSpan('webhook', { endpointId, eventType, attempt, origin }))
    },
    // The same object as at the start, now with its result.
    'posthaste:attempt.end': (message: unknown) => {
      const { result } = message as AttemptTrace
      spans.get(message as object)?.end({ status: result?.statusCode, error: result?.errorCode, ...result?.timings })
    },
    'posthaste:endpoint.disabled': (message: unknown) => {
      const { reason } = message as Parameters<LifecycleEvents['endpoint.disabled']>[0]
      agent.count('webhook.endpoint_disabled', { reason })
    },
    'posthaste:proxy.degraded': () => agent.count('webhook.proxy_down', {}),
  }
  for (const [name, subscriber] of Object.entries(subscriptions)) subscribe(name, subscriber)
  return () => {
    for (const [name, subscriber] of Object.entries(subscriptions)) unsubscribe(name, subscriber)
  }
}
