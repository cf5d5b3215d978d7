/**
 * The books of the affiliate program against any course of business: steps that are possible and steps that are not, one
 * after the other and all at once, with emits that fail in between.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  approveCommission,
  auditLedger,
  balanceOf,
  createCode,
  createPayoutBatch,
  failPayout,
  ProgramError,
  processPayout,
  recordConversion,
  rejectCommission,
  shareOf,
} from '../../examples/affiliate/src/index.ts'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'
import { approvedAffiliate, createTestProgram, type TestProgram } from './example-program.ts'

let program: TestProgram
beforeAll(async () => {
  program = await createTestProgram()
})
afterAll(() => program.close())

/** Two affiliates with rates that round, and a code each. */
const RATES = [12.34, 7.77] as const

async function openShop(): Promise<void> {
  await program.reset()
  for (const [index, rate] of RATES.entries()) {
    const affiliateId = await approvedAffiliate(program, `Affiliate ${index}`, rate)
    await createCode(program, { affiliateId, code: `CODE${index}`, discountPercent: 3.21 })
  }
}

type Action =
  | { do: 'sell'; affiliate: number; cents: number }
  | { do: 'approve' | 'reject'; commission: number }
  | { do: 'pay' }
  | { do: 'process' | 'fail'; payout: number }

const affiliate = fc.nat({ max: RATES.length - 1 })
/** Ids start at 1 and mostly exist: an action on one that does not is refused, too. */
const id = fc.integer({ min: 1, max: 8 })
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('sell' as const), affiliate, cents: fc.integer({ min: 1, max: 99_999 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('approve' as const), commission: id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reject' as const), commission: id }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('pay' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('process' as const, 'fail' as const), payout: id }) },
)

let orders = 0

function perform(act: Action): Promise<unknown> {
  switch (act.do) {
    case 'sell': {
      const sale = { productName: 'Course', price: act.cents / 100, code: `CODE${act.affiliate}` }
      return recordConversion(program, { ...sale, orderId: ++orders })
    }
    case 'approve':
      return approveCommission(program, act.commission, 'admin')
    case 'reject':
      return rejectCommission(program, act.commission, 'admin', 'returned')
    case 'pay':
      return createPayoutBatch(program)
    case 'process':
      return processPayout(program, act.payout, `tr_${act.payout}`)
    case 'fail':
      return failPayout(program, act.payout, 'bounced')
  }
}

/** What the program should do, in a few lines and without a database. Ids are positions plus one, as long as nothing fails. */
class Model {
  commissions: { affiliate: number; cents: number; status: string; payout: number }[] = []
  payouts: { affiliate: number; cents: number; status: string }[] = []

  /** `ok`, or the code of the error. */
  perform(act: Action): string {
    switch (act.do) {
      case 'sell': {
        const price = act.cents - shareOf(act.cents, 321)
        const points = Math.round(RATES[act.affiliate]! * 100)
        this.commissions.push({ affiliate: act.affiliate, cents: shareOf(price, points), status: 'pending', payout: 0 })
        return 'ok'
      }
      case 'approve':
      case 'reject': {
        const commission = this.commissions[act.commission - 1]
        if (!commission) return 'COMMISSION_NOT_FOUND'
        if (commission.status !== 'pending') return 'WRONG_STATE'
        commission.status = act.do === 'approve' ? 'approved' : 'rejected'
        return 'ok'
      }
      case 'pay': {
        const before = this.payouts.length
        for (const affiliate of RATES.keys()) {
          const due = this.commissions.filter((c) => c.affiliate === affiliate && c.status === 'approved')
          const cents = due.reduce((sum, c) => sum + c.cents, 0)
          if (cents === 0) continue
          this.payouts.push({ affiliate, cents, status: 'created' })
          for (const c of due) Object.assign(c, { status: 'in_payout', payout: this.payouts.length })
        }
        return this.payouts.length > before ? 'ok' : 'NOTHING_TO_PAY'
      }
      case 'process':
      case 'fail': {
        const payout = this.payouts[act.payout - 1]
        if (!payout) return 'PAYOUT_NOT_FOUND'
        if (payout.status !== 'created') return 'WRONG_STATE'
        payout.status = act.do === 'process' ? 'processed' : 'failed'
        const status = act.do === 'process' ? 'paid' : 'approved'
        for (const c of this.commissions.filter((c) => c.payout === act.payout && c.status === 'in_payout'))
          c.status = status
        return 'ok'
      }
    }
  }

  balance(of: number) {
    const sum = (...statuses: string[]) =>
      this.commissions.filter((c) => c.affiliate === of && statuses.includes(c.status)).reduce((s, c) => s + c.cents, 0)
    return {
      payable: sum('approved'),
      inPayout: sum('in_payout'),
      paid: sum('paid'),
      earned: sum('approved', 'in_payout', 'paid'),
    }
  }
}

async function outcomeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'ok'
  } catch (error) {
    if (error instanceof ProgramError) return error.code
    throw error
  }
}

