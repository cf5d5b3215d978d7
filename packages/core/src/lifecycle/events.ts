import { EventEmitter } from 'eventemitter3'
import { errorFields, type Logger } from '../logger.ts'
import { type DiagnosticsChannel, diagnosticsChannel } from './diagnostics-channel.ts'

/** What all events about a delivery say. Ids are public ones. */
export interface DeliveryInfo {
  account: string
  endpointId: string
  deliveryId: string
  eventId: string
  eventType: string
}

export interface AttemptInfo extends DeliveryInfo {
  /** From 1. */
  attempt: number
  /** HTTP status, or null where there was no answer. */
  statusCode: number | null
  /** A stable code such as `TIMEOUT` or `HTTP_503`; null for a success. */
  errorCode: string | null
  totalMs: number
  /** From the event's `occurredAt` to the end of this attempt, in ms by this process's wall clock. */
  sinceOccurredMs: number
}

/**
 * What a delivery waited for in vain: an endpoint that was backed off (14 days), that was switched off or disabled, or that did not
 * get to it (`waiting`), until the declared limit (`retention.waiting`).
 */
export type ExpiryReason = 'degraded' | 'held' | 'waiting'

/** What happens, by name. Listeners run after the database has it, and can never disturb delivery. */
export interface LifecycleEvents {
  'delivery.succeeded': (event: AttemptInfo) => void
  /** No attempt follows by itself. */
  'delivery.failed': (event: AttemptInfo) => void
  /** It waited too long and was not sent (again). */
  'delivery.expired': (event: DeliveryInfo & { reason: ExpiryReason }) => void
  /** An attempt failed and another one follows, in `retryInMs`. */
  'attempt.failed': (event: AttemptInfo & { retryInMs: number }) => void
  /** We disabled an endpoint: `gone` (it answered 410) or `failing` (no success for 5 days). */
  'endpoint.disabled': (event: { account: string; endpointId: string; reason: 'gone' | 'failing' }) => void
  /** An endpoint is backed off as a whole; the next probe is in `retryInMs`. */
  'endpoint.degraded': (event: { account: string; endpointId: string; retryInMs: number }) => void
  'endpoint.recovered': (event: { account: string; endpointId: string }) => void
  /**
   * The secrets of an endpoint cannot be read with the keys of this process, which serves it: its deliveries wait, none fails.
   * They go on by themselves where a process with the key serves it.
   */
  'endpoint.unreadable': (event: { account: string; endpointId: string }) => void
  /**
   * The proxy of `http.proxy` is down, by this process' own experience; all that goes through it waits, but for a probe in
   * `retryInMs`. Raised again after each failed probe.
   */
  'proxy.degraded': (event: { errorCode: string; message: string; retryInMs: number }) => void
  'proxy.recovered': (event: Record<string, never>) => void
  /** Committed events were matched with subscriptions. */
  'events.dispatched': (event: { events: number; deliveries: number }) => void
  /**
   * A week of the logs is past its time by more than a day and still there, because a transaction or a backup has it `locked`, or a
   * `replay` or the dispatcher (`undispatched`) still needs it, or it is `empty` and the drop does not get its lock. At most once an hour.
   */
  'storage.overdue': (event: { week: string; reason: string; overdueMs: number }) => void
  /**
   * Nothing is dispatched or sent by this process: the database belongs to another installation (`other`), is being adopted
   * (`adopting`), or is still filled by logical replication (`replica`). It begins by itself when that has changed.
   */
  'delivery.paused': (event: { reason: 'other' | 'adopting' | 'replica'; belongsTo: string }) => void
  /** What kept it from working is over. */
  'delivery.resumed': (event: Record<never, never>) => void
  /** The lanes that this worker serves have changed. */
  'lanes.changed': (event: { lanes: number[] }) => void
}

export type LifecycleEventName = keyof LifecycleEvents

