/**
 * A runtime like those of edge platforms: modules run in a realm of their own with the globals of the web and nothing of Node,
 * and a module that imports anything of Node, or any package but `@posthaste/core/receiver`, does not load.
 *
 * As a module it answers requests by such a process; run by node it is one: `edge-runtime.ts <file of a fetch handler>`.
 */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { promisify } from 'node:util'
import { createContext, type Module, SourceTextModule } from 'node:vm'

export interface EdgeRequest {
  method: string
  headers: Record<string, string>
  /** In base64. */
  body: string
}

export interface EdgeAnswer {
  statuses: number[]
  log: string[]
}

const RECEIVER = new URL('../../packages/core/src/receiver.ts', import.meta.url)
const GLOBALS = { Headers, Request, Response, TextDecoder, TextEncoder, URL, atob, btoa, crypto } as const

/** Sends the requests to the handler one after the other, in one fresh runtime. */
export async function runOnEdge(file: URL, env: Record<string, string>, requests: EdgeRequest[]): Promise<EdgeAnswer> {
  const args = ['--experimental-vm-modules', '--no-warnings', import.meta.filename, file.href]
  const running = promisify(execFile)(process.execPath, args, { env: { PATH: process.env.PATH ?? '' } })
  running.child.stdin?.end(JSON.stringify({ env, requests }))
  const { stdout } = await running
  return JSON.parse(stdout) as EdgeAnswer
}

async function load(file: URL, log: string[]): Promise<{ fetch(request: Request, env: unknown): Promise<Response> }> {
  const context = createContext({ ...GLOBALS, console: { log: (line: unknown) => log.push(String(line)) } })
  // Promises, so that two modules that import a third at the same time get the same one, and its classes are the same class.
  const modules = new Map<string, Promise<Module>>()
  const read = (url: URL): Promise<Module> => {
    const known = modules.get(url.href)
    if (known !== undefined) return known
    const made = readFile(url, 'utf8').then(
      (code) => new SourceTextModule(stripTypeScriptTypes(code), { context, identifier: url.href }),
    )
    modules.set(url.href, made)
    return made
  }
  const entry = await read(file)
  await entry.link((specifier, from) => {
    if (specifier === '@posthaste/core/receiver') return read(RECEIVER)
    if (specifier.startsWith('.')) return read(new URL(specifier, from.identifier))
    throw new Error(`${from.identifier} imports ${specifier}, which an edge runtime does not have.`)
  })
  await entry.evaluate()
  return (entry.namespace as { default: Awaited<ReturnType<typeof load>> }).default
}

async function run(file: URL): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  const { env, requests } = JSON.parse(Buffer.concat(chunks).toString()) as { env: object; requests: EdgeRequest[] }
  const answer: EdgeAnswer = { statuses: [], log: [] }
  const handler = await load(file, answer.log)
  for (const { method, headers, body } of requests) {
    const init = method === 'GET' ? { method, headers } : { method, headers, body: Buffer.from(body, 'base64') }
    answer.statuses.push((await handler.fetch(new Request('https://edge.example/hooks', init), env)).status)
  }
  process.stdout.write(JSON.stringify(answer))
}

if (process.argv[1] === import.meta.filename) await run(new URL(process.argv[2] ?? ''))
