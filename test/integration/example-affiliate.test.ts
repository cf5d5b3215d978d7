import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  approveAffiliate,
  approveCommission,
  auditLedger,
  balanceOf,
  createCode,
  createLink,
  createPayoutBatch,
  failPayout,
  findCommission,
  findPayout,
  type Payout,
  processPayout,
  recordClick,
  recordConversion,
  registerAffiliate,
  rejectAffiliate,
  rejectCommission,
  setUpProgram,
} from '../../examples/affiliate/src/index.ts'
import { approvedAffiliate, clickOn, createTestProgram, type TestProgram } from './example-program.ts'

const ADMIN = 'admin@rebusai.com'

let program: TestProgram
beforeAll(async () => {
  program = await createTestProgram()
})
beforeEach(() => program.reset())
afterAll(() => program.close())

const types = async () => (await program.events()).map((event) => event.type)
const last = async () => (await program.events()).at(-1)

/** One commission of 85.50, of an order of 570.00 at 15 %, as on the page. */
async function pageCommission(orderId = 789): Promise<number> {
  const affiliateId = await approvedAffiliate(program)
  const clickId = await clickOn(program, affiliateId)
  const sale = await recordConversion(program, { orderId, productName: 'Advanced Course', price: 570, clickId })
  return sale.commissionId
}

describe('the page', () => {
  test('commission.approved is the page’s payload, member for member', async () => {
    await program.sql`alter sequence affiliates_id_seq restart with 456`
    await program.sql`alter sequence commissions_id_seq restart with 123`
    await approveCommission(program, await pageCommission(), ADMIN)
    const event = await last()
    expect(event?.type).toBe('commission.approved')
    expect(JSON.stringify(event?.data)).toBe(
      JSON.stringify({
        commission_id: 123,
        affiliate_id: 456,
        affiliate_name: 'John Smith',
        amount: 85.5,
        commission_rate: 15.0,
        order_id: 789,
        product_name: 'Advanced Course',
        approved_by: 'admin@rebusai.com',
        approved_date: '2024-01-20T14:30:00Z',
      }),
    )
  })
})

describe('affiliates', () => {
  test('sign up, and are approved once', async () => {
    const { id } = await registerAffiliate(program, { name: 'Jane', email: 'Jane@Example.com', commissionRate: 12.25 })
    await approveAffiliate(program, id, ADMIN)
    await expect(approveAffiliate(program, id, ADMIN)).rejects.toMatchObject({ code: 'WRONG_STATE' })
    await expect(rejectAffiliate(program, id, ADMIN, 'late')).rejects.toMatchObject({ code: 'WRONG_STATE' })
    expect(await types()).toEqual(['affiliate.created', 'affiliate.approved'])
    expect((await last())?.data).toMatchObject({ affiliate_id: id, affiliate_name: 'Jane', commission_rate: 12.25 })
    expect((await program.events())[0]?.data).toMatchObject({ affiliate_email: 'jane@example.com', website: null })
  })

  test('are rejected with a reason, and then can do nothing', async () => {
    const { id } = await registerAffiliate(program, { name: 'Spam', email: 'spam@example.com' })
    await rejectAffiliate(program, id, ADMIN, 'No website')
    expect(await last()).toMatchObject({
      type: 'affiliate.rejected',
      data: { reason: 'No website', rejected_by: ADMIN },
    })
    await expect(approveAffiliate(program, id, ADMIN)).rejects.toMatchObject({ code: 'WRONG_STATE' })
    const link = { affiliateId: id, slug: 'spam', targetUrl: 'https://shop.example' }
    await expect(createLink(program, link)).rejects.toMatchObject({ code: 'WRONG_STATE' })
  })

  test('have one account per address, whatever its case', async () => {
    await registerAffiliate(program, { name: 'Jane', email: 'jane@example.com' })
    await expect(registerAffiliate(program, { name: 'J', email: 'JANE@example.com' })).rejects.toMatchObject({
      code: 'EMAIL_TAKEN',
    })
    expect(await types()).toEqual(['affiliate.created'])
  })

  test('that do not exist are not found', async () => {
    await expect(approveAffiliate(program, 4711, ADMIN)).rejects.toMatchObject({ code: 'AFFILIATE_NOT_FOUND' })
    expect(await types()).toEqual([])
  })

  test('of two admins who approve at once, one succeeds', async () => {
    const { id } = await registerAffiliate(program, { name: 'Jane', email: 'jane@example.com' })
    const outcomes = await Promise.allSettled([approveAffiliate(program, id, 'a'), approveAffiliate(program, id, 'b')])
    expect(outcomes.map((outcome) => outcome.status).sort()).toEqual(['fulfilled', 'rejected'])
    expect((await types()).filter((type) => type === 'affiliate.approved')).toHaveLength(1)
  })
})

