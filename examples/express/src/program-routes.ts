import express, { type Request, type Response, Router } from 'express'
import * as z from 'zod'
import {
  approveAffiliate,
  approveCommission,
  auditLedger,
  balanceOf,
  type Commission,
  createCode,
  createLink,
  createPayoutBatch,
  failPayout,
  findAffiliate,
  type Payout,
  type Program,
  processPayout,
  recordConversion,
  registerAffiliate,
  rejectAffiliate,
  rejectCommission,
  toAmount,
} from '../../affiliate/src/index.ts'
import type { ApiKeys, Caller } from './api-keys.ts'
import { HttpProblem } from './problems.ts'

/** The shop's own API: HTTP in, one business function, JSON out. Webhooks are none of its business. */
export function programRoutes(program: Program, keys: ApiKeys): Router {
  const router = Router()

  router.use((request, response, next) => {
    const caller = keys.recognise(request.headers.authorization)
    if (!caller) {
      response.set('WWW-Authenticate', 'Bearer')
      throw new HttpProblem({ status: 401, code: 'UNAUTHENTICATED', detail: 'Send Authorization: Bearer sk_live_…' })
    }
    response.locals.caller = caller
    next()
  })
  router.use(express.json({ limit: '100kb' }))

  router.post('/affiliates', async (request, response) => {
    const body = read(registration, request)
    const affiliate = await registerAffiliate(program, {
      name: body.name,
      email: body.email,
      ...(body.website === undefined ? {} : { website: body.website }),
      ...(body.commission_rate === undefined ? {} : { commissionRate: body.commission_rate }),
    })
    response.status(201).location(`${request.baseUrl}/affiliates/${affiliate.id}`)
    response.json({ affiliate_id: affiliate.id, status: affiliate.status })
  })

  router.get('/affiliates/:id', async (request, response) => {
    const affiliate = await findAffiliate(program.sql, idOf(request))
    const currency = typeof request.query.currency === 'string' ? request.query.currency : 'USD'
    const balance = await balanceOf(program.sql, affiliate.id, currency)
    response.json({
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
  })

  router.post('/affiliates/:id/approve', async (request, response) => {
    const affiliate = await approveAffiliate(program, idOf(request), callerOf(response).name)
    response.json({ affiliate_id: affiliate.id, status: affiliate.status })
  })

  router.post('/affiliates/:id/reject', async (request, response) => {
    const { reason } = read(refusal, request)
    const affiliate = await rejectAffiliate(program, idOf(request), callerOf(response).name, reason)
    response.json({ affiliate_id: affiliate.id, status: affiliate.status })
  })

  router.post('/affiliates/:id/links', async (request, response) => {
    const body = read(newLink, request)
    const link = await createLink(program, { affiliateId: idOf(request), slug: body.slug, targetUrl: body.target_url })
    response.status(201).json({ link_id: link.id, slug: link.slug, url: `/r/${link.slug}` })
  })

  router.post('/affiliates/:id/codes', async (request, response) => {
    const body = read(newCode, request)
    const code = await createCode(program, {
      affiliateId: idOf(request),
      code: body.code,
      discountPercent: body.discount_percent,
      ...(body.max_redemptions === undefined ? {} : { maxRedemptions: body.max_redemptions }),
    })
    response.status(201).json({ code_id: code.id, code: code.code })
  })

  router.post('/conversions', async (request, response) => {
    const body = read(sale, request)
    const recorded = await recordConversion(program, {
      orderId: body.order_id,
      productName: body.product_name,
      price: body.price,
      currency: body.currency,
      ...(body.click_id === undefined ? {} : { clickId: body.click_id }),
      ...(body.code === undefined ? {} : { code: body.code }),
    })
    response.status(201).json({
      conversion_id: recorded.conversionId,
      commission_id: recorded.commissionId,
      affiliate_id: recorded.affiliateId,
      order_amount: recorded.amount,
      discount_amount: recorded.discount,
      commission: recorded.commission,
    })
  })

  router.post('/commissions/:id/approve', async (request, response) => {
    response.json(commissionJson(await approveCommission(program, idOf(request), callerOf(response).name)))
  })

  router.post('/commissions/:id/reject', async (request, response) => {
    const { reason } = read(refusal, request)
    response.json(commissionJson(await rejectCommission(program, idOf(request), callerOf(response).name, reason)))
  })

  router.post('/payout-batches', async (request, response) => {
    const batch = await createPayoutBatch(program, read(newBatch, request))
    response.status(201).json({ batch_id: batch.id, payouts: batch.payouts.map(payoutJson) })
  })

  router.post('/payouts/:id/process', async (request, response) => {
    const { reference } = read(payment, request)
    response.json(payoutJson(await processPayout(program, idOf(request), reference)))
  })

  router.post('/payouts/:id/fail', async (request, response) => {
    const { reason } = read(refusal, request)
    response.json(payoutJson(await failPayout(program, idOf(request), reason)))
  })

  router.get('/ledger/audit', async (_request, response) => {
    response.json({ faults: await auditLedger(program.sql) })
  })

  return router
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

function read<T extends z.ZodType>(schema: T, request: Request): z.output<T> {
  const result = schema.safeParse(request.body ?? {})
  if (result.success) return result.data
  const errors = result.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }))
  throw new HttpProblem({ status: 422, code: 'VALIDATION_FAILED', detail: 'The body is not as it should be.', errors })
}

function idOf(request: Request): number {
  const id = databaseId.safeParse(Number(request.params.id))
  if (id.success) return id.data
  throw new HttpProblem({ status: 404, code: 'NOT_FOUND', detail: `There is no ${request.path}.` })
}

function callerOf(response: Response): Caller {
  return response.locals.caller as Caller
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
