/**
 * The shop's own API, apart from any framework: each operation is HTTP in, one business function, JSON out. Webhooks are none
 * of its business.
 */
import * as z from 'zod'
import { approveAffiliate, findAffiliate, registerAffiliate, rejectAffiliate } from '../affiliates.ts'
import { approveCommission, type Commission, rejectCommission } from '../commissions.ts'
import { recordConversion } from '../conversions.ts'
import { auditLedger, balanceOf } from '../ledger.ts'
import { createCode, createLink, recordClick } from '../links.ts'
import { toAmount } from '../money.ts'
import { createPayoutBatch, failPayout, type Payout, processPayout } from '../payouts.ts'
import type { Program } from '../program.ts'
import type { Caller } from './api-keys.ts'
import { HttpProblem } from './problems.ts'

/** A request, as every framework can say it. */
export interface ShopCall {
  caller: Caller
  path: string
  /** The path's parameters and the query's members. */
  params: Readonly<Record<string, unknown>>
  query: Readonly<Record<string, unknown>>
  /** Parsed from JSON; undefined without one. */
  body: unknown
}

export interface ShopAnswer {
  status: number
  body: unknown
  /** Below the API's own path. */
  location?: string
}

export interface ShopOperation {
  method: 'GET' | 'POST'
  /** With `:name` for parameters, which Express, Fastify and Koa's router all read. */
  path: string
  handle(program: Program, call: ShopCall): Promise<ShopAnswer>
}

export const shopOperations: readonly ShopOperation[] = [
  {
    method: 'POST',
    path: '/affiliates',
    async handle(program, call) {
      const body = read(registration, call)
      const affiliate = await registerAffiliate(program, {
        name: body.name,
        email: body.email,
        ...(body.website === undefined ? {} : { website: body.website }),
        ...(body.commission_rate === undefined ? {} : { commissionRate: body.commission_rate }),
      })
      return {
        status: 201,
        location: `/affiliates/${affiliate.id}`,
        body: { affiliate_id: affiliate.id, status: affiliate.status },
      }
    },
  },
  {
    method: 'GET',
    path: '/affiliates/:id',
    async handle(program, call) {
      const affiliate = await findAffiliate(program.sql, idOf(call))
      const currency = typeof call.query.currency === 'string' ? call.query.currency : 'USD'
      const balance = await balanceOf(program.sql, affiliate.id, currency)
      return ok({
        affiliate_id: affiliate.id,
        affiliate_name: affiliate.name,
        status: affiliate.status,
        commission_rate: toAmount(affiliate.commission_rate_points),
        balance: {
          currency,
          payable: toAmount(balance.payable),
          in_payout: toAmount(balance.inPayout),
          paid: toAmount(balance.paid),
          earned: toAmount(balance.earned),
        },
      })
    },
  },
  {
    method: 'POST',
    path: '/affiliates/:id/approve',
    async handle(program, call) {
      const affiliate = await approveAffiliate(program, idOf(call), call.caller.name)
      return ok({ affiliate_id: affiliate.id, status: affiliate.status })
    },
  },
  {
    method: 'POST',
    path: '/affiliates/:id/reject',
    async handle(program, call) {
      const { reason } = read(refusal, call)
      const affiliate = await rejectAffiliate(program, idOf(call), call.caller.name, reason)
      return ok({ affiliate_id: affiliate.id, status: affiliate.status })
    },
  },
  {
    method: 'POST',
    path: '/affiliates/:id/links',
    async handle(program, call) {
      const body = read(newLink, call)
      const link = await createLink(program, { affiliateId: idOf(call), slug: body.slug, targetUrl: body.target_url })
      return { status: 201, body: { link_id: link.id, slug: link.slug, url: `/r/${link.slug}` } }
    },
  },
  {
    method: 'POST',
    path: '/affiliates/:id/codes',
    async handle(program, call) {
      const body = read(newCode, call)
      const code = await createCode(program, {
        affiliateId: idOf(call),
        code: body.code,
        discountPercent: body.discount_percent,
        ...(body.max_redemptions === undefined ? {} : { maxRedemptions: body.max_redemptions }),
      })
      return { status: 201, body: { code_id: code.id, code: code.code } }
    },
  },
  {
    method: 'POST',
    path: '/conversions',
    async handle(program, call) {
      const body = read(sale, call)
      const recorded = await recordConversion(program, {
        orderId: body.order_id,
        productName: body.product_name,
        price: body.price,
        currency: body.currency,
        ...(body.click_id === undefined ? {} : { clickId: body.click_id }),
        ...(body.code === undefined ? {} : { code: body.code }),
      })
      return {
        status: 201,
        body: {
          conversion_id: recorded.conversionId,
          commission_id: recorded.commissionId,
          affiliate_id: recorded.affiliateId,
          order_amount: recorded.amount,
          discount_amount: recorded.discount,
          commission: recorded.commission,
        },
      }
    },
  },
  {
    method: 'POST',
    path: '/commissions/:id/approve',
    handle: async (program, call) => ok(commissionJson(await approveCommission(program, idOf(call), call.caller.name))),
  },
  {
    method: 'POST',
    path: '/commissions/:id/reject',
    async handle(program, call) {
      const { reason } = read(refusal, call)
      return ok(commissionJson(await rejectCommission(program, idOf(call), call.caller.name, reason)))
    },
  },
  {
    method: 'POST',
    path: '/payout-batches',
    async handle(program, call) {
      const batch = await createPayoutBatch(program, read(newBatch, call))
      return { status: 201, body: { batch_id: batch.id, payouts: batch.payouts.map(payoutJson) } }
    },
  },
  {
    method: 'POST',
    path: '/payouts/:id/process',
    async handle(program, call) {
      const { reference } = read(payment, call)
      return ok(payoutJson(await processPayout(program, idOf(call), reference)))
    },
  },
  {
    method: 'POST',
    path: '/payouts/:id/fail',
    async handle(program, call) {
      const { reason } = read(refusal, call)
      return ok(payoutJson(await failPayout(program, idOf(call), reason)))
    },
  },
  {
    method: 'GET',
    path: '/ledger/audit',
    handle: async (program) => ok({ faults: await auditLedger(program.sql) }),
  },
]

