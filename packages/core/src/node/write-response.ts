/** What this needs of `http.ServerResponse` and `http2.Http2ServerResponse`. */
export interface NodeResponse {
  readonly headersSent: boolean
  readonly writableEnded: boolean
  readonly destroyed?: boolean
  statusCode: number
  setHeader(name: string, value: string | readonly string[]): unknown
  end(body?: Uint8Array): unknown
}

/** Writes a whole Response. Does nothing where the client is gone or somebody else has answered. */
export async function writeResponse(response: Response, outgoing: NodeResponse): Promise<void> {
  const body = response.body === null ? null : new Uint8Array(await response.arrayBuffer())
  if (outgoing.headersSent || outgoing.writableEnded || outgoing.destroyed === true) return
  outgoing.statusCode = response.status
  for (const [name, value] of response.headers) {
    if (name !== 'set-cookie') outgoing.setHeader(name, value)
  }
  const cookies = response.headers.getSetCookie()
  if (cookies.length > 0) outgoing.setHeader('set-cookie', cookies)
  if (body === null) {
    outgoing.end()
  } else {
    outgoing.setHeader('content-length', String(body.byteLength))
    outgoing.end(body)
  }
}