describe('links, clicks and codes', () => {
  test('a click is counted and led on', async () => {
    const affiliateId = await approvedAffiliate(program)
    const link = await createLink(program, { affiliateId, slug: 'john', targetUrl: 'https://shop.example/course' })
    const click = await recordClick(program, { slug: 'john', referrer: 'https://blog.example/' })
    expect(click.targetUrl).toBe('https://shop.example/course')
    expect(await last()).toMatchObject({
      type: 'link.clicked',
      data: {
        click_id: click.clickId,
        link_id: link.id,
        affiliate_id: affiliateId,
        url: click.targetUrl,
        referrer: 'https://blog.example/',
      },
    })
    await expect(recordClick(program, { slug: 'nobody' })).rejects.toMatchObject({ code: 'LINK_NOT_FOUND' })
    await expect(
      createLink(program, { affiliateId, slug: 'john', targetUrl: 'https://x.example' }),
    ).rejects.toMatchObject({
      code: 'SLUG_TAKEN',
    })
  })

  test('a code gives a discount, pays commission on the rest, and ends when it is used up', async () => {
    const affiliateId = await approvedAffiliate(program)
    await createCode(program, { affiliateId, code: 'JOHN10', discountPercent: 10, maxRedemptions: 1 })
    const sale = { productName: 'Advanced Course', price: 19.99, code: 'JOHN10' }
    const first = await recordConversion(program, { ...sale, orderId: 1 })
    expect(first).toMatchObject({ discount: 2, amount: 17.99, commission: 2.7 })
    expect((await types()).slice(-3)).toEqual(['conversion.recorded', 'commission.created', 'code.redeemed'])

    // Two events have been emitted when the last step fails: neither they nor the rows may stay.
    const before = await types()
    await expect(recordConversion(program, { ...sale, orderId: 2 })).rejects.toMatchObject({ code: 'CODE_USED_UP' })
    expect(await types()).toEqual(before)
    expect(await program.sql`select 1 from conversions where order_id = 2`).toHaveLength(0)
  })

  test('of many orders that redeem the last use of a code at once, one succeeds', async () => {
    const affiliateId = await approvedAffiliate(program)
    await createCode(program, { affiliateId, code: 'LAST', discountPercent: 5, maxRedemptions: 1 })
    const outcomes = await Promise.allSettled(
      [1, 2, 3, 4, 5].map((orderId) =>
        recordConversion(program, { orderId, productName: 'C', price: 10, code: 'LAST' }),
      ),
    )
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1)
    expect((await types()).filter((type) => type === 'conversion.recorded')).toHaveLength(1)
  })
})

