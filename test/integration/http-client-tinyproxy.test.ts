/** The same tunnels through proxies that others wrote, where this machine has them. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { TEST_CERTIFICATE } from '../support/hostile-certificate.ts'
import { answerOk, closeAfterTest, nameServer, post, receiver, transport } from '../support/hostile-transport.ts'
import { until } from '../support/until.ts'

const TINYPROXY = process.env.TINYPROXY ?? 'tinyproxy'
const isThere = spawnSync(TINYPROXY, ['-v']).status === 0
if (!isThere)
  console.warn('SKIPPED: tinyproxy is not installed; tunnels are tested through test/support/connect-proxy.ts alone.')

/** Answers its URL. */
async function tinyproxy(more: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'posthaste-tinyproxy-'))
  const port = await freePort()
  const config = join(folder, 'tinyproxy.conf')
  writeFileSync(
    config,
    `Port ${port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nAllow 127.0.0.1\nLogLevel Error\n${more}\n`,
  )
  const child = spawn(TINYPROXY, ['-d', '-c', config], { stdio: 'ignore' })
  closeAfterTest(async () => {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  await until('tinyproxy to listen', () => accepts(port))
  return `http://127.0.0.1:${port}`
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  return (await new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
  }).finally(() => socket.destroy())) as boolean
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

describe.runIf(isThere)('tinyproxy', () => {
  const options = { lookup: nameServer(['127.0.0.1']), tls: { ca: { only: TEST_CERTIFICATE } } }

  test('carries https and http, by address and by name', async () => {
    const proxy = await tinyproxy('BasicAuth user hunter2')
    const credentials = { username: 'user', password: 'hunter2' }
    const secure = await receiver(answerOk, { tls: true })
    const plain = await receiver()
    const one = transport({ ...options, proxy: { url: proxy, credentials } })
    expect(await one.send(post(`https://receiver.test:${secure.port}/`))).toMatchObject({ statusCode: 200 })
    expect(await one.send(post(`http://receiver.test:${plain.port}/`))).toMatchObject({ statusCode: 200 })
    const named = transport({ ...options, proxy: { url: proxy, credentials, resolve: 'proxy' } })
    expect(await named.send(post(`http://localhost.:${plain.port}/`))).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(await named.send(post(`http://localhost:${plain.port}/`))).toMatchObject({ statusCode: 200 })
  })

  test('its refusals are told apart', async () => {
    const { port, url } = await receiver()
    const locked = await tinyproxy('BasicAuth user hunter2')
    expect(await transport({ ...options, proxy: locked }).send(post(url))).toMatchObject({ code: 'PROXY_AUTH_FAILED' })
    const portless = await tinyproxy('ConnectPort 443')
    expect(await transport({ ...options, proxy: portless }).send(post(url))).toMatchObject({ code: 'PROXY_REFUSED' })
    const open = transport({ ...options, proxy: await tinyproxy('') })
    expect(await open.send(post('http://127.0.0.1:1/'))).toMatchObject({ code: 'PROXY_GATEWAY_FAILED' })
    expect(await open.send(post(`http://127.0.0.1:${port}/`))).toMatchObject({ statusCode: 200 })
  })
})
