/**
 * A container runtime that runs nothing: answers what testcontainers asks of Docker's API (v1.4x) when it starts one container, and
 * lets the container's port be one that somebody listens on. For machines without a runtime.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface FakeDocker {
  /** For `DOCKER_HOST`. */
  host: string
  /** The bodies of the requests that create containers. */
  created: { Image: string; Cmd: string[]; Env: string[]; ExposedPorts: object }[]
  /** What was asked, as method and path without the version. */
  asked: string[]
  close(): Promise<void>
}

const ID = 'f'.repeat(64)

/** @param port what every port of the container is bound to, on 127.0.0.1 */
export async function startFakeDocker(port: number): Promise<FakeDocker> {
  const created: FakeDocker['created'] = []
  const asked: string[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const path = (request.url ?? '').replace(/^\/v[\d.]+/, '').replace(/\?.*$/, '')
    const what = `${request.method} ${path}`
    asked.push(what)
    const answer = (status: number, body?: unknown) =>
      response
        .writeHead(status, { 'content-type': 'application/json' })
        .end(body === undefined ? '' : JSON.stringify(body))
    if (path === '/containers/create') {
      created.push(JSON.parse(Buffer.concat(chunks).toString()))
      return answer(201, { Id: ID, Warnings: [] })
    }
    if (path === `/containers/${ID}/json`) return answer(200, inspected(port))
    if (path === '/info')
      return answer(200, { OperatingSystem: 'fake', OSType: 'linux', Architecture: 'x86_64', IndexServerAddress: '' })
    if (path === '/version') return answer(200, { Version: '99', ApiVersion: '1.47', Os: 'linux', Arch: 'amd64' })
    if (path.startsWith('/images/'))
      return answer(200, { Id: 'sha256:0', Architecture: 'amd64', Os: 'linux', RepoTags: [] })
    if (what === `POST /containers/${ID}/exec`) return answer(201, { Id: 'exec' })
    if (what === 'GET /exec/exec/json') return answer(200, { ExitCode: 0, Running: false })
    if (what === 'POST /exec/exec/start') return response.writeHead(200).end()
    if (path === '/containers/json' || path === '/networks') return answer(200, [])
    if (/^\/containers\/f+\/(start|stop|kill)$/.test(path) || request.method === 'DELETE') return answer(204)
    return answer(404, { message: `the fake does not know ${what}` })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    host: `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    created,
    asked,
    async close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

function inspected(port: number) {
  return {
    Id: ID,
    Name: '/postgres',
    Created: new Date().toISOString(),
    State: { Status: 'running', Running: true, StartedAt: new Date().toISOString(), Health: { Status: 'healthy' } },
    Config: { Hostname: 'postgres', Labels: {}, Env: [] },
    HostConfig: { PortBindings: {} },
    NetworkSettings: {
      Ports: { '5432/tcp': [{ HostIp: '127.0.0.1', HostPort: String(port) }] },
      Networks: { bridge: { IPAddress: '127.0.0.1' } },
    },
    Mounts: [],
  }
}
