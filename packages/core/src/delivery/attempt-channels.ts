import { toPublicId } from '../ids.ts'
import { diagnosticsChannel } from '../lifecycle/diagnostics-channel.ts'
import type { DeliveryInfo } from '../lifecycle/events.ts'
import type { Logger } from '../logger.ts'
import { type Attempt, type AttemptDependencies, makeAttempt } from './attempt.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import type { DeliveryItem } from './endpoint-state.ts'
import { isSuccess } from './outcome.ts'

/**
 * The message of the channels `posthaste:attempt.start` and `posthaste:attempt.end`: the same object on both, so that what an
 * APM agent began at the start can be found by it at the end.
 */
export interface AttemptTrace extends DeliveryInfo {
  /** From 1. */
  attempt: number
  /** Scheme, host and port of the endpoint. Never its path or query, which may hold secrets. */
  origin: string
  /** Null until the end. */
  result: AttemptTraceResult | null
}

export interface AttemptTraceResult {
  /** HTTP status, or null where there was no answer. */
  statusCode: number | null
  /** A stable code such as `TIMEOUT` or `HTTP_503`; null for a success. */
  errorCode: string | null
  /** In ms; null where a connection was reused, or not reached. */
  timings: { dns: number | null; connect: number | null; tls: number | null; firstByte: number | null; total: number }
}

const started = diagnosticsChannel('attempt.start')
const ended = diagnosticsChannel('attempt.end')

/** As `makeAttempt`, with its beginning and its end on the channels. Without subscribers it costs two looks. */
export function makeTracedAttempt(
  deps: AttemptDependencies,
  item: DeliveryItem,
  config: EndpointConfig,
  logger: Logger,
): Promise<Attempt> {
  if (!started.heard && !ended.heard) return makeAttempt(deps, item, config)
  const trace: AttemptTrace = {
    account: config.account,
    endpointId: toPublicId('ep', config.id),
    deliveryId: toPublicId('dlv', item.id),
    eventId: toPublicId('evt', item.eventId),
    eventType: item.type,
    attempt: item.number,
    origin: URL.parse(config.url)?.origin ?? '',
    result: null,
  }
  started.publish(trace, logger)
  return makeAttempt(deps, item, config).then((attempt) => {
    const { result } = attempt
    trace.result = {
      statusCode: result.kind === 'response' ? result.statusCode : null,
      errorCode: result.kind === 'error' ? result.code : isSuccess(result) ? null : `HTTP_${result.statusCode}`,
      timings: { ...result.timings },
    }
    ended.publish(trace, logger)
    return attempt
  })
}
