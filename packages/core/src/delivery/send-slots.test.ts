import { describe, expect, test } from 'vitest'
import { EndpointState } from './endpoint-state.ts'
import { SendSlots } from './send-slots.ts'

const NIL = '00000000-0000-0000-0000-000000000000'
const SLOTS = 200

function endpoints(count: number): EndpointState[] {
  return Array.from({ length: count }, (_, index) => new EndpointState(index + 1, 0, NIL))
}

/** Begins as many sends as it may, all that have work taking turns; answers how many. */
function fill(slots: SendSlots, of: readonly EndpointState[], nowMs: number): number {
  let begun = 0
  for (let progress = true; progress; ) {
    progress = false
    for (const state of of) {
      if (slots.mustAnswer(state) || !slots.hasRoom(slots.standingOf(state))) continue
      slots.began(state, nowMs)
      begun++
      progress = true
    }
  }
  return begun
}

describe('an endpoint that answers', () => {
  test('doubles what it has under way at each turn, up to its share of the worker', () => {
    const slots = new SendSlots(SLOTS)
    const [state] = endpoints(1) as [EndpointState]
    let underWay = fill(slots, [state], 0)
    expect(underWay).toBe(2)
    const steps = [underWay]
    for (let now = 20; now <= 200; now += 20) {
      const ending = underWay
      for (let n = 0; n < ending; n++) {
        slots.ended(state, 20, now)
        underWay += fill(slots, [state], now) - 1
      }
      steps.push(underWay)
    }
    expect(steps.slice(0, 5)).toEqual([2, 4, 8, 16, 32])
    // The last tenth is for endpoints with nothing under way.
    expect(steps.at(-1)).toBe(SLOTS * 0.9)
  })

  test('keeps its concurrency when its answers take half a second', () => {
    const slots = new SendSlots(SLOTS)
    const [state] = endpoints(1) as [EndpointState]
    slots.began(state, 0)
    slots.look(499)
    expect(slots.standingOf(state)).toBe('quiet')
    slots.began(state, 499)
    slots.ended(state, 500, 500)
    expect(slots.standingOf(state)).toBe('proven')
  })
})

describe('endpoints that begin to hang', () => {
  test('fifty that were never heard of leave half of the slots', () => {
    const slots = new SendSlots(SLOTS)
    expect(fill(slots, endpoints(50), 0)).toBe(100)
  })

  test('a hundred that were never heard of leave some until the deadline, and those that answer have them', () => {
    const slots = new SendSlots(SLOTS)
    const hanging = endpoints(100)
    let held = fill(slots, hanging, 0)
    expect(held).toBe(150)
    for (let now = 50; now <= 15_000; now += 50) {
      slots.look(now)
      held += fill(slots, hanging, now)
    }
    expect(held).toBeLessThan(SLOTS)
    for (const state of endpoints(5)) {
      expect(slots.hasRoom(slots.standingOf(state))).toBe(true)
      slots.began(state, 15_000)
      slots.ended(state, 5, 15_005)
    }
  })

  test('fifty of a hundred busy ones: the others go on at once', () => {
    const slots = new SendSlots(SLOTS)
    const healthy = endpoints(50)
    const hanging = endpoints(50)
    const all = [...healthy, ...hanging]
    const underWay = new Map<EndpointState, number>()
    const fillAll = (of: readonly EndpointState[], now: number) => {
      for (let progress = true; progress; ) {
        progress = false
        for (const state of of) {
          if (slots.mustAnswer(state) || !slots.hasRoom(slots.standingOf(state))) continue
          slots.began(state, now)
          underWay.set(state, (underWay.get(state) ?? 0) + 1)
          progress = true
        }
      }
    }
    const answer = (of: readonly EndpointState[], now: number) => {
      let answered = 0
      for (const state of of) {
        for (let n = underWay.get(state) ?? 0; n > 0; n--) {
          slots.ended(state, 10, now)
          answered++
        }
        underWay.set(state, 0)
      }
      return answered
    }
    fillAll(all, 0)
    for (let now = 10; now <= 500; now += 10) {
      answer(all, now)
      fillAll(all, now)
    }
    // From now on half of them are silent.
    let delivered = 0
    for (let now = 510; now <= 10_500; now += 10) {
      delivered += answer(healthy, now)
      if (now % 50 === 0) slots.look(now)
      fillAll(all, now)
    }
    // A turn takes 10 ms: 20 slots make 2,000 a second.
    expect(delivered).toBeGreaterThan(10 * 1_000)
    for (const state of hanging) expect(slots.standingOf(state)).toBe('quiet')
  })

  test('one that was slow is lent little until it answers soon', () => {
    const slots = new SendSlots(SLOTS)
    const [state, ...others] = endpoints(200) as [EndpointState, ...EndpointState[]]
    slots.began(state, 0)
    expect(slots.look(1_001)).toEqual([state])
    expect(slots.look(1_051)).toEqual([])
    slots.ended(state, 5_000, 5_000)
    expect(slots.standingOf(state)).toBe('quiet')
    for (const other of others.slice(0, 100)) slots.began(other, 5_000)
    slots.look(5_400)
    expect(slots.hasRoom('quiet')).toBe(false)
    slots.ended(others[0]!, 400, 5_400)
    slots.began(state, 5_400)
    slots.ended(state, 10, 5_410)
    expect(slots.standingOf(state)).toBe('unproven')
  })
})

test('a worker with one slot uses it', () => {
  const slots = new SendSlots(1)
  const [one, two] = endpoints(2) as [EndpointState, EndpointState]
  expect(fill(slots, [one, two], 0)).toBe(1)
  slots.ended(one, 10, 10)
  expect(slots.hasRoom(slots.standingOf(two))).toBe(true)
})

test('those that were never heard of are answering for as long as one of them did a moment ago', () => {
  const slots = new SendSlots(SLOTS)
  const [first, second] = endpoints(2) as [EndpointState, EndpointState]
  for (const state of [first, second]) slots.began(state, 0)
  expect(slots.unprovenAreAnswering(10)).toBe(false)
  slots.ended(first, 20, 20)
  expect(slots.unprovenAreAnswering(319)).toBe(true)
  expect(slots.unprovenAreAnswering(320)).toBe(false)
  // What one that is known answers says nothing of those that are not.
  slots.ended(second, 400, 400)
  slots.began(second, 400)
  slots.began(second, 400)
  slots.ended(second, 100, 500)
  slots.ended(second, 500, 900)
  expect(slots.unprovenAreAnswering(901)).toBe(false)
})
