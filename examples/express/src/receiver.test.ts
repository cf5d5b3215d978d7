import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { verifyBody, verifyStandard, verifyWebhook } from './receiver.ts'

const SECRET = 'your_webhook_secret'
const hmac = (text: string) => `sha256=${createHmac('sha256', SECRET).update(text).digest('hex')}`
const UNSIGNED = '{"event":"commission.approved","timestamp":1640995200,"data":{"affiliate_name":"Zoë"}}'
const SIGNED = `${UNSIGNED.slice(0, -1)},"signature":"${hmac(UNSIGNED)}"}`

describe('the receiver', () => {
  test('verifies as the page does', () => {
    const body = Buffer.from(SIGNED)
    expect(verifyWebhook(body, hmac(SIGNED), SECRET)).toBe(true)
    expect(verifyWebhook(body, hmac(SIGNED).slice(7), SECRET)).toBe(true)
    expect(verifyWebhook(body, hmac(SIGNED), 'another_secret')).toBe(false)
    expect(verifyWebhook(Buffer.from(SIGNED.replace('Zoë', 'Zoe')), hmac(SIGNED), SECRET)).toBe(false)
    for (const signature of ['', 'sha256=', 'sha256=ü', `${hmac(SIGNED)}0`]) {
      expect(verifyWebhook(body, signature, SECRET)).toBe(false)
    }
  })

  test('verifies the body by itself', () => {
    expect(verifyBody(Buffer.from(SIGNED), SECRET)).toBe(true)
    expect(verifyBody(Buffer.from(SIGNED.replace('1640995200', '1640995201')), SECRET)).toBe(false)
    expect(verifyBody(Buffer.from(SIGNED), 'another_secret')).toBe(false)
    expect(verifyBody(Buffer.from(UNSIGNED), SECRET)).toBe(false)
    expect(verifyBody(Buffer.from(''), SECRET)).toBe(false)
  })

  test('verifies as Standard Webhooks does', () => {
    const at = String(Math.floor(Date.now() / 1000))
    const signature = createHmac('sha256', SECRET).update(`evt_1.${at}.${SIGNED}`).digest('base64')
    const headers = { 'webhook-id': 'evt_1', 'webhook-timestamp': at, 'webhook-signature': `v1,${signature}` }
    const standardSecret = `whsec_${Buffer.from(SECRET).toString('base64')}`
    expect(verifyStandard(Buffer.from(SIGNED), headers, standardSecret)).toBe(true)
    expect(verifyStandard(Buffer.from(SIGNED), { ...headers, 'webhook-id': 'evt_2' }, standardSecret)).toBe(false)
    expect(verifyStandard(Buffer.from(UNSIGNED), headers, standardSecret)).toBe(false)
    expect(verifyStandard(Buffer.from(SIGNED), {}, standardSecret)).toBe(false)
  })
})
