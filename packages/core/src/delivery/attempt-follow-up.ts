import type { Clock } from '../clock.ts'
import { toPublicId } from '../ids.ts'
import type { AttemptInfo, Lifecycle } from '../lifecycle/events.ts'
import { errorFields, type Logger } from '../logger.ts'
import type { Attempt } from './attempt.ts'
import type { DeliveryItem, EndpointState } from './endpoint-state.ts'
import type { EndpointWriter } from './endpoint-writer.ts'
import { countsForDisabling, isOwnFailure, judge, retryAfterMs, saysDown } from './outcome.ts'
import type { Outcome } from './recorded-outcome.ts'
import type { RetrySchedule } from './retry-schedule.ts'

export interface AttemptFollowUpOptions {
  schedule: RetrySchedule
  clock: Clock
  logger: Logger
  lifecycle: Lifecycle
  endpointWriter: EndpointWriter
  /** Sends to one endpoint at once, where it sets no limit of its own. */
  endpointConcurrency: number
  token(): number
  onFenced(): void
  nudge(): void
  record(outcome: Outcome): void
  sendAgain(item: DeliveryItem): void
  /** Nothing was sent: it waits as before. */
  putBack(item: DeliveryItem): void
  /** What somebody asked for is recorded. */
  manualWritten(item: DeliveryItem, succeeded: boolean): void
  /** The endpoint's configuration changed in the database. */
  refresh(endpoint: number): void
  /** What is queued is to be read again later. */
  giveBack(state: EndpointState): void
  ready(state: EndpointState): void
  /** It may have more to read. */
  feed(state: EndpointState): void
  /** Nothing is left to do for it, and nothing worth keeping is known of it. */
  forget(state: EndpointState): void
  /** The breaker closed: whatever is due of this endpoint, from the oldest. */
  readRetries(state: EndpointState): void
}

/** An endpoint without a success for this long is disabled (contract: 5 days). */
const DISABLE_AFTER_MS = 5 * 86_400_000

/** Judges each attempt, changes the endpoint's state in memory, and has the outcome written. */
export class AttemptFollowUp {
  readonly #o: AttemptFollowUpOptions
  readonly #disabling = new Set<EndpointState>()
  /** Changes of endpoints that are being written. */
  readonly #changes = new Set<Promise<void>>()

  constructor(options: AttemptFollowUpOptions) {
    this.#o = options
  }