describe('conversions', () => {
  test('by click: conversion and commission, no redemption', async () => {
    await pageCommission()
    const events = await program.events()
    expect(events.slice(-2)).toMatchObject([
      { type: 'conversion.recorded', data: { order_id: 789, order_amount: 570, click_id: 1, code: null } },
      { type: 'commission.created', data: { order_id: 789, amount: 85.5, commission_rate: 15 } },
    ])
  })

  test('where click and code name different affiliates, the code decides', async () => {
    const john = await approvedAffiliate(program)
    const jane = await approvedAffiliate(program, 'Jane Doe', 20)
    await createCode(program, { affiliateId: jane, code: 'JANE', discountPercent: 0 })
    const sale = { orderId: 1, productName: 'C', price: 10, clickId: await clickOn(program, john), code: 'JANE' }
    expect(await recordConversion(program, sale)).toMatchObject({ affiliateId: jane, commission: 2 })
    expect((await program.events()).find((event) => event.type === 'conversion.recorded')?.data).toMatchObject({
      affiliate_id: jane,
      click_id: null,
      code: 'JANE',
    })
  })

  test('an order is recorded once', async () => {
    await pageCommission()
    const again = recordConversion(program, { orderId: 789, productName: 'C', price: 1, clickId: 1 })
    await expect(again).rejects.toMatchObject({ code: 'ORDER_ALREADY_RECORDED' })
    expect((await types()).filter((type) => type === 'conversion.recorded')).toHaveLength(1)
  })

  test('without click or code, or of unknown ones, are refused', async () => {
    const sale = { orderId: 1, productName: 'C', price: 1 }
    await expect(recordConversion(program, sale)).rejects.toMatchObject({ code: 'INVALID_INPUT' })
    await expect(recordConversion(program, { ...sale, code: 'X' })).rejects.toMatchObject({ code: 'CODE_NOT_FOUND' })
    await expect(recordConversion(program, { ...sale, clickId: 9 })).rejects.toMatchObject({ code: 'CLICK_NOT_FOUND' })
  })
})

describe('commissions and payouts', () => {
  test('a commission is approved once, and paid once', async () => {
    const id = await pageCommission()
    await approveCommission(program, id, ADMIN)
    await expect(approveCommission(program, id, ADMIN)).rejects.toMatchObject({ code: 'WRONG_STATE' })
    await expect(rejectCommission(program, id, ADMIN, 'x')).rejects.toMatchObject({ code: 'WRONG_STATE' })

    const { payouts } = await createPayoutBatch(program)
    expect(payouts).toMatchObject([{ affiliateId: 1, cents: 8550, commissionIds: [id], status: 'created' }])
    const { id: payoutId, affiliateId } = payouts[0]!
    expect(await balanceOf(program.sql, affiliateId, 'USD')).toEqual({
      payable: 0,
      inPayout: 8550,
      paid: 0,
      earned: 8550,
    })
    await expect(createPayoutBatch(program)).rejects.toMatchObject({ code: 'NOTHING_TO_PAY' })

    await processPayout(program, payoutId, 'tr_1')
    expect(await balanceOf(program.sql, affiliateId, 'USD')).toEqual({
      payable: 0,
      inPayout: 0,
      paid: 8550,
      earned: 8550,
    })
    await expect(processPayout(program, payoutId, 'tr_2')).rejects.toMatchObject({ code: 'WRONG_STATE' })
    await expect(failPayout(program, payoutId, 'late')).rejects.toMatchObject({ code: 'WRONG_STATE' })
    expect((await findCommission(program.sql, id)).status).toBe('paid')
    expect((await types()).slice(-3)).toEqual(['commission.approved', 'payout.created', 'payout.processed'])
    expect(await auditLedger(program.sql)).toEqual([])
  })

  test('a rejected commission is owed to nobody', async () => {
    const id = await pageCommission()
    await rejectCommission(program, id, ADMIN, 'Refunded')
    expect(await last()).toMatchObject({ type: 'commission.rejected', data: { commission_id: id, reason: 'Refunded' } })
    await expect(createPayoutBatch(program)).rejects.toMatchObject({ code: 'NOTHING_TO_PAY' })
    expect(await auditLedger(program.sql)).toEqual([])
  })

  test('a failed payout gives the commissions back, and they can be paid again', async () => {
    const id = await pageCommission()
    await approveCommission(program, id, ADMIN)
    const [first] = (await createPayoutBatch(program)).payouts as [Payout]
    await failPayout(program, first.id, 'Account closed')
    expect(await last()).toMatchObject({
      type: 'payout.failed',
      data: { payout_id: first.id, amount: 85.5, reason: 'Account closed', reference: null },
    })
    expect((await findCommission(program.sql, id)).status).toBe('approved')
    expect((await findPayout(program.sql, first.id)).status).toBe('failed')
    expect(await balanceOf(program.sql, 1, 'USD')).toEqual({ payable: 8550, inPayout: 0, paid: 0, earned: 8550 })
    const [second] = (await createPayoutBatch(program)).payouts as [Payout]
    await processPayout(program, second.id, 'tr_2')
    expect(await last()).toMatchObject({ type: 'payout.processed', data: { commission_ids: [id], reference: 'tr_2' } })
    expect(await balanceOf(program.sql, 1, 'USD')).toMatchObject({ payable: 0, paid: 8550 })
    expect(await auditLedger(program.sql)).toEqual([])
  })

  test('one batch is in one currency', async () => {
    const affiliateId = await approvedAffiliate(program)
    const clickId = await clickOn(program, affiliateId)
    for (const [orderId, currency] of [
      [1, 'USD'],
      [2, 'EUR'],
    ] as const) {
      const sale = { orderId, currency, productName: 'C', price: 100, clickId }
      await approveCommission(program, (await recordConversion(program, sale)).commissionId, ADMIN)
    }
    const { payouts } = await createPayoutBatch(program, { currency: 'EUR', method: 'sepa' })
    expect(payouts).toMatchObject([{ cents: 1500, commissionIds: [2], currency: 'EUR', method: 'sepa' }])
    expect(await balanceOf(program.sql, affiliateId, 'USD')).toMatchObject({ payable: 1500, inPayout: 0 })
    expect(await auditLedger(program.sql)).toEqual([])
  })

  test('an emit that fails takes its business transaction along', async () => {
    const id = await pageCommission()
    const before = await types()
    program.failNextEmit('commission.approved')
    await expect(approveCommission(program, id, ADMIN)).rejects.toThrow('as the test asked')
    expect((await findCommission(program.sql, id)).status).toBe('pending')
    expect(await balanceOf(program.sql, 1, 'USD')).toMatchObject({ payable: 0, earned: 0 })
    expect(await types()).toEqual(before)
  })
})

