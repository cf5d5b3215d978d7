import { createHmac, randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { HmacKey } from './hmac-key.ts'

test.each([
  // RFC 4231, test cases 1, 2, 6 and 7: a short key, text, keys longer than a block.
  ['0b'.repeat(20), '4869205468657265', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
  [
    '4a656665',
    '7768617420646f2079612077616e7420666f72206e6f7468696e673f',
    '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  ],
  [
    'aa'.repeat(131),
    Buffer.from('Test Using Larger Than Block-Size Key - Hash Key First').toString('hex'),
    '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
  ],
  [
    'aa'.repeat(131),
    Buffer.from(
      'This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.',
    ).toString('hex'),
    '9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2',
  ],
])('signs as RFC 4231 says: %#', (key, message, expected) => {
  expect(new HmacKey(Buffer.from(key, 'hex')).sign('', Buffer.from(message, 'hex'), 'hex')).toBe(expected)
})

test('is what createHmac makes, whatever the lengths of key, prefix and message', () => {
  for (const keyLength of [1, 31, 32, 63, 64, 65, 300]) {
    const bytes = randomBytes(keyLength)
    const key = new HmacKey(bytes)
    // Around the blocks of the hash, and around what goes through the shared buffer.
    for (const length of [0, 1, 55, 56, 63, 64, 65, 1_000, 65_471, 65_472, 65_473, 200_000]) {
      const message = randomBytes(length)
      for (const prefix of ['', 'evt_1.1640995200.', 'é']) {
        const expected = createHmac('sha256', bytes).update(prefix, 'latin1').update(message).digest()
        expect(key.sign(prefix, message, 'hex')).toBe(expected.toString('hex'))
        expect(key.sign(prefix, message, 'base64')).toBe(expected.toString('base64'))
      }
    }
  }
})
