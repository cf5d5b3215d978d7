import type { Permission } from '../../packages/core/src/api/index.ts'
import type { Mounted } from './adapters.ts'
import { token } from './management-api.ts'
import { checkAnswer } from './openapi-check.ts'

export interface Answer {
  status: number
  headers: Headers
  text: string
  /** The parsed body; undefined without one. */
  json: AnswerBody
}

/** Members of all answers; each test knows, and checks, which of them its answer has. */
export interface AnswerBody {
  id: string
  status: unknown
  secret: string
  standard_webhooks_secret: string
  updated_at: string
  event_id: string
  deliveries: AnswerBody[]
  data: AnswerBody[]
  next_cursor: string | null
  code: string
  errors: { path: string; message: string }[]
}

export interface CallOptions {
  account?: string
  permissions?: readonly Permission[]
  /** Sent as JSON. */
  body?: unknown
  headers?: Record<string, string>
  init?: RequestInit
  /** The answer may be the framework's own, so it is not held against the OpenAPI document. */
  unchecked?: boolean
}

/** One request to the API; its answer is as the OpenAPI document says, or this throws. `path` is relative to the mount: `/`, `/ep_…`, or empty for the mount path itself. */
export async function call(api: Mounted, method: string, path: string, options: CallOptions = {}): Promise<Answer> {
  const { account, permissions, body, headers, init } = options
  const response = await api.fetch(`${api.prefix}${path}`, {
    method,
    headers: {
      ...(account === undefined ? {} : { authorization: token(account, permissions) }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...init,
  })
  const text = await response.text()
  const contentType = response.headers.get('content-type')
  const isJson = /[/+]json/.test(contentType ?? '') && text !== ''
  const answer = {
    status: response.status,
    headers: response.headers,
    text,
    json: isJson ? JSON.parse(text) : undefined,
  }
  if (options.unchecked !== true && response.status !== 418) {
    await checkAnswer(api, { method, path, status: answer.status, contentType, json: answer.json })
  }
  return answer
}
