import { isError } from '../errors.ts'
import type { OutboundResult, Transport, TransportErrorCode } from '../http-client/transport.ts'
import { type Learnt, type RecordedRequest, recordRequest } from './recorded-request.ts'

/** What a receiver answers: a status; a status with headers and body; or no answer, for which of the reasons there are. */
export type Answer =
  | number
  | { status: number; headers?: Readonly<Record<string, string>>; body?: string }
  | { error: TransportErrorCode }

export type Responder = Answer | ((request: RecordedRequest) => Answer | Promise<Answer>)

/** Which of the requests: those that have all of this. */
export interface RequestFilter {
  type?: string
  /** An endpoint's id, or its URL. */
  endpoint?: string
  /** From 1. */
  attempt?: number
  account?: string
}

const EXCERPT_BYTES = 16_384
const NO_TIME = { dns: null, connect: null, tls: null, firstByte: 0, total: 0 }

/** In the place of the network: keeps what is sent, and answers what the test says. */
export class RecordingTransport implements Transport {
  readonly #sent: RecordedRequest[] = []
  readonly #unknown = new Map<RecordedRequest, Learnt>()
  #responder: Responder = 200

  get sent(): readonly RecordedRequest[] {
    return this.#sent
  }

  respondWith(responder: Responder): void {
    this.#responder = responder
  }

  clear(): void {
    this.#sent.length = 0
    this.#unknown.clear()
  }

  find({ type, endpoint, attempt, account }: RequestFilter): RecordedRequest[] {
    return this.#sent.filter(
      (one) =>
        (type === undefined || one.type === type) &&
        (endpoint === undefined || one.endpointId === endpoint || one.url === endpoint) &&
        (attempt === undefined || one.attempt === attempt) &&
        (account === undefined || one.account === account),
    )
  }

  /** @throws Error that lists what was sent, where it was not exactly one */
  single(filter: RequestFilter): RecordedRequest {
    const [found, ...others] = this.find(filter)
    if (found !== undefined && others.length === 0) return found
    const wanted = Object.entries(filter).map(([name, value]) => `${name} ${value}`)
    const list = this.#sent.map(
      ({ type, url, attempt, answer }) => `\n  ${type} to ${url}, attempt ${attempt}, answered ${answer}`,
    )
    throw new Error(
      `Expected one request${wanted.length === 0 ? '' : ` with ${wanted.join(', ')}`}, but there are ` +
        `${found === undefined ? 'none' : others.length + 1}. ` +
        (list.length === 0
          ? 'Nothing was sent: has settle() been awaited, and is the endpoint subscribed?'
          : `Sent:${list.join('')}`),
    )
  }

  /** Requests whose endpoint is not known yet, by the ids of their deliveries. */
  async learn(
    endpointsOf: (deliveryIds: string[]) => Promise<Map<string, { id: string; account: string }>>,
  ): Promise<void> {
    if (this.#unknown.size === 0) return
    const found = await endpointsOf([...this.#unknown.keys()].map(({ deliveryId }) => deliveryId))
    for (const [{ deliveryId }, learnt] of this.#unknown) {
      const endpoint = found.get(deliveryId)
      learnt.endpointId = endpoint?.id ?? null
      learnt.account = endpoint?.account ?? null
    }
    this.#unknown.clear()
  }

  async send(outbound: Parameters<Transport['send']>[0]): Promise<OutboundResult> {
    const learnt: Learnt = { endpointId: null, account: null, answer: null }
    const request = recordRequest(outbound, learnt)
    this.#sent.push(request)
    this.#unknown.set(request, learnt)
    const responder = this.#responder
    try {
      const answer = typeof responder === 'function' ? await responder(request) : responder
      learnt.answer = typeof answer === 'number' ? answer : 'error' in answer ? answer.error : answer.status
      return toResult(answer, outbound.keepResponse === true)
    } catch (error) {
      // A transport never rejects. What a responder throws is a receiver that breaks the connection.
      learnt.answer = 'CONNECTION_RESET'
      const message = `respondWith threw: ${isError(error) ? error.message : error}`
      return { kind: 'error', code: 'CONNECTION_RESET', message, staleConnection: false, timings: NO_TIME }
    }
  }

  async close(): Promise<void> {}
}

function toResult(answer: Answer, keepResponse: boolean): OutboundResult {
  if (typeof answer === 'number') return toResult({ status: answer }, keepResponse)
  if ('error' in answer) {
    const { error: code } = answer
    return { kind: 'error', code, message: `As the test said: ${code}.`, staleConnection: false, timings: NO_TIME }
  }
  const { status, headers = {}, body = '' } = answer
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
  const kept = keepResponse || status < 200 || status > 299
  return {
    kind: 'response',
    statusCode: status,
    headers: kept ? lower : {},
    retryAfter: lower['retry-after'] ?? null,
    excerpt: kept ? Buffer.from(body).subarray(0, EXCERPT_BYTES).toString('utf8') : null,
    timings: NO_TIME,
  }
}
