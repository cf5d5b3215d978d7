import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { describe, expect, test } from 'vitest'
import { startPostgres } from './embedded-postgres.ts'

async function query(url: string, text: string): Promise<unknown[]> {
  const sql = postgres(url, { max: 1, connect_timeout: 5, onclose: () => {} })
  try {
    return [...(await sql.unsafe(text))]
  } finally {
    await sql.end({ timeout: 1 })
  }
}

async function until(condition: () => boolean, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs
  while (!condition() && performance.now() < deadline) await sleep(20)
  return condition()
}

describe('startPostgres', () => {
  test('keeps data and port over a kill and an outage, and leaves nothing after stop', async () => {
    const server = await startPostgres({ settings: { max_connections: 25 } })
    try {
      const { url, pid } = server
      expect(await query(url, 'show max_connections')).toEqual([{ max_connections: '25' }])
      await query(url, 'create table kept as select 7 as n')

      await server.kill()
      expect(server.pid).toBeNull()
      await expect(query(url, 'select 1')).rejects.toThrow()
      await server.restart()
      expect(server.url).toBe(url)
      expect(server.pid).not.toBe(pid)
      expect(await query(url, 'select n from kept')).toEqual([{ n: 7 }])

      await server.halt()
      await expect(query(url, 'select 1')).rejects.toThrow()
      await server.restart()
      expect(await query(url, 'select n from kept')).toEqual([{ n: 7 }])
    } finally {
      await server.stop()
    }
    expect(existsSync(server.dataDir)).toBe(false)
    await server.stop()
  })

  test.each(['SIGKILL', 'SIGINT', 'SIGTERM'] as const)('goes away when its owner ends by %s', async (signal) => {
    const owner = spawn(
      process.execPath,
      [
        '--input-type=module',
        '--eval',
        `import { startPostgres } from ${JSON.stringify(join(import.meta.dirname, 'embedded-postgres.ts'))}
         const { url, dataDir } = await startPostgres()
         console.log(JSON.stringify({ url, dataDir }))
         setInterval(() => {}, 1000)`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const { url, dataDir } = await firstLine(owner)
    expect(await query(url, 'select 1 as n')).toEqual([{ n: 1 }])
    owner.kill(signal)
    await once(owner, 'exit')
    expect(await until(() => !existsSync(dataDir), 10_000)).toBe(true)
    await expect(query(url, 'select 1')).rejects.toThrow('ECONNREFUSED')
  })
})

async function firstLine(owner: ChildProcess): Promise<{ url: string; dataDir: string }> {
  let text = ''
  for await (const chunk of owner.stdout ?? []) {
    text += chunk
    if (text.includes('\n')) break
  }
  return JSON.parse(text)
}