describe('the ledger', () => {
  test('refuses a journal that does not add up, at the commit', async () => {
    const affiliateId = await approvedAffiliate(program)
    const oneSided = program.sql.begin(async (tx) => {
      await tx`insert into ledger_journals (reason, written_at) values ('slip', now())`
      await tx`insert into ledger_entries (journal_id, account, affiliate_id, currency, amount_cents)
        values (1, 'bank', ${affiliateId}, 'USD', 100)`
    })
    await expect(oneSided).rejects.toThrow(/does not add up to zero/)
  })

  test('is never changed', async () => {
    await approveCommission(program, await pageCommission(), ADMIN)
    await expect(program.sql`update ledger_entries set amount_cents = 1`).rejects.toThrow(/never changed/)
    await expect(program.sql`delete from ledger_entries`).rejects.toThrow(/never changed/)
  })

  test('is found out where books and business differ', async () => {
    const id = await pageCommission()
    await approveCommission(program, id, ADMIN)
    await program.sql`update commissions set amount_cents = 9000 where id = ${id}`
    expect(await auditLedger(program.sql)).toEqual([
      { rule: 'earned = approved, in payout or paid commissions', affiliateId: 1, expected: 9000, found: 8550 },
      { rule: 'payable = approved commissions', affiliateId: 1, expected: 9000, found: 8550 },
    ])
  })
})

describe('the set-up', () => {
  test('may be run by several processes at once, and again', async () => {
    await Promise.all([setUpProgram(program.sql), setUpProgram(program.sql), setUpProgram(program.sql)])
    expect(await auditLedger(program.sql)).toEqual([])
  })
})
