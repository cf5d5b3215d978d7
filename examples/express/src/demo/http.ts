import { API_KEY } from './shop.ts'

export interface Answer {
  status: number
  headers: Headers
  body: Record<string, unknown>
}

/** One request to the shop, with the key; redirects are answers. */
export async function call(
  url: string,
  method: string,
  body: string | object | null,
  signal: AbortSignal,
): Promise<Answer> {
  const response = await fetch(url, {
    method,
    redirect: 'manual',
    signal,
    headers: { Authorization: `Bearer ${API_KEY}`, ...(body === null ? {} : { 'Content-Type': 'application/json' }) },
    ...(body === null ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  const isJson = /json/.test(response.headers.get('content-type') ?? '')
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : {} }
}
