/** Nothing here may be stored on the way: answers hold secrets, and change with every call. */
const COMMON_HEADERS = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }

/** An answer with a JSON body; without one where `body` is undefined. */
export function jsonResponse(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Response {
  const text = body === undefined ? null : JSON.stringify(body)
  return new Response(text, {
    status,
    headers: { ...COMMON_HEADERS, ...(text === null ? {} : { 'content-type': 'application/json' }), ...headers },
  })
}

/** The answer to HEAD: the headers of GET, its length included, and no body (RFC 9110, 9.3.2). */
export async function withoutBody(response: Response): Promise<Response> {
  const headers = new Headers(response.headers)
  headers.set('content-length', String((await response.arrayBuffer()).byteLength))
  return new Response(null, { status: response.status, headers })
}
