import type { EndpointConfig } from './endpoint-config.ts'

/** Of a fifo endpoint: the deliveries that wait for a retry. Nothing fresh is sent before they are final. */
export class FifoOrder {
  // Most endpoints are not fifo, and there may be 50,000: made when it is needed.
  #holders: Set<string> | null = null

  applyConfig(config: EndpointConfig, before: EndpointConfig | null): void {
    if (config.fifo && before?.fifo !== true) this.#holders = new Set(config.openRetries)
    if (!config.fifo) this.#holders = null
  }

  hold(id: string): void {
    this.#holders ??= new Set()
    this.#holders.add(id)
  }

  release(id: string): void {
    this.#holders?.delete(id)
  }

  get isHeld(): boolean {
    return this.#holders !== null && this.#holders.size > 0
  }

  get holders(): string[] {
    return [...(this.#holders ?? [])]
  }
}
