/** A process of the stage: started, ordered about through IPC, frozen, killed. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

/** What every process says: it is ready, an order is done, or it failed; and what it has to tell. */
export type Report<Told> = { ready: true } | { done: number; error?: string } | { told: Told }

export interface StageProcess<Order, Told> {
  readonly pid: number
  readonly running: boolean
  /** What it wrote to its error output. */
  errors(): string
  /** Resolves when it is done. @throws Error with what went wrong there, or when it has ended or took too long */
  order(order: Order, withinMs?: number): Promise<void>
  onTold(listener: (told: Told) => void): void
  signal(name: 'SIGSTOP' | 'SIGCONT'): void
  /** SIGKILL, and waits until it is gone. */
  kill(): Promise<void>
  /** Lets it end by itself. False: it did not within the time, and was killed. */
  finish(withinMs: number): Promise<boolean>
}

/** `through`: a command and its options that replaces itself by the process, such as `unshare`. */
export async function startProcess<Order, Told>(
  file: string,
  settings: unknown,
  through: readonly string[] = [],
): Promise<StageProcess<Order, Told>> {
  const [execPath = process.execPath, ...before] = [...through, process.execPath]
  const child: ChildProcess = fork(join(import.meta.dirname, 'processes', file), [], {
    execPath,
    execArgv: [...before, '--conditions=posthaste-source'],
    env: { ...process.env, NODE_OPTIONS: '', FAULTS_SETTINGS: JSON.stringify(settings) },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  let errors = ''
  child.stderr?.on('data', (chunk) => {
    errors = (errors + chunk).slice(-4_000)
  })
  const waiting = new Map<number, { resolve(): void; reject(error: Error): void }>()
  const listeners: ((told: Told) => void)[] = []
  let orders = 0
  let ended = false
  const exited = once(child, 'exit').then(() => {
    ended = true
    for (const { reject } of waiting.values()) reject(new Error(`${file} has ended: ${errors}`))
  })
  child.on('message', (report: Report<Told>) => {
    if ('told' in report) for (const listener of listeners) listener(report.told)
    if (!('done' in report)) return
    const answer = waiting.get(report.done)
    waiting.delete(report.done)
    if (report.error === undefined) answer?.resolve()
    else answer?.reject(new Error(report.error))
  })
  const self: StageProcess<Order, Told> = {
    pid: child.pid as number,
    get running() {
      return !ended
    },
    errors: () => errors,
    async order(order, withinMs = 30_000) {
      if (ended) throw new Error(`${file} has ended: ${errors}`)
      const id = ++orders
      let timer: NodeJS.Timeout | null = null
      await new Promise<void>((resolve, reject) => {
        waiting.set(id, { resolve, reject })
        timer = setTimeout(
          () => reject(new Error(`${file}: ${JSON.stringify(order)} took over ${withinMs} ms`)),
          withinMs,
        )
        child.send({ id, order }, (error) => error && reject(error))
      }).finally(() => {
        clearTimeout(timer!)
        waiting.delete(id)
      })
    },
    onTold: (listener) => void listeners.push(listener),
    signal: (name) => void child.kill(name),
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
    async finish(withinMs) {
      if (child.connected) child.disconnect()
      const timer = setTimeout(() => child.kill('SIGKILL'), withinMs)
      await exited
      clearTimeout(timer)
      return child.signalCode !== 'SIGKILL'
    },
  }
  await Promise.race([
    new Promise<void>((resolve) => {
      child.on('message', (report: Report<Told>) => 'ready' in report && resolve())
    }),
    exited.then(() => {
      throw new Error(`${file} did not begin: ${errors}`)
    }),
  ])
  return self
}

/**
 * The other side: settings, orders and what to tell. Where the runner has gone, so does the process, unless `mayEnd` says that it
 * is about to end by itself, which is what the runner waits for then.
 */
export function serve<Settings, Order, Told>(
  begin: (settings: Settings, tell: (told: Told) => void) => Promise<(order: Order) => Promise<void>>,
  mayEnd: () => boolean = () => false,
): void {
  process.on('disconnect', () => {
    if (!mayEnd()) process.exit(1)
  })
  const say = (report: Report<Told>) => void (process.connected && process.send?.(report))
  const settings = JSON.parse(process.env.FAULTS_SETTINGS as string) as Settings
  void begin(settings, (told) => say({ told })).then((carryOut) => {
    process.on('message', ({ id, order }: { id: number; order: Order }) => {
      carryOut(order).then(
        () => say({ done: id }),
        (error: unknown) => say({ done: id, error: error instanceof Error ? error.message : String(error) }),
      )
    })
    say({ ready: true })
  })
}
