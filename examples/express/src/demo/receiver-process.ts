import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { EndpointSecrets, FromReceiver, ReceivedRequest, ToReceiver } from '../receiver.ts'

export interface ReceiverProcess {
  url: string
  pid: number
  /** Makes a path known, with the secrets to check by. */
  addEndpoint(path: string, secrets: EndpointSecrets): void
  /** Answers the first event that comes to this path with 503, so many times. */
  failFirst(path: string, times: number): void
  stop(): Promise<void>
}

export async function startReceiver(onRequest: (request: ReceivedRequest) => void): Promise<ReceiverProcess> {
  const child = fork(join(import.meta.dirname, '..', 'receiver.ts'), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const exited = once(child, 'exit')
  const port = await new Promise<number>((resolve, reject) => {
    child.on('error', reject)
    child.once('exit', (code, signal) => reject(new Error(`The receiver ended with ${code ?? signal}.`)))
    child.on('message', (message: FromReceiver) => {
      if (message.kind === 'listening') resolve(message.port)
      else onRequest(message)
    })
  })
  const tell = (message: ToReceiver) => child.send(message)
  return {
    url: `http://127.0.0.1:${port}`,
    pid: child.pid!,
    addEndpoint: (path, secrets) => tell({ kind: 'endpoint', path, ...secrets }),
    failFirst: (path, times) => tell({ kind: 'fail', path, times }),
    async stop() {
      if (child.connected) child.disconnect()
      await exited
    },
  }
}
