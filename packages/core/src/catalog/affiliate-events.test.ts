import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { affiliateEvents } from './affiliate-events.ts'
import type { EventData, EventType } from './define-events.ts'

/** The page's table, word for word. */
const PAGE_EVENTS = `
affiliate.created New affiliate registered|Affiliate signs up
affiliate.approved Affiliate application approved|Admin approves affiliate
affiliate.rejected Affiliate application rejected|Admin rejects affiliate
commission.created New commission recorded|Sale attributed to affiliate
commission.approved Commission approved for payout|Admin approves commission
commission.rejected Commission rejected|Admin rejects commission
payout.created Payout batch created|Payout batch generated
payout.processed Payout successfully processed|Payment sent to affiliate
payout.failed Payout failed|Payment failed
link.clicked Affiliate link clicked|Customer clicks link
conversion.recorded Sale conversion recorded|Customer makes purchase
code.redeemed Affiliate code redeemed|Customer redeems code`
  .trim()
  .split('\n')

const SOURCE_DOCUMENT = new URL('../../../../../shared/source-document.txt', import.meta.url)

describe('affiliateEvents', () => {
  test('are the 12 of the page, with its words', () => {
    const ours = affiliateEvents.types.map((type) => {
      const { description, trigger } = affiliateEvents.get(type)
      return `${type} ${description}|${trigger}`
    })
    expect(ours).toStrictEqual(PAGE_EVENTS)
  })

  test.skipIf(!existsSync(SOURCE_DOCUMENT))(
    'agree with the source document itself (skipped where it is not beside the repository)',
    () => {
      const page = readFileSync(SOURCE_DOCUMENT, 'utf8')
      for (const line of PAGE_EVENTS) expect(page).toContain(`${line.replace('|', ' ')}\n`)
      const payload = page.slice(page.indexOf('{\n  "event"'), page.indexOf('Webhook Verification'))
      const { event, data } = JSON.parse(payload)
      expect(affiliateEvents.get(event).example).toStrictEqual(data)
      expect(Object.keys(affiliateEvents.get(event).example)).toStrictEqual(Object.keys(data))
    },
  )

  test("commission.approved has the page's payload", () => {
    expect(affiliateEvents.get('commission.approved').exampleText).toBe(
      '{"commission_id":123,"affiliate_id":456,"affiliate_name":"John Smith","amount":85.5,"commission_rate":15,' +
        '"order_id":789,"product_name":"Advanced Course","approved_by":"admin@rebusai.com","approved_date":"2024-01-20T14:30:00Z"}',
    )
  })

  test('members are snake_case, ids numbers, dates RFC 3339', () => {
    for (const type of affiliateEvents.types) {
      for (const [name, value] of Object.entries(affiliateEvents.get(type).example)) {
        expect(name).toMatch(/^[a-z]+(_[a-z]+)*$/)
        if (name.endsWith('_id')) expect(value).toBeTypeOf('number')
        if (name.endsWith('_date')) expect(value).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
      }
      expect(affiliateEvents.jsonSchema(type)).toMatchObject({ type: 'object' })
    }
  })

  test('only link.clicked is stored for subscribers alone', () => {
    const rare = affiliateEvents.types.filter((type) => affiliateEvents.get(type).store === 'when_subscribed')
    expect(rare).toStrictEqual(['link.clicked'])
  })

  test('types are precise', () => {
    expectTypeOf<EventType<typeof affiliateEvents>>().extract<'payout.failed'>().toEqualTypeOf<'payout.failed'>()
    expectTypeOf<EventType<typeof affiliateEvents>>().extract<'payout.lost'>().toBeNever()
    expectTypeOf<EventData<typeof affiliateEvents, 'commission.approved'>>().toEqualTypeOf<{
      commission_id: number
      affiliate_id: number
      affiliate_name: string
      amount: number
      commission_rate: number
      order_id: number
      product_name: string
      approved_by: string
      approved_date: Date | string
    }>()
  })
})