/** Of each lifecycle event, the channel of node:diagnostics_channel. */
const CHANNELS: { readonly [N in LifecycleEventName]: DiagnosticsChannel } = {
  'delivery.succeeded': diagnosticsChannel('delivery.succeeded'),
  'delivery.failed': diagnosticsChannel('delivery.failed'),
  'delivery.expired': diagnosticsChannel('delivery.expired'),
  'attempt.failed': diagnosticsChannel('attempt.failed'),
  'endpoint.disabled': diagnosticsChannel('endpoint.disabled'),
  'endpoint.degraded': diagnosticsChannel('endpoint.degraded'),
  'endpoint.recovered': diagnosticsChannel('endpoint.recovered'),
  'endpoint.unreadable': diagnosticsChannel('endpoint.unreadable'),
  'proxy.degraded': diagnosticsChannel('proxy.degraded'),
  'proxy.recovered': diagnosticsChannel('proxy.recovered'),
  'events.dispatched': diagnosticsChannel('events.dispatched'),
  'storage.overdue': diagnosticsChannel('storage.overdue'),
  'delivery.paused': diagnosticsChannel('delivery.paused'),
  'delivery.resumed': diagnosticsChannel('delivery.resumed'),
  'lanes.changed': diagnosticsChannel('lanes.changed'),
}

/** Subscribing to what happens. */
export interface LifecycleListeners {
  on<N extends LifecycleEventName>(name: N, listener: LifecycleEvents[N]): void
  once<N extends LifecycleEventName>(name: N, listener: LifecycleEvents[N]): void
  off<N extends LifecycleEventName>(name: N, listener: LifecycleEvents[N]): void
}

/**
 * The bus of lifecycle events. A listener that throws, or that is async and rejects, is logged and never reaches the work
 * that raised the event; the other listeners still run.
 */
export class Lifecycle implements LifecycleListeners {
  readonly #emitter = new EventEmitter()
  readonly #logger: Logger
  readonly #wrapped = new WeakMap<object, Map<string, (event: unknown) => void>>()

  constructor(logger: Logger) {
    this.#logger = logger
  }

  on<N extends LifecycleEventName>(name: N, listener: LifecycleEvents[N]): void {
    this.#emitter.on(name, this.#guard(name, listener))
  }

  once<N extends LifecycleEventName>(name: N, listener: LifecycleEvents[N]): void {
    this.#emitter.once(name, this.#guard(name, listener))
  }

  off<N extends LifecycleEventName>(name: N, listener: LifecycleEvents[N]): void {
    this.#emitter.off(name, this.#wrapped.get(listener)?.get(name))
  }

  /** Whether anybody listens, here or on the channel: what nobody hears need not be put together. */
  heard(name: LifecycleEventName): boolean {
    return this.#emitter.listenerCount(name) > 0 || CHANNELS[name].heard
  }

  raise<N extends LifecycleEventName>(name: N, event: Parameters<LifecycleEvents[N]>[0]): void {
    this.#emitter.emit(name, event)
    const channel = CHANNELS[name]
    if (channel.heard) channel.publish(event, this.#logger)
  }

  #guard(name: string, listener: (event: never) => void): (event: unknown) => void {
    const byName = this.#wrapped.get(listener) ?? new Map<string, (event: unknown) => void>()
    this.#wrapped.set(listener, byName)
    const known = byName.get(name)
    if (known !== undefined) return known
    const report = (error: unknown) => {
      this.#logger.error(`posthaste: a listener of ${name} failed`, errorFields(error))
    }
    const guarded = (event: unknown) => {
      try {
        const result: unknown = (listener as (event: unknown) => unknown)(event)
        // A promise of another realm, too: what Node's own modules answer under jest.
        if (typeof (result as PromiseLike<unknown> | null | undefined)?.then === 'function')
          (result as PromiseLike<unknown>).then(undefined, report)
      } catch (error) {
        report(error)
      }
    }
    byName.set(name, guarded)
    return guarded
  }
}
