/** Many seeds, some at a time: each player is a process with a Postgres of its own, and takes the next seed when it is free. */
import { type StageProcess, startProcess } from './ipc.ts'
import type { RunResult } from './one-run.ts'
import type { PlayerOrder, PlayerSettings, PlayerTold } from './processes/player.ts'
import type { Schedule } from './schedule.ts'
import { IN_OWN_NAMESPACE } from './small-disk.ts'

/** Load, 90 s to settle, and whatever a machine adds that is very busy. */
const RUN_WITHIN_MS = 600_000

export interface CampaignOptions extends PlayerSettings {
  schedules: readonly Schedule[]
  parallel: number
  onBegin?(schedule: Schedule): void
  onEnd?(schedule: Schedule, outcome: RunResult | Error): void
}

export interface Campaign {
  results: RunResult[]
  /** Runs that came to no verdict: the suite itself failed. */
  broken: { seed: number; error: Error }[]
}

type Player = StageProcess<PlayerOrder, PlayerTold>

export async function runCampaign(options: CampaignOptions): Promise<Campaign> {
  const { schedules, parallel, smallDisk, other, onBegin, onEnd } = options
  const results: RunResult[] = []
  const broken: Campaign['broken'] = []
  const queue = [...schedules]

  async function playSome(): Promise<void> {
    let player: Player | null = null
    let last: RunResult | null = null
    for (let schedule = queue.shift(); schedule !== undefined; schedule = queue.shift()) {
      onBegin?.(schedule)
      try {
        if (player === null) {
          player = await startProcess<PlayerOrder, PlayerTold>(
            'player.ts',
            { smallDisk, other } satisfies PlayerSettings,
            smallDisk ? IN_OWN_NAMESPACE : [],
          )
          player.onTold((result) => {
            last = result
          })
        }
        await player.order({ do: 'play', schedule }, RUN_WITHIN_MS)
        results.push(last!)
        onEnd?.(schedule, last!)
      } catch (error) {
        // What it has left its watchdog removes; the next seed begins anew.
        await player?.kill()
        player = null
        broken.push({ seed: schedule.seed, error: error as Error })
        onEnd?.(schedule, error as Error)
      }
    }
    await player?.order({ do: 'end' })
    await player?.finish(30_000)
  }

  await Promise.all(Array.from({ length: Math.min(parallel, schedules.length) }, playSome))
  return { results: results.toSorted((a, b) => a.seed - b.seed), broken }
}
