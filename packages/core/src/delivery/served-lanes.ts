import type { Clock } from '../clock.ts'
import { LaneProgress } from '../lanes/lane-progress.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import { EndpointState } from './endpoint-state.ts'

/** How many endpoints' configuration is kept while nothing is to be delivered to them. */
const CACHED_CONFIGS = 10_000
const FORGOTTEN_AT_ONCE = 500

/** Endpoints whose configuration has changed since the watch began. */
export interface ConfigWatch {
  readonly changed: Set<number>
  end(): void
}

/** What this worker serves at the moment: its lanes, and the endpoints in them that have work. In memory only. */
export class ServedLanes {
  readonly lanes = new Map<number, LaneProgress>()
  readonly states = new Map<number, EndpointState>()
  /** Rows of `dispatches` are read through this one; null before the first lanes were adopted. */
  readN: number | null = null
  /** The life of the database in which they were adopted. */
  life: string | null = null
  /** Changes when everything was forgotten: results of sends that began before are of no use then. */
  epoch = 0
  readonly #configs = new Map<number, EndpointConfig>()
  readonly #watches = new Set<ConfigWatch>()
  readonly #clock: Clock

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The state of an endpoint, made where there is none; `first` is the first sequence number it was woken for. */
  open(endpoint: number, first: number, oldest: string): EndpointState {
    let state = this.states.get(endpoint)
    if (state === undefined) {
      state = new EndpointState(endpoint, first - 1, oldest)
      const config = this.#configs.get(endpoint)
      if (config !== undefined) {
        this.#configs.delete(endpoint)
        state.applyConfig(config, this.#clock.monotonic())
      }
      this.states.set(endpoint, state)
    }
    return state
  }

  /** Nothing is left to do for it: forget the state, keep the configuration for a while. */
  forget(state: EndpointState): void {
    if (this.states.get(state.no) !== state) return
    this.states.delete(state.no)
    const { config } = state
    // What its failures changed is in the database, or too young to matter; a fifo endpoint's open retries are counted anew.
    if (
      config === null ||
      config.state !== 'active' ||
      config.fifo ||
      state.pace.breaker.open ||
      state.pace.failingSinceMs !== null ||
      // It has recovered since this was read.
      config.health.failingSinceMs !== null ||
      config.health.backoffUntilMs !== null
    )
      return
    this.#configs.set(state.no, config)
    if (this.#configs.size > CACHED_CONFIGS + FORGOTTEN_AT_ONCE) this.#forgetConfigs()
  }

  /** Many at once: to find the oldest entry of a Map it goes past all places of those deleted before, 5 µs for each endpoint. */
  #forgetConfigs(): void {
    for (const oldest of this.#configs.keys()) {
      if (this.#configs.size <= CACHED_CONFIGS) break
      this.#configs.delete(oldest)
    }
  }

  /** The configuration changed: what is kept, or being read at this moment, is no longer true. */
  configChanged(endpoint: number): void {
    this.#configs.delete(endpoint)
    for (const { changed } of this.#watches) changed.add(endpoint)
  }

  /** What is kept may be from before a change that was read meanwhile. */
  dropConfig(endpoint: number): void {
    this.#configs.delete(endpoint)
  }

  /**
   * Begins before configurations are read and ends when they are applied. What changed in between was perhaps read as it was
   * before: it must not be applied, least of all over what was read since.
   */
  watchConfigs(): ConfigWatch {
    const watch: ConfigWatch = { changed: new Set(), end: () => void this.#watches.delete(watch) }
    this.#watches.add(watch)
    return watch
  }

  addLane(lane: number, position: number, newestSeq: number): void {
    this.lanes.set(lane, new LaneProgress(position, newestSeq))
  }

  removeLane(lane: number): void {
    for (const state of this.inLane(lane)) this.states.delete(state.no)
    this.lanes.delete(lane)
  }

  inLane(lane: number): EndpointState[] {
    return [...this.states.values()].filter((state) => state.lane === lane)
  }

  clear(): void {
    this.epoch++
    this.lanes.clear()
    this.states.clear()
    this.#configs.clear()
    // The database may have been set back: what was read is then no measure of what is there.
    this.readN = null
    this.life = null
  }
}
