import { describe, expect, test } from 'vitest'
import { Queue } from './queue.ts'

describe('remove', () => {
  test('takes one out of the middle and keeps the order of the others', () => {
    const queue = new Queue<number>()
    for (let n = 0; n < 200; n++) queue.push(n)
    for (let n = 0; n < 90; n++) queue.shift()
    expect(queue.remove((n) => n === 150)).toBe(150)
    expect(queue.remove((n) => n === 150)).toBeNull()
    // What was shifted is gone.
    expect(queue.remove((n) => n === 80)).toBeNull()
    expect(queue.length).toBe(109)
    queue.unshift(-1)
    expect([...queue]).toEqual([-1, ...Array.from({ length: 110 }, (_, n) => n + 90).filter((n) => n !== 150)])
  })
})
