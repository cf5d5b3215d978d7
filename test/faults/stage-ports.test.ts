import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { holdPorts } from './stage-ports.ts'

test('no two runs hold the same ports, and what is held is free to be listened on', async () => {
  const blocks = await Promise.all(Array.from({ length: 6 }, () => holdPorts()))
  const ports = blocks.flatMap(({ postgres, receivers }) => [postgres, ...receivers])
  expect(new Set(ports).size).toBe(6 * 9)
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(blocks[0]!.receivers[0], '0.0.0.0', resolve)
  })
  server.close()
  await Promise.all(blocks.map((block) => block.close()))
})

test('a block is kept off as long as it is held, also with nothing listening on its ports', async () => {
  const block = await holdPorts()
  const again = await holdPorts(block.postgres - 1).catch((error: Error) => error.message)
  expect(again).toMatch(/No ten ports are free/)
  await block.close()
  const third = await holdPorts(block.postgres - 1)
  expect(third.postgres).toBe(block.postgres)
  await third.close()
})
