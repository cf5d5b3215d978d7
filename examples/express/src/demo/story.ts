import { isDeepStrictEqual } from 'node:util'
import { type Answer, call } from './http.ts'
import type { DemoRecord } from './record.ts'
import type { Screen } from './screen.ts'

export interface StoryContext {
  shopUrl: string
  record: DemoRecord
  screen: Screen
  signal: AbortSignal
}

/** A few weeks of an affiliate program in a second. All 12 events occur; one transaction is rolled back. */
export async function tellStory(context: StoryContext): Promise<void> {
  const api = '/api/v1/affiliate'
  const act = (expected: Expected, path: string, body?: object) =>
    step(context, expected, 'POST', `${api}${path}`, body)

  const registration = {
    name: 'John Smith',
    email: 'john@smith-reviews.example',
    website: 'https://smith-reviews.example',
  }
  const john = await act({ status: 201, events: ['affiliate.created'] }, '/affiliates', registration)
  const johnId = john.body.affiliate_id
  await act({ status: 200, events: ['affiliate.approved'] }, `/affiliates/${johnId}/approve`)
  const applicant = { name: 'Coupon Central', email: 'partners@coupon-central.example' }
  const coupons = await act({ status: 201, events: ['affiliate.created'] }, '/affiliates', applicant)
  const reason = 'The website shows no content of its own.'
  await act({ status: 200, events: ['affiliate.rejected'] }, `/affiliates/${coupons.body.affiliate_id}/reject`, {
    reason,
  })

  const link = { slug: 'john', target_url: 'https://shop.example/courses/advanced' }
  await act({ status: 201, events: [] }, `/affiliates/${johnId}/links`, link)
  const code = { code: 'JOHN10', discount_percent: 10, max_redemptions: 1 }
  await act({ status: 201, events: [] }, `/affiliates/${johnId}/codes`, code)
  const click = await step(context, { status: 302, events: ['link.clicked'] }, 'GET', '/r/john')
  const clickId = Number(new URL(click.headers.get('location') ?? 'x:').searchParams.get('click_id'))

  const sold: Expected = { status: 201, events: ['conversion.recorded', 'commission.created'] }
  const course = { product_name: 'Advanced Course', price: 570 }
  const first = await act(sold, '/conversions', { ...course, order_id: 789, click_id: clickId })
  const redeemed: Expected = { status: 201, events: [...sold.events, 'code.redeemed'] }
  const second = await act(redeemed, '/conversions', { ...course, order_id: 790, code: 'JOHN10' })
  // The code is used up. That shows at the last step of the transaction, after two events were emitted in it.
  const refused: Expected = { status: 409, events: sold.events, rolledBack: true }
  await act(refused, '/conversions', { ...course, order_id: 791, code: 'JOHN10' })

  await act({ status: 200, events: ['commission.approved'] }, `/commissions/${first.body.commission_id}/approve`)
  const refund = { reason: 'The order was refunded.' }
  await act(
    { status: 200, events: ['commission.rejected'] },
    `/commissions/${second.body.commission_id}/reject`,
    refund,
  )

  const batched: Expected = { status: 201, events: ['payout.created'] }
  const closed = { reason: 'The bank account is closed.' }
  const bounced = payoutOf(await act(batched, '/payout-batches', {}))
  await act({ status: 200, events: ['payout.failed'] }, `/payouts/${bounced}/fail`, closed)
  const paid = payoutOf(await act(batched, '/payout-batches', {}))
  const reference = { reference: 'TRX-2024-000931' }
  await act({ status: 200, events: ['payout.processed'] }, `/payouts/${paid}/process`, reference)

  const audit = await call(`${context.shopUrl}${api}/ledger/audit`, 'GET', null, context.signal)
  const affiliate = await call(`${context.shopUrl}${api}/affiliates/${johnId}`, 'GET', null, context.signal)
  const books = { ...(affiliate.body.balance as object), faults: audit.body.faults }
  const expected = { currency: 'USD', payable: 0, in_payout: 0, paid: 85.5, earned: 85.5, faults: [] }
  const { screen, record } = context
  if (isDeepStrictEqual(books, expected))
    screen.line(`  The books add up: 85.50 USD earned, 85.50 USD paid, nothing owed.`)
  else record.faults.push(`The books do not add up: ${JSON.stringify(books)}`)
}

interface Expected {
  status: number
  /** What the request's transaction emits. */
  events: string[]
  rolledBack?: boolean
}

/** One request of the shop's API, compared with what it should have answered and emitted. */
async function step(
  context: StoryContext,
  expected: Expected,
  method: string,
  path: string,
  body?: object,
): Promise<Answer> {
  const { shopUrl, record, screen, signal } = context
  const before = { committed: record.committed.length, rolledBack: record.rolledBack.length }
  const answer = await call(`${shopUrl}${path}`, method, method === 'GET' ? null : (body ?? {}), signal)
  const committed = record.committed.slice(before.committed).map((event) => event.type)
  const rolledBack = record.rolledBack.slice(before.rolledBack).map((event) => event.type)
  const found = { status: answer.status, committed, rolledBack }
  const right = {
    status: expected.status,
    committed: expected.rolledBack ? [] : expected.events,
    rolledBack: expected.rolledBack ? expected.events : [],
  }
  const fine = isDeepStrictEqual(found, right)
  if (!fine) {
    record.faults.push(`${method} ${path} should give ${JSON.stringify(right)}, but gave ${JSON.stringify(found)}.`)
  }
  const status = fine ? screen.good(String(answer.status)) : screen.bad(String(answer.status))
  const emitted = rolledBack.length > 0 ? `rolled back: ${rolledBack.join(', ')}` : committed.join(', ')
  screen.line(`  ${method.padEnd(4)} ${path.padEnd(40)} ${status}  ${emitted || screen.dim('no event')}`)
  return answer
}

function payoutOf(answer: Answer): unknown {
  const payouts = answer.body.payouts as { payout_id: number }[] | undefined
  return payouts?.[0]?.payout_id
}