/** Public: what customers click. Answers where to lead them; the shop's front end sends `click_id` along with the order. */
export async function followLink(program: Program, slug: string, referrer: string | undefined): Promise<string> {
  const { clickId, targetUrl } = await recordClick(program, {
    slug,
    ...(referrer === undefined ? {} : { referrer: referrer.slice(0, 2048) }),
  })
  const target = new URL(targetUrl)
  target.searchParams.set('click_id', String(clickId))
  return target.href
}

const text = z.string().trim().min(1).max(200)
const databaseId = z
  .int()
  .positive()
  .max(2 ** 31 - 1)

const registration = z.object({
  name: text,
  email: z.email(),
  website: z.url().optional(),
  commission_rate: z.number().optional(),
})
const refusal = z.object({ reason: text })
const newLink = z.object({ slug: z.string().regex(/^[\w-]{1,64}$/), target_url: z.url({ protocol: /^https?$/ }) })
const newCode = z.object({
  code: z.string().regex(/^[A-Z0-9]{3,32}$/),
  discount_percent: z.number(),
  max_redemptions: databaseId.optional(),
})
const currency = z
  .string()
  .regex(/^[A-Z]{3}$/)
  .default('USD')
const sale = z.object({
  order_id: databaseId,
  product_name: text,
  price: z.number(),
  currency,
  click_id: databaseId.optional(),
  code: z.string().max(32).optional(),
})
const newBatch = z.object({ currency, method: text.default('bank_transfer') })
const payment = z.object({ reference: text })

function read<T extends z.ZodType>(schema: T, call: ShopCall): z.output<T> {
  const result = schema.safeParse(call.body ?? {})
  if (result.success) return result.data
  const errors = result.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }))
  throw new HttpProblem({ status: 422, code: 'VALIDATION_FAILED', detail: 'The body is not as it should be.', errors })
}

function idOf({ params, path }: ShopCall): number {
  const id = databaseId.safeParse(Number(params.id))
  if (id.success) return id.data
  throw new HttpProblem({ status: 404, code: 'NOT_FOUND', detail: `There is no ${path}.` })
}

function ok(body: unknown): ShopAnswer {
  return { status: 200, body }
}

function commissionJson(commission: Commission) {
  return {
    commission_id: commission.id,
    affiliate_id: commission.affiliateId,
    amount: toAmount(commission.cents),
    status: commission.status,
  }
}

function payoutJson(payout: Payout) {
  return {
    payout_id: payout.id,
    affiliate_id: payout.affiliateId,
    amount: toAmount(payout.cents),
    commission_ids: payout.commissionIds,
    status: payout.status,
  }
}
