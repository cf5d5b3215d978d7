import { afterEach } from 'vitest'
import { createAddressPolicy } from '../../packages/core/src/http-client/address-guard.ts'
import { createHttpTransport, type HttpTransportOptions } from '../../packages/core/src/http-client/http-transport.ts'
import type { Lookup } from '../../packages/core/src/http-client/name-lookup.ts'
import type { OutboundRequest, Transport } from '../../packages/core/src/http-client/transport.ts'
import {
  type HostileReceiver,
  type HostileReceiverOptions,
  type ReceivedRequest,
  startHostileReceiver,
} from './hostile-receivers.ts'

const disposables: AsyncDisposable[] = []

/** Closed after the test, in reverse order. */
export function closeAfterTest(close: () => Promise<unknown>): void {
  disposables.push({
    async [Symbol.asyncDispose]() {
      await close()
    },
  })
}

afterEach(async () => {
  for (const disposable of disposables.splice(0).reverse()) await disposable[Symbol.asyncDispose]()
})

/** Plain http to this machine, and nothing else that is not public. */
export const loopback = createAddressPolicy({ allowHttp: true, allowedCidrs: ['127.0.0.0/8'] })

export const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
export const answerOk = ({ socket }: ReceivedRequest): void => void socket.write(OK)

/** A receiver for one test; answers 200 unless told otherwise. */
export async function receiver(
  answer: (request: ReceivedRequest) => void = answerOk,
  options: HostileReceiverOptions = {},
): Promise<HostileReceiver> {
  const started = await startHostileReceiver(answer, options)
  disposables.push(started)
  return started
}

/** A transport for one test. */
export function transport(options: Partial<HttpTransportOptions> = {}): Transport {
  const made = createHttpTransport({ policy: loopback, ...options })
  closeAfterTest(() => made.close())
  return made
}

export function post(url: string, more: Partial<OutboundRequest> = {}): OutboundRequest {
  return { url, headers: [], body: Buffer.from('{"a":1}'), deadlineMs: 3_000, ...more }
}

/** A name server with a list of answers for each look-up; the last one stays. */
export function nameServer(...answers: string[][]): Lookup & { asked: string[] } {
  const asked: string[] = []
  const lookup = async (hostname: string) => {
    const answer = answers[Math.min(asked.length, answers.length - 1)] ?? []
    asked.push(hostname)
    return answer.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
  }
  return Object.assign(lookup, { asked })
}
