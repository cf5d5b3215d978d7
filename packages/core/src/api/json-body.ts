/** Reads a request's JSON, never more of it than the limit. */
import { PosthasteError } from '../errors.ts'

export interface JsonBody {
  /** As it came; empty where there was none. */
  bytes: Uint8Array
  /** Undefined where there was no body. */
  value: unknown
}

/**
 * @throws {PosthasteError} `BODY_TOO_LARGE`, `UNSUPPORTED_MEDIA_TYPE` (not JSON, compressed, or not UTF-8 by its own account),
 * `MALFORMED_JSON` (also where the body ends early or is not UTF-8)
 */
export async function readJsonBody(request: Request, limitBytes: number): Promise<JsonBody> {
  if (Number(request.headers.get('content-length')) > limitBytes) throw tooLarge(limitBytes)
  // Refused before the body is read, but only where there is one.
  const refusal = refusedMediaType(request.headers)
  const bytes = await readBytes(request, refusal === null ? limitBytes : 0).catch((error: unknown) => {
    if (refusal !== null && error instanceof PosthasteError && error.code === 'BODY_TOO_LARGE') throw refusal
    throw error
  })
  return { bytes, value: bytes.length === 0 ? undefined : parseJson(bytes) }
}

async function readBytes(request: Request, limitBytes: number): Promise<Uint8Array> {
  if (request.bodyUsed) {
    // The host's mistake, so it is logged and answered as one.
    throw new PosthasteError('CONFIG_INVALID', 'The body has been read already: give the handler an unread Request.')
  }
  if (request.body === null) return new Uint8Array()
  const reader = request.body.getReader()
  const chunks: Uint8Array[] = []
  let size = 0
  for (;;) {
    const { done, value } = await reader.read().catch((cause: unknown) => {
      throw new PosthasteError('MALFORMED_JSON', 'The body ended before it was complete.', { cause })
    })
    if (done) return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)
    size += value.byteLength
    if (size > limitBytes) {
      // Not awaited: what is left of the body may take its time.
      reader.cancel().catch(() => {})
      throw tooLarge(limitBytes)
    }
    chunks.push(value)
  }
}

/** What is wrong with the body's type; null where nothing is. */
function refusedMediaType(headers: Headers): PosthasteError | null {
  const encoding = headers.get('content-encoding')?.trim().toLowerCase()
  if (encoding !== undefined && encoding !== '' && encoding !== 'identity') {
    // RFC 9110, 15.5.16: says which encodings would do.
    return unsupported('The body must not be compressed.', { 'accept-encoding': 'identity' })
  }
  const [type = '', ...parameters] = (headers.get('content-type') ?? '').toLowerCase().split(';')
  if (!/^application\/([\w.!#$&^+-]+\+)?json$/.test(type.trim())) {
    return unsupported('The body must be JSON: send Content-Type: application/json.', { accept: 'application/json' })
  }
  for (const parameter of parameters) {
    const [name = '', value = ''] = parameter.split('=')
    if (name.trim() !== 'charset') continue
    const charset = value.trim().replace(/^"(.*)"$/, '$1')
    if (charset !== 'utf-8' && charset !== 'utf8' && charset !== 'us-ascii') {
      return unsupported('The body must be UTF-8 (RFC 8259, 8.1).')
    }
  }
  return null
}

function parseJson(bytes: Uint8Array): unknown {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new PosthasteError('MALFORMED_JSON', 'The body is not UTF-8.', { cause })
  }
  try {
    return JSON.parse(text)
  } catch {
    // The engine's own message repeats parts of the body, which may hold a secret.
    throw new PosthasteError('MALFORMED_JSON', 'The body is not JSON.')
  }
}

function tooLarge(limitBytes: number): PosthasteError {
  return new PosthasteError('BODY_TOO_LARGE', `The body is larger than ${limitBytes} bytes.`)
}

function unsupported(message: string, headers: Record<string, string> = {}): PosthasteError {
  return new PosthasteError('UNSUPPORTED_MEDIA_TYPE', message, { headers })
}