describe('the ledger', () => {
  test('agrees with a model after every course of business', { timeout: PROPERTY_TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 30 }), async (actions) => {
        await openShop()
        const model = new Model()
        for (const act of actions) expect([act, await outcomeOf(perform(act))]).toEqual([act, model.perform(act)])
        for (const of of RATES.keys()) expect(await balanceOf(program.sql, of + 1, 'USD')).toEqual(model.balance(of))
        expect(await auditLedger(program.sql)).toEqual([])
      }),
      propertyRuns(20),
    )
  })

  test('adds up when everything happens at once and emits fail', { timeout: PROPERTY_TIMEOUT }, async () => {
    const failing = fc.uniqueArray(
      fc.constantFrom(
        'commission.created',
        'commission.approved',
        'payout.created',
        'payout.processed',
        'payout.failed',
      ),
    )
    const round = fc.record({ actions: fc.array(action, { minLength: 8, maxLength: 16 }), failing })
    await fc.assert(
      fc.asyncProperty(fc.array(round, { minLength: 2, maxLength: 3 }), async (rounds) => {
        await openShop()
        // Something to race for: sales of both, of which every other one is approved.
        for (let sale = 0; sale < 6; sale++) await perform({ do: 'sell', affiliate: sale % 2, cents: 12_345 + sale })
        for (const commission of [1, 2, 5]) await perform({ do: 'approve', commission })
        for (const { actions, failing: types } of rounds) {
          for (const type of types) program.failNextEmit(type as never)
          // Each action by two admins at the same moment.
          const outcomes = await Promise.allSettled(actions.flatMap((act) => [perform(act), perform(act)]))
          for (const outcome of outcomes) {
            // Nothing but what the program or the test means to fail: no deadlock, no constraint that was hit.
            if (outcome.status === 'rejected' && !(outcome.reason instanceof ProgramError)) {
              expect(String(outcome.reason)).toMatch(/as the test asked/)
            }
          }
          expect(await auditLedger(program.sql)).toEqual([])
        }
        await expectEventsToMatchRows()
      }),
      { ...propertyRuns(10), endOnFailure: true },
    )
  })
})

/** What was emitted and what was written are the same story: as many events of each type as rows that went that way. */
async function expectEventsToMatchRows(): Promise<void> {
  const counts: Record<string, number> = {}
  for (const { type } of await program.events()) counts[type] = (counts[type] ?? 0) + 1
  const [rows] = await program.sql<[Record<string, number>]>`
    select
      (select count(*) from conversions)::int "conversion.recorded",
      (select count(*) from commissions)::int "commission.created",
      (select count(*) from redemptions)::int "code.redeemed",
      (select count(*) from commissions where status in ('approved', 'in_payout', 'paid'))::int "commission.approved",
      (select count(*) from commissions where status = 'rejected')::int "commission.rejected",
      (select count(*) from payouts)::int "payout.created",
      (select count(*) from payouts where status = 'processed')::int "payout.processed",
      (select count(*) from payouts where status = 'failed')::int "payout.failed"`
  for (const [type, count] of Object.entries(rows)) expect([type, counts[type] ?? 0]).toEqual([type, count])
}
