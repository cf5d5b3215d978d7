/** A receiver in a process of its own. It writes down every request before it answers it. */
import { appendFileSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import { serve } from '../ipc.ts'

export interface ReceiverSettings {
  port: number
  /** A line of JSON for each receipt. */
  logFile: string
}

/** `die`: kill that worker right after the next answer to it. */
export type ReceiverMode = 'ok' | 'hang' | 'reset' | 'slow' | 'fail' | 'refuse' | 'gone'
export type ReceiverOrder =
  | { do: 'mode'; path: string; mode: ReceiverMode }
  | { do: 'release' }
  /** Right after the next answer to this worker it is killed: the answer is on its way and not recorded. */
  | { do: 'kill-after-answer'; address: string; pid: number }
export type ReceiverTold = { killed: number; at: number }

/** What the log holds. `worker` is the loopback address by which the worker reached us: each has its own. */
export type ReceiptLine =
  | {
      at: number
      request: number
      path: string
      delivery: string
      event: string
      attempt: number
      n: number
      worker: string
    }
  | { at: number; request: number; answered: number }

serve<ReceiverSettings, ReceiverOrder, ReceiverTold>(async ({ port, logFile }, tell) => {
  const modes = new Map<string, ReceiverMode>()
  const hanging = new Set<ServerResponse>()
  const doomed = new Map<string, number>()
  let requests = process.pid * 1_000_000
  const note = (line: ReceiptLine) => appendFileSync(logFile, `${JSON.stringify(line)}\n`)
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('error', () => {})
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const path = request.url ?? '/'
      const id = ++requests
      const worker = request.socket.localAddress ?? ''
      note({
        at: Date.now(),
        request: id,
        path,
        delivery: String(request.headers['x-webhook-delivery']),
        event: String(request.headers['x-webhook-id']),
        attempt: Number(request.headers['x-webhook-attempt']),
        n: JSON.parse(Buffer.concat(chunks).toString('utf8')).data.n,
        worker,
      })
      const answer = (status: number, headers: Record<string, string> = {}) => {
        if (response.destroyed) return
        note({ at: Date.now(), request: id, answered: status })
        response.writeHead(status, headers).end()
        const pid = doomed.get(worker)
        if (pid === undefined) return
        doomed.delete(worker)
        response.once('finish', () => {
          try {
            process.kill(pid, 'SIGKILL')
            tell({ killed: pid, at: Date.now() })
          } catch {
            // It was gone already.
          }
        })
      }
      const mode = modes.get(path) ?? 'ok'
      if (mode === 'ok') answer(200)
      else if (mode === 'fail') answer(500)
      else if (mode === 'refuse') answer(429, { 'Retry-After': '1' })
      else if (mode === 'gone') answer(410)
      else if (mode === 'reset') request.socket.resetAndDestroy()
      else if (mode === 'slow') setTimeout(answer, 200 + (id % 7) * 200, 200)
      else {
        hanging.add(response)
        response.on('close', () => hanging.delete(response))
      }
    })
  })
  server.keepAliveTimeout = 4_000
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '0.0.0.0', resolve)
  })
  return async (order) => {
    if (order.do === 'mode') modes.set(order.path, order.mode)
    else if (order.do === 'kill-after-answer') doomed.set(order.address, order.pid)
    else for (const response of hanging) response.destroy()
  }
})
