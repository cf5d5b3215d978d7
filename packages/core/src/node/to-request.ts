import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'

/** What this needs of `http.IncomingMessage` and `http2.Http2ServerRequest`. */
export interface NodeRequest extends Readable {
  readonly method?: string | undefined
  readonly headers: IncomingHttpHeaders
}

/** Where the body is to be had, besides the message itself. */
export interface ReadBody {
  /** The message's content, where the framework hands it on as another stream. */
  stream?: Readable | null | undefined
  /** The body as it came, bytes or text, where somebody kept it. */
  raw?: unknown
  /** A parsed body; text and bytes count as the body itself. */
  parsed?: unknown
}

/**
 * The `Request` of a Node message.
 *
 * The body is what the host kept of it as it came, else the stream where nobody has read it, else what a parser of the host
 * made of it, serialised again. Nothing is read before somebody reads the Request's body, and no more than that is.
 *
 * @param target the request's path and query as the client sent them: `/webhooks/?limit=5`
 */
export function toRequest(message: NodeRequest, target: string, read: ReadBody = {}): Request {
  const method = requestMethod(message.method)
  const headers = requestHeaders(message.headers)
  const init: RequestInit = { method, headers }
  // Parsers make an empty object of an empty body.
  if (method === 'GET' || method === 'HEAD' || headers.get('content-length') === '0')
    return new Request(requestUrl(target), init)
  const stream = read.stream ?? message
  if (!isRead(stream) && bytesOf(read.raw) === null) {
    return new Request(requestUrl(target), { ...init, body: bodyStream(stream), duplex: 'half' })
  }
  // A parser has inflated it already, and its length is another one by now.
  for (const name of ['content-encoding', 'content-length', 'transfer-encoding']) headers.delete(name)
  const body = readBytes(read)
  return new Request(requestUrl(target), { ...init, ...(body.length === 0 ? {} : { body }) })
}

/** The authority is never used: neither `Host` nor `X-Forwarded-Host` can be trusted. */
function requestUrl(target: string): URL {
  if (target.startsWith('/')) return new URL(`http://localhost${target}`)
  // The absolute form of RFC 9112, 3.2.2; or `*`, which is no path of ours.
  const absolute = URL.parse(target)
  return new URL(`http://localhost${absolute === null ? '/' : absolute.pathname + absolute.search}`)
}

/** `Request` refuses three methods, which Node lets through; by another name they are answered as unknown, with 405. */
function requestMethod(method = 'GET'): string {
  return /^(connect|trace|track)$/i.test(method) ? `X-${method.toUpperCase()}` : method
}

function requestHeaders(from: IncomingHttpHeaders): Headers {
  const headers = new Headers()
  for (const [name, value] of Object.entries(from)) {
    // Pseudo-headers of HTTP/2.
    if (value === undefined || name.startsWith(':')) continue
    for (const one of Array.isArray(value) ? value : [value]) headers.append(name, one)
  }
  return headers
}

function isRead(message: Readable): boolean {
  return message.readableDidRead || message.readableEnded || message.destroyed
}

/** Bytes, or text in UTF-8; null for everything else. */
function bytesOf(value: unknown): Uint8Array<ArrayBuffer> | null {
  if (typeof value === 'string') return new TextEncoder().encode(value)
  return value instanceof Uint8Array ? (value as Uint8Array<ArrayBuffer>) : null
}

function readBytes({ raw, parsed }: ReadBody): Uint8Array<ArrayBuffer> {
  const kept = bytesOf(raw) ?? bytesOf(parsed)
  if (kept !== null) return kept
  return parsed === undefined || parsed === null ? new Uint8Array() : serialised(parsed)
}

/** Nothing where the parsed body is too deep to be written again: the answer is then that of a missing body, 400. */
function serialised(parsed: unknown): Uint8Array<ArrayBuffer> {
  try {
    return new TextEncoder().encode(JSON.stringify(parsed))
  } catch {
    return new Uint8Array()
  }
}

/** The message as a stream that begins to flow when it is read, and that can be given up without closing the connection. */
function bodyStream(message: Readable): ReadableStream<Uint8Array> {
  let release = () => {}
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        return new Promise<void>((resolve) => {
          const settle = (act: () => void) => {
            release()
            act()
            resolve()
          }
          const onData = (chunk: Uint8Array) => {
            message.pause()
            settle(() => controller.enqueue(chunk))
          }
          const onEnd = () => settle(() => controller.close())
          const onBroken = () => settle(() => controller.error(new Error('The request was aborted.')))
          release = () => {
            message.off('data', onData).off('end', onEnd).off('error', onBroken).off('close', onBroken)
          }
          message.on('data', onData).on('end', onEnd).on('error', onBroken).on('close', onBroken)
          // It may have come to its end, or broken, while nobody was listening.
          if (message.readableEnded) onEnd()
          else if (message.destroyed) onBroken()
          else message.resume()
        })
      },
      cancel() {
        release()
        // What is left of the body is dropped as it comes, so that the answer can be read and the connection goes on.
        message.on('error', () => {})
        message.resume()
      },
    },
    { highWaterMark: 0 },
  )
}
