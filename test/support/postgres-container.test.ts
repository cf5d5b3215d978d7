/** The container path of the test database, as far as it can be seen without a container runtime: what it asks of one. */

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { afterEach, expect, test, vi } from 'vitest'
import { FAST_AND_UNSAFE_SETTINGS } from './embedded-postgres.ts'
import { startFakeDocker } from './fake-docker.ts'
import { startContainer } from './postgres-container.ts'

afterEach(() => vi.unstubAllEnvs())

test('starts one container of the image asked for, with our settings, and takes it away again', {
  timeout: 60_000,
}, async () => {
  // What the container's port leads to: testcontainers looks whether somebody listens there.
  const listener = createServer().listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  const docker = await startFakeDocker(port)
  vi.stubEnv('DOCKER_HOST', docker.host)
  vi.stubEnv('TESTCONTAINERS_RYUK_DISABLED', 'true')
  vi.stubEnv('TEST_POSTGRES_IMAGE', 'postgres:14')
  try {
    const container = await startContainer()
    expect(container.url).toBe(`postgres://test:test@127.0.0.1:${port}/test`)
    expect(docker.created).toHaveLength(1)
    const [{ Image, Cmd, Env }] = docker.created as [(typeof docker.created)[0]]
    expect(Image).toBe('postgres:14')
    expect(Cmd[0]).toBe('postgres')
    for (const [name, value] of Object.entries(FAST_AND_UNSAFE_SETTINGS)) expect(Cmd).toContain(`${name}=${value}`)
    expect(Cmd.filter((part) => part === '-c')).toHaveLength(Object.keys(FAST_AND_UNSAFE_SETTINGS).length)
    // The image makes a superuser of it, who may create databases.
    expect(Env).toContain('POSTGRES_USER=test')
    await container.stop()
    expect(docker.asked.filter((what) => what.startsWith('DELETE /containers/'))).toHaveLength(1)
  } catch (error) {
    throw new Error(`${(error as Error).message}\nasked:\n${docker.asked.join('\n')}`, { cause: error })
  } finally {
    listener.close()
    await docker.close()
  }
})
