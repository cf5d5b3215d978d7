/** A process of the benchmark beside its main one, whose functions the main one calls. */
import { fork, type Serializable } from 'node:child_process'
import { once } from 'node:events'
import { builtProcess, childOptions } from './built-processes.ts'

type Methods = Record<string, (params: never) => unknown>

/** What a process file exports as a type, so that its calls are typed on the other side. */
export type RemoteMethods<M extends Methods> = {
  [K in keyof M]: (...params: Parameters<M[K]>) => Promise<Awaited<ReturnType<M[K]>>>
}

export interface Child<M extends Methods> {
  readonly pid: number
  readonly call: RemoteMethods<M>
  /** Ends the process; waits until it is gone. */
  stop(): Promise<void>
}

type Answer = { id: number; result: unknown } | { id: number; error: string } | { ready: true }

/** Starts a process file, as it was built, and waits until it serves. `execArgv` comes after those of this process. */
export async function startChild<M extends Methods>(file: URL, execArgv: readonly string[] = []): Promise<Child<M>> {
  const child = fork(builtProcess(file), {
    execArgv: [...childOptions(process.execArgv), ...execArgv],
    serialization: 'advanced',
  })
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  let next = 0
  let failed: Error | null = null
  const ready = Promise.withResolvers<void>()
  ready.promise.catch(() => {})
  child.on('message', (answer: Answer) => {
    if ('ready' in answer) {
      ready.resolve()
      return
    }
    const call = waiting.get(answer.id)
    waiting.delete(answer.id)
    if ('error' in answer) call?.reject(new Error(answer.error))
    else call?.resolve(answer.result)
  })
  child.on('exit', (code, signal) => {
    failed = new Error(`${file.pathname} ended with ${signal ?? code}`)
    ready.reject(failed)
    for (const call of waiting.values()) call.reject(failed)
    waiting.clear()
  })
  await ready.promise
  const call = new Proxy({} as RemoteMethods<M>, {
    get: (_target, method: string) => (params: unknown) =>
      new Promise((resolve, reject) => {
        if (failed !== null) {
          reject(failed)
          return
        }
        const id = next++
        waiting.set(id, { resolve, reject })
        child.send({ id, method, params } as Serializable)
      }),
  })
  return {
    pid: child.pid as number,
    call,
    async stop() {
      if (failed !== null) return
      const exited = once(child, 'exit')
      // The channel's end is the signal: the process then ends by itself, and writes its profile if it has one.
      child.disconnect()
      await exited
    },
  }
}

/** The other side: serves the calls of the parent, and ends with it. */
export function serveParent(methods: Methods): void {
  process.on('message', (message: { id: number; method: string; params: never }) => {
    void (async () => {
      try {
        const result = await methods[message.method]?.(message.params)
        process.send?.({ id: message.id, result })
      } catch (error) {
        process.send?.({ id: message.id, error: String((error as Error).stack) })
      }
    })()
  })
  process.on('disconnect', () => process.exit(0))
  process.send?.({ ready: true })
}

/** Wall-clock ms with a fraction, comparable between the processes of one machine. */
export function wallClock(): number {
  return performance.timeOrigin + performance.now()
}
