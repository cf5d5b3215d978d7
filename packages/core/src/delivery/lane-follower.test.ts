/** What happens to an endpoint that is behind while its lane is being taken. */
import { expect, test } from 'vitest'
import type { Loops } from '../background-loop.ts'
import { systemClock } from '../clock.ts'
import { silentLogger } from '../logger.ts'
import type { EndpointConfig } from './endpoint-config.ts'
import type { EndpointState } from './endpoint-state.ts'
import { LaneFollower } from './lane-follower.ts'
import type { ReadAhead } from './read-ahead.ts'
import { ServedLanes } from './served-lanes.ts'
import type { WakeReader } from './wake-reader.ts'

const NIL = '00000000-0000-0000-0000-000000000000'
const ENDPOINT = 5
const LANE = 5
const BACKLOG = { endpoint: ENDPOINT, cursor: 40, oldest: NIL }

/** `whileTaking` is called when the lane is served already, and what is behind in it is not opened yet. */
function start(whileTaking: (served: ServedLanes) => void) {
  const served = new ServedLanes(systemClock)
  let follow: () => Promise<number> = async () => 0
  let taking = true
  const wakes: WakeReader = {
    pages: async () => [],
    newest: async () => ({ n: 9, seq: 100, life: 'one' }),
    seqAt: async (ns) => {
      if (taking) whileTaking(served)
      taking = false
      return new Map(ns.map((n) => [n, 100]))
    },
    backlogs: async () => [BACKLOG],
    endpointsWithRetries: async () => [],
    dueRetries: async () => ({ rows: [], now: '2026-11-28 00:00:00+00', nowMs: 1, life: 'one' }),
  }
  const readAhead = {
    waiting: 0,
    unread: (state: EndpointState) => void state.unreadQueued(),
    rewind: (state: EndpointState, cursor: number, oldest: string) => void state.rewind(cursor, oldest),
    hasRetries() {},
    feed() {},
    configure() {},
  } as unknown as ReadAhead
  const loops = {
    monotonic: () => performance.now(),
    start: ({ step }: { step(): Promise<number> }) => {
      follow = step
      return { wake() {}, async stop() {} }
    },
  } as unknown as Loops
  const config = { openRetries: [] } as unknown as EndpointConfig
  const follower = new LaneFollower({
    served,
    wakes,
    configs: { load: async () => new Map([[ENDPOINT, config]]) },
    readAhead,
    clock: systemClock,
    loops,
    logger: silentLogger,
    idlePollMs: 75,
    onOtherLife() {},
    onRetry() {},
  })
  follower.start()
  return { served, adopt: () => follower.adopt([{ lane: LANE, position: 9 }]), follow: () => follow() }
}

test('it is served from its row', async () => {
  const { served, adopt } = start(() => {})
  await adopt()
  expect(served.states.get(ENDPOINT)).toMatchObject({ cursor: 40, target: 100, checkThrough: 100, rewinding: false })
})

test('while something of it is sent that was asked for by hand, it waits for that, and no longer', async () => {
  const { served, adopt, follow } = start((lanes) => {
    lanes.open(ENDPOINT, 1, NIL).inFlight++
  })
  await adopt()
  const state = served.states.get(ENDPOINT)!
  await follow()
  expect([state.rewinding, state.cursor]).toEqual([true, 0])
  state.inFlight--
  await follow()
  expect(state).toMatchObject({ cursor: 40, target: 100, checkThrough: 100, rewinding: false })
})
