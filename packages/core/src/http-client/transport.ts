/** The seam between delivery and the network: one signed POST, out, and what became of it. See docs/network.md. */
export interface OutboundRequest {
  /** Absolute http(s) URL without credentials or fragment. */
  url: string
  /** All headers, in the order to send them; names as they go on the wire. */
  headers: ReadonlyArray<readonly [name: string, value: string]>
  body: Uint8Array
  /** For the whole exchange, from the name look-up to the last byte read, in ms. */
  deadlineMs: number
  /** Keep response headers and an excerpt of the body also of a 2xx answer. Default: only of others. */
  keepResponse?: boolean
  /** Asked when the bytes go to the socket; false stops the send (`error.code` `NOT_STARTED`). */
  mayStart?: () => boolean
  /** Never reuse a kept-alive connection for this one. */
  freshConnection?: boolean
  /** Whose request it is: `ep_…` and its account. For what depends on the receiver, such as a client certificate. */
  endpointId?: string
  account?: string
}

/** Where the time of an exchange went, in ms; dns, connect and tls are null where a connection was reused. */
export interface Timings {
  dns: number | null
  connect: number | null
  tls: number | null
  firstByte: number | null
  total: number
}

export type TransportErrorCode =
  | 'ADDRESS_REFUSED'
  | 'DNS_FAILED'
  | 'CONNECT_FAILED'
  | 'CONNECT_TIMEOUT'
  | 'TLS_FAILED'
  | 'TIMEOUT'
  | 'CONNECTION_RESET'
  | 'INVALID_RESPONSE'
  | 'HEADERS_TOO_LARGE'
  | 'NOT_STARTED'
  | 'SEND_FAILED'
  /** The host's own proxy: not reachable, not speaking HTTP, or closing. Says nothing about the endpoint. */
  | 'PROXY_FAILED'
  /** The proxy wants other credentials (407). Says nothing about the endpoint. */
  | 'PROXY_AUTH_FAILED'
  /** The proxy does not let us through to this receiver (403 and the like). Says nothing about the endpoint. */
  | 'PROXY_REFUSED'
  /** The proxy says that it could not reach the receiver (5xx). Backs the endpoint off, and never disables it. */
  | 'PROXY_GATEWAY_FAILED'
  /** The proxy did not say in time whether it reached the receiver. Backs the endpoint off, and never disables it. */
  | 'PROXY_TIMEOUT'
  /** The host's TLS settings for this endpoint cannot be used. Says nothing about the endpoint. */
  | 'TLS_SETTINGS_FAILED'
  /** `http.localAddress` cannot be used. Says nothing about the endpoint. */
  | 'SOURCE_ADDRESS_FAILED'

export type OutboundResult =
  | {
      kind: 'response'
      statusCode: number
      /** Lower-cased names; a repeated header is joined by `, `. Empty for a 2xx unless `keepResponse`. */
      headers: Record<string, string>
      /** `Retry-After` as it came, whatever the status; null without. */
      retryAfter: string | null
      /** At most 16 KiB of the body, decoded as UTF-8 with replacement; null for a 2xx unless `keepResponse`. */
      excerpt: string | null
      timings: Timings
    }
  | {
      kind: 'error'
      code: TransportErrorCode
      /** For people: what happened, without secrets and without what the receiver sent. */
      message: string
      /**
       * A kept-alive connection went away before any byte of an answer: the request may be tried at once on a fresh one,
       * without counting against the endpoint.
       */
      staleConnection: boolean
      timings: Timings
    }

export interface Transport {
  /** Never rejects: every way to fail is a result. Resolves within `deadlineMs`. */
  send(request: OutboundRequest): Promise<OutboundResult>
  /** Closes idle connections, destroys busy ones. */
  close(): Promise<void>
  /**
   * For how long sends to this URL had better wait, because this host's own way out is down, in ms; 0: send. Asked before
   * every send, so it answers at once. What waits for this uses no step of its schedule.
   */
  heldMs?(url: string): number
}
