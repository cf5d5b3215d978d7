/**
 * A host in a process of its own, to be killed, frozen and thawed. It says through IPC what it does; its database, schedule
 * and lease come with the environment.
 *
 * As a module it starts such processes; run by node it is one.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createWebhooks, type WebhooksOptions } from '@posthaste/core'
import postgres from 'postgres'
import { until } from './until.ts'
import { type TestOptions, type testEvents, withTestOptions } from './webhooks-under-test.ts'

type Order =
  | { do: 'start' | 'stop' | 'emit-and-hang' | 'migrate'; n?: number }
  | { do: 'emit'; from: number; to: number }
type Report =
  | { done: Order['do']; error?: string }
  | { event: 'lanes'; lanes: number[] }
  | { event: 'unreadable'; endpoint: string }
  | { event: 'unhandled'; error: string }

export interface WorkerProcess {
  pid: number
  /** Lanes that it last said it owns. */
  lanes(): number[]
  /** Endpoints whose secrets it could not read. */
  unreadable(): string[]
  /** Unhandled rejections and exceptions of it. */
  unhandled: string[]
  /** Everything that it wrote to its error output. */
  errors(): string
  /** Does it and waits until it is done. @throws Error with what went wrong there */
  order(order: Order, withinMs?: number): Promise<void>
  signal(name: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT' | 'SIGTERM'): void
  /** Lets it end by itself: disconnects it, and answers its exit code. */
  finish(withinMs?: number): Promise<number | null>
  /** SIGKILL, and waits until it is gone. */
  kill(): Promise<void>
}

const running = new Set<ChildProcess>()

/** No process outlives its test. */
export async function killWorkerProcesses(): Promise<void> {
  await Promise.all([...running].map(endNow))
}

async function endNow(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

export async function startWorkerProcess(database: string, options: TestOptions = {}): Promise<WorkerProcess> {
  const child = fork(import.meta.filename, [], {
    execArgv: ['--conditions=posthaste-source'],
    env: { ...process.env, WORKER_DATABASE: database, WORKER_OPTIONS: JSON.stringify(options), NODE_OPTIONS: '' },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  running.add(child)
  child.once('exit', () => running.delete(child))
  let errors = ''
  child.stderr?.on('data', (chunk) => {
    errors += chunk
  })
  let lanes: number[] = []
  const unreadable: string[] = []
  const unhandled: string[] = []
  const done: Extract<Report, { done: unknown }>[] = []
  child.on('message', (report: Report | 'ready') => {
    if (report === 'ready') done.push({ done: 'migrate', error: 'ready' })
    else if ('done' in report) done.push(report)
    else if (report.event === 'lanes') lanes = report.lanes
    else if (report.event === 'unreadable') unreadable.push(report.endpoint)
    else unhandled.push(report.error)
  })
  const worker: WorkerProcess = {
    pid: child.pid as number,
    lanes: () => lanes,
    unreadable: () => unreadable,
    unhandled,
    errors: () => errors,
    async order(order, withinMs = 10_000) {
      child.send(order)
      await until(`the worker to ${order.do} (${errors})`, () => done.length > 0 || child.exitCode !== null, withinMs)
      const answer = done.shift()
      if (answer === undefined) throw new Error(`The worker has ended: ${errors}`)
      if (answer.error !== undefined) throw new Error(answer.error)
    },
    signal: (name) => void child.kill(name),
    async finish(withinMs = 10_000) {
      if (child.connected) child.disconnect()
      const ended = () => child.exitCode !== null || child.signalCode !== null
      await until('the worker to end by itself', ended, withinMs).catch((error: Error) => {
        throw new Error(`${error.message}; ${errors}`)
      })
      return child.exitCode
    },
    kill: () => endNow(child),
  }
  await until('the worker to begin', () => done.length > 0 || child.exitCode !== null, 20_000)
  if (done.shift() === undefined) throw new Error(`The worker did not begin: ${errors}`)
  return worker
}

if (process.argv[1] === import.meta.filename) run()

function run(): void {
  const database = process.env.WORKER_DATABASE as string
  const say = (report: Report | 'ready') => void (process.connected && process.send?.(report))
  const report = (error: unknown) =>
    say({ event: 'unhandled', error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  process.on('unhandledRejection', report)
  process.on('uncaughtException', report)
  const options: TestOptions = JSON.parse(process.env.WORKER_OPTIONS ?? '{}')
  const webhooks = createWebhooks(withTestOptions(database, options) as WebhooksOptions<typeof testEvents, 'single'>)
  webhooks.events.on('lanes.changed', ({ lanes }) => say({ event: 'lanes', lanes }))
  webhooks.events.on('endpoint.unreadable', ({ endpointId }) => say({ event: 'unreadable', endpoint: endpointId }))
  let sql: postgres.Sql | null = null

  async function carryOut(order: Order): Promise<void> {
    if (order.do === 'start') return await webhooks.start()
    if (order.do === 'stop') return await webhooks.stop()
    if (order.do === 'migrate') return void (await webhooks.migrate())
    sql ??= postgres(database, { max: 2, onnotice: () => {} })
    if (order.do === 'emit') {
      for (let n = order.from; n <= order.to; n++) await webhooks.emit('test.happened', { n }, { tx: 'own' })
      return
    }
    // Neither commits nor rolls back: the process is killed in the middle.
    await new Promise<void>((resolve, reject) => {
      sql!
        .begin(async (tx) => {
          await tx`insert into orders values (${order.n as number})`
          await webhooks.emit('test.happened', { n: order.n as number }, { tx })
          resolve()
          await new Promise(() => {})
        })
        .catch(reject)
    })
  }

  process.on('message', (order: Order) => {
    carryOut(order).then(
      () => say({ done: order.do }),
      (error: unknown) => say({ done: order.do, error: error instanceof Error ? error.message : String(error) }),
    )
  })
  // When the test lets go nothing here keeps the process alive but what Posthaste has left behind.
  process.on('disconnect', () => {
    void sql?.end({ timeout: 1 })
    const tell = () => console.error(`still open: ${process.getActiveResourcesInfo().join(', ')}`)
    setTimeout(tell, 2_500).unref()
  })
  say('ready')
}
