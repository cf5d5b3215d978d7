import type { Clock } from '../clock.ts'
import type { TransportErrorCode } from './transport.ts'

/** What changed of the proxy: it is down (again, after a probe), or it works again. */
export type ProxyChange = { down: true; code: TransportErrorCode; message: string; retryInMs: number } | { down: false }

/** Failures in a row, without an answer in between, by which the proxy counts as down. */
const FAILURES_TO_HOLD = 3
const FIRST_PROBE_MS = 1_000
const LONGEST_PROBE_MS = 30_000

/**
 * Whether the host's own proxy works. While it does not, sends wait, but for one probe after 1 s, doubling to 30 s: a proxy
 * that is down must neither use up the schedules of deliveries nor count against their endpoints. Any answer to `CONNECT` but
 * 407, a refusal included, shows that the proxy works.
 */
export class ProxyHealth {
  readonly #clock: Clock
  readonly #onChange: (change: ProxyChange) => void
  #failures = 0
  /** Null while it works. */
  #probeMs: number | null = null
  #probeAt = 0
  #probing = false

  constructor(clock: Clock, onChange: (change: ProxyChange) => void) {
    this.#clock = clock
    this.#onChange = onChange
  }

  /** For how long sends had better wait, in ms. */
  heldMs(): number {
    return this.#probeMs === null ? 0 : Math.max(0, this.#probeAt - this.#clock.monotonic())
  }

  /** A send goes its way; while the proxy is down it is the probe, and those after it wait for what comes of it. */
  began(): void {
    if (this.#probeMs === null || this.heldMs() > 0) return
    this.#probing = true
    this.#probeAt = this.#clock.monotonic() + this.#probeMs
  }

  answered(): void {
    this.#failures = 0
    this.#probing = false
    if (this.#probeMs === null) return
    this.#probeMs = null
    this.#onChange({ down: false })
  }

  failed(code: TransportErrorCode, message: string): void {
    this.#failures++
    if (this.#probeMs === null) {
      if (this.#failures < FAILURES_TO_HOLD) return
      this.#probeMs = FIRST_PROBE_MS
    } else {
      // Failures of sends that were under way when it went down say nothing new.
      if (!this.#probing) return
      this.#probeMs = Math.min(this.#probeMs * 2, LONGEST_PROBE_MS)
    }
    this.#probing = false
    this.#probeAt = this.#clock.monotonic() + this.#probeMs
    this.#onChange({ down: true, code, message, retryInMs: this.#probeMs })
  }
}