  finished(item: DeliveryItem, attempt: Attempt): void {
    const { schedule, clock } = this.#o
    const state = item.endpoint
    const nowMs = clock.now()
    const verdict = judge(attempt, item, schedule, nowMs)
    switch (verdict.kind) {
      case 'not_sent':
        state.inFlight--
        this.#o.putBack(item)
        this.#o.ready(state)
        return
      case 'again':
        this.#again(item, attempt, verdict.reason)
        return
      case 'succeeded':
        this.#succeeded(state, attempt)
        this.#record(item, attempt, true, true, null)
        break
      case 'gone':
        this.#failedOnce(state, item, attempt, nowMs)
        this.#record(
          item,
          attempt,
          false,
          item.step === null && !hasRetry(item),
          item.step === null ? null : { step: item.step, delayMs: 0 },
        )
        this.#disable(state, 'gone')
        break
      case 'retry':
        this.#failedOnce(state, item, attempt, nowMs)
        this.#record(item, attempt, false, false, { step: (item.step as number) + 1, delayMs: verdict.delayMs })
        break
      case 'postponed':
        this.#record(item, attempt, false, false, { step: item.step as number, delayMs: verdict.delayMs })
        break
      case 'failed':
        this.#failedOnce(state, item, attempt, nowMs)
        this.#record(item, attempt, false, !hasRetry(item), null)
        break
    }
    state.inFlight--
    this.#o.feed(state)
    this.#o.ready(state)
  }

  /** Something that follows from attempts is being written. */
  get busy(): boolean {
    return this.#changes.size > 0
  }

  async flushed(): Promise<void> {
    await Promise.all(this.#changes)
  }

  /** These outcomes are in the database: they count as done, and listeners hear of them. */
  written(outcomes: readonly Outcome[]): void {
    for (const outcome of outcomes) {
      const { item, next, succeeded } = outcome
      const state = item.endpoint
      state.unwritten--
      if (outcome.again) continue
      if (state.config?.fifo) state.settleFifo(item, next !== null || (hasRetry(item) && !succeeded))
      state.settle(item)
      if (item.manual !== null) this.#o.manualWritten(item, succeeded)
      this.#raise(outcome)
      if (state.idle && state.learntNothing) {
        this.#o.forget(state)
        continue
      }
      // Of a fifo endpoint that was held, nothing is read yet.
      this.#o.feed(state)
      this.#o.ready(state)
    }
  }

  /** Sent again at once: a new attempt number, no step of the schedule. The retry row makes it survive a crash in between. */
  #again(item: DeliveryItem, attempt: Attempt, reason: 'other_secret' | 'fresh_connection'): void {
    const step = item.step
    this.#record({ ...item }, attempt, false, false, step === null ? null : { step, delayMs: 0 }, { item, again: true })
    item.number++
    if (step !== null) {
      item.retryStep = step
      item.endpoint.holdRetry(item)
    }
    if (reason === 'other_secret') item.usePrevious = !attempt.usedPrevious
    else item.freshConnection = true
    this.#o.sendAgain(item)
  }

  #record(
    shown: DeliveryItem,
    attempt: Attempt,
    succeeded: boolean,
    final: boolean,
    next: Outcome['next'],
    { item, again }: { item: DeliveryItem; again: boolean } = { item: shown, again: false },
  ): void {
    item.endpoint.unwritten++
    const { retryStep, step } = shown
    const besideSchedule = item.manual !== null && step === null
    this.#o.record({ item, retryStep, step, attempt, succeeded, final, next, again, besideSchedule })
  }

  #succeeded(state: EndpointState, attempt: Attempt): void {
    state.pace.failingSinceMs = null
    const config = state.config
    state.grow(config?.maxConcurrency ?? this.#o.endpointConcurrency)
    if (state.pace.breaker.succeeded()) {
      this.#o.readRetries(state)
      if (config !== null && this.#o.lifecycle.heard('endpoint.recovered')) {
        this.#o.lifecycle.raise('endpoint.recovered', {
          account: config.account,
          endpointId: toPublicId('ep', config.id),
        })
      }
    }
    const same = config?.version === attempt.configVersion
    if (config !== null && same && attempt.hadOther && config.usePrevious !== attempt.usedPrevious) {
      config.usePrevious = attempt.usedPrevious
      this.#background(
        this.#o.endpointWriter.rememberSecret(this.#o.token(), config.no, config.version, attempt.usedPrevious),
      )
    }
  }

  #failedOnce(state: EndpointState, item: DeliveryItem, attempt: Attempt, nowMs: number): void {
    const { result } = attempt
    if (isOwnFailure(result)) return
    const waitMs = retryAfterMs(result, nowMs)
    if (waitMs !== null) state.pace.notBeforeMs = Math.max(state.pace.notBeforeMs, nowMs + waitMs)
    const counts = countsForDisabling(result)
    if (counts) state.pace.failingSinceMs ??= nowMs
    if (saysDown(result)) {
      state.pace.shrink()
      if (state.pace.breaker.failed(item.id, nowMs)) this.#degraded(state, nowMs)
    } else {
      state.pace.breaker.answered()
    }
    if (counts && nowMs - (state.pace.failingSinceMs ?? nowMs) >= DISABLE_AFTER_MS) this.#disable(state, 'failing')
  }

  #degraded(state: EndpointState, nowMs: number): void {
    this.#o.giveBack(state)
    const { config } = state
    if (config === null || !this.#o.lifecycle.heard('endpoint.degraded')) return
    this.#o.lifecycle.raise('endpoint.degraded', {
      account: config.account,
      endpointId: toPublicId('ep', config.id),
      retryInMs: state.pace.breaker.state.untilMs - nowMs,
    })
  }

  #disable(state: EndpointState, reason: 'gone' | 'failing'): void {
    const { config } = state
    if (config === null || this.#disabling.has(state)) return
    this.#disabling.add(state)
    config.state = 'waiting'
    this.#o.giveBack(state)
    const { endpointWriter, token, onFenced, nudge, lifecycle, refresh } = this.#o
    this.#background(
      endpointWriter
        .disable(token(), config, reason)
        .then((disabled) => {
          if (disabled === null) onFenced()
          if (disabled !== true) return
          nudge()
          lifecycle.raise('endpoint.disabled', {
            account: config.account,
            endpointId: toPublicId('ep', config.id),
            reason,
          })
        })
        .finally(() => {
          this.#disabling.delete(state)
          // Whatever the database says now: it may have been enabled again in the meantime.
          refresh(state.no)
        }),
    )
  }

  #background(work: Promise<unknown>): void {
    const change = work
      .catch((error: unknown) => {
        this.#o.logger.warn('posthaste: a change of an endpoint could not be written', errorFields(error))
      })
      .then(() => void this.#changes.delete(change))
    this.#changes.add(change)
  }

  #raise({ item, attempt, succeeded, final, next }: Outcome): void {
    const { lifecycle, clock } = this.#o
    const name = succeeded ? 'delivery.succeeded' : final ? 'delivery.failed' : 'attempt.failed'
    const config = item.endpoint.config
    if (config === null || !lifecycle.heard(name)) return
    const { result } = attempt
    const info: AttemptInfo = {
      account: config.account,
      endpointId: toPublicId('ep', config.id),
      deliveryId: toPublicId('dlv', item.id),
      eventId: toPublicId('evt', item.eventId),
      eventType: item.type,
      attempt: attempt.number,
      statusCode: result.kind === 'response' ? result.statusCode : null,
      errorCode: result.kind === 'error' ? result.code : succeeded ? null : `HTTP_${result.statusCode}`,
      totalMs: result.timings.total,
      sinceOccurredMs: clock.now() - item.occurredAtMs,
    }
    if (name === 'attempt.failed') lifecycle.raise(name, { ...info, retryInMs: next?.delayMs ?? this.#retryInMs(item) })
    else lifecycle.raise(name, info)
  }

  #retryInMs({ manual }: DeliveryItem): number {
    return Math.max(0, (manual?.retryAtMs ?? 0) - this.#o.clock.now())
  }
}

/** Somebody asked for this attempt while the schedule has another one. */
function hasRetry({ manual }: DeliveryItem): boolean {
  return manual !== null && manual.retryAtMs !== null
}
