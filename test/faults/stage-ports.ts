/** Ports that are one run's alone, also while what listens there is dead and will be started again. */
import { createServer, type Server } from 'node:net'

/** Below the range from which systems take the ports of outgoing connections, and below what test servers choose from. */
const FIRST = 12_000
const BLOCKS = 800
const BLOCK_SIZE = 10

export interface PortBlock {
  postgres: number
  /** At most eight. */
  receivers: readonly number[]
  close(): Promise<void>
}

/**
 * Ten ports. The first one is listened on as long as the block is held: whoever finds it taken keeps off the other nine, which
 * may be free for a while because a receiver or Postgres is down. Freed by the end of the process, however it ends.
 *
 * @param only take the block that begins here, or none
 */
export async function holdPorts(only: number | null = null): Promise<PortBlock> {
  for (let tries = 0; tries < (only === null ? BLOCKS : 1); tries++) {
    const first = only ?? FIRST + BLOCK_SIZE * Math.floor(Math.random() * BLOCKS)
    const guard = await listen(first)
    if (guard === null) continue
    const close = () => new Promise<void>((resolve) => guard.close(() => resolve()))
    const rest = Array.from({ length: BLOCK_SIZE - 1 }, (_, index) => first + 1 + index)
    const probes = await Promise.all(rest.map(listen))
    await Promise.all(
      probes.map((probe) => new Promise<void>((resolve) => (probe ? probe.close(() => resolve()) : resolve()))),
    )
    if (probes.every((probe) => probe !== null)) return { postgres: rest[0]!, receivers: rest.slice(1), close }
    await close()
  }
  throw new Error(`No ten ports are free between ${FIRST} and ${FIRST + BLOCKS * BLOCK_SIZE}.`)
}

function listen(port: number): Promise<Server | null> {
  const server = createServer()
  return new Promise((resolve) => {
    server.once('error', () => resolve(null))
    server.listen(port, '0.0.0.0', () => resolve(server.unref()))
  })
}
