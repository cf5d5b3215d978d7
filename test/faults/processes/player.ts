/** Plays seeds one after the other, in a process with a Postgres, ports and, where it may, a disk of its own. */
import { rmSync } from 'node:fs'
import { resolve } from 'node:path'
import { startPostgres } from '../../support/embedded-postgres.ts'
import { serve } from '../ipc.ts'
import { prepareLibraries } from '../libraries.ts'
import { MAX_CONNECTIONS, oneRun, type RunResult } from '../one-run.ts'
import { makeOwnFolder } from '../own-folder.ts'
import type { Schedule } from '../schedule.ts'
import { mountSmallDisk, SMALL_DISK_SETTINGS } from '../small-disk.ts'
import { holdPorts } from '../stage-ports.ts'

export interface PlayerSettings {
  /** Whether disks become full; then it was started in a mount namespace of its own. */
  smallDisk: boolean
  /** Another checkout whose library a deploy goes to. */
  other: string | null
}

export type PlayerOrder = { do: 'play'; schedule: Schedule } | { do: 'end' }
export type PlayerTold = RunResult

let ended = false

serve<PlayerSettings, PlayerOrder, PlayerTold>(
  async ({ smallDisk, other }, tell) => {
    const base = resolve(import.meta.dirname, '..', '..', '..', '.tmp')
    const folder = makeOwnFolder(base, 'run', (left) => rmSync(left, { recursive: true, force: true }))
    const ports = await holdPorts()
    const disk = smallDisk ? mountSmallDisk() : null
    const server = await startPostgres({
      port: ports.postgres,
      settings: { max_connections: MAX_CONNECTIONS, shared_buffers: '64MB', ...(disk && SMALL_DISK_SETTINGS) },
      ...(disk && { dataDir: disk.dataDir }),
    })
    const libraries = prepareLibraries(folder, other ?? undefined)
    return async (order) => {
      if (order.do === 'play') {
        tell(await oneRun({ schedule: order.schedule, server, disk, ports: ports.receivers, folder, libraries }))
        return
      }
      await server.stop('immediate')
      disk?.remove()
      rmSync(folder, { recursive: true, force: true })
      await ports.close()
      ended = true
    }
  },
  () => ended,
)
