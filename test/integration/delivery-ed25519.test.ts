/** `v1a` signatures on real deliveries: what arrives, what the log shows, and a change of the key that no receiver notices. */
import { createHash } from 'node:crypto'
import { generateEd25519Keys } from '@posthaste/core'
import { verifyWebhook } from '@posthaste/core/receiver'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ReceivedRequest, type Receiver, startReceiver } from '../support/receiver.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const [old, next] = [generateEd25519Keys(), generateEd25519Keys()]
let receiver: Receiver
let host: UnderTest
beforeAll(async () => {
  receiver = await startReceiver()
  host = await underTest({ ed25519: { privateKeys: [old.privateKey] } })
  await host.webhooks.start()
})
afterAll(async () => {
  await host.stop()
  await receiver.close()
})

const verify = (request: ReceivedRequest, publicKeys: readonly (string | object)[]) =>
  verifyWebhook(request.body, request.headers, [], { publicKeys, scheme: 'standard' })

test('what arrives verifies with the public key, and the log and a test send show what was sent', async () => {
  const { id } = await host.endpoint(receiver.url('/log'))
  await host.emit(1)
  const [request] = (await receiver.received('/log', 1)) as [ReceivedRequest]
  expect(await verify(request, [old.publicKey])).toMatchObject({ event: 'test.happened', data: { n: 1 } })
  expect(await verify(request, host.webhooks.jwks.keys)).toMatchObject({ data: { n: 1 } })
  await expect(verify(request, [next.publicKey])).rejects.toMatchObject({ step: 'signature' })
  expect(request.headers['webhook-signature']).toMatch(/^v1,[^ ]{44} v1a,[^ ]{88}$/)

  await host.settled()
  const { data } = await host.webhooks.deliveries.list('default', id)
  const { attempts } = await host.webhooks.deliveries.get('default', data[0]!.id)
  expect(attempts[0]?.request?.headers['webhook-signature']).toBe(request.headers['webhook-signature'])
  expect(attempts[0]?.request?.body).toBe(request.body.toString())

  const tested = await host.webhooks.deliveries.sendTest('default', id, { event: 'test.happened' })
  const [, sent] = receiver.requests('/log')
  expect(tested.request?.headers['webhook-signature']).toBe(sent?.headers['webhook-signature'])
  expect(await verify(sent!, [old.publicKey])).toMatchObject({ event: 'test.happened' })
})

test('a key is changed under a receiver that reads jwks.json once in a while, and nothing is refused', async () => {
  const steps = [
    { ed25519: { privateKeys: [old.privateKey] } },
    { ed25519: { privateKeys: [old.privateKey], publicKeys: [next.publicKey] } },
    { ed25519: { privateKeys: [old.privateKey, next.privateKey] } },
    { ed25519: { privateKeys: [next.privateKey], publicKeys: [old.publicKey] } },
    { ed25519: { privateKeys: [next.privateKey] } },
  ]
  await host.endpoint(receiver.url('/rotation'))
  await host.webhooks.stop()
  let known: readonly object[] = []
  for (const [index, options] of steps.entries()) {
    const webhooks = host.another(options)
    await webhooks.start()
    // The receiver's copy is one step old, as behind a cache.
    const before = index === 0 ? webhooks.jwks.keys : known
    await webhooks.emit('test.happened', { n: index }, { tx: 'own' })
    const requests = await receiver.received('/rotation', index + 1)
    expect(await verify(requests[index]!, before)).toMatchObject({ data: { n: index } })
    known = webhooks.jwks.keys
    await webhooks.stop()
  }
  const x = Buffer.from(next.publicKey.slice(5), 'base64').toString('base64url')
  const kid = createHash('sha256').update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest('base64url')
  expect(known).toEqual([expect.objectContaining({ x, kid })])
})

test('without a key there is no v1a, and the set is empty', async () => {
  const plain = await underTest()
  try {
    await plain.webhooks.start()
    expect(plain.webhooks.jwks).toEqual({ keys: [] })
    await plain.endpoint(receiver.url('/plain'))
    await plain.emit(1)
    const [request] = await receiver.received('/plain', 1)
    expect(request?.headers['webhook-signature']).toMatch(/^v1,[^ ]{44}$/)
  } finally {
    await plain.stop()
  }
})
