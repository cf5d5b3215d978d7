/**
 * The seam between delivery and the network: one signed POST, out, and what became of it. The production transport is
 * `createHttpTransport`; tests and hosts may put their own in its place.
 */
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
  /** Never rejects: every way to fail is a result. */
  send(request: OutboundRequest): Promise<OutboundResult>
  /** Closes idle connections, destroys busy ones. */
  close(): Promise<void>
}
