import type { TransactionSql } from 'postgres'
import { type AffiliateRow, requireApproved } from './affiliates.ts'
import { ProgramError } from './errors.ts'
import type { CodeRow } from './links.ts'
import { shareOf, toAmount, toCents } from './money.ts'
import { inTransaction, type Program, payloadDate, type Step } from './program.ts'

export interface Sale {
  /** The shop's own number of the order; recorded once. */
  orderId: number
  productName: string
  /** Before any discount. */
  price: number
  /** ISO 4217. Default `USD`. */
  currency?: string
  /** The click that brought the customer, or the code that was entered. Where there are both, the code decides. */
  clickId?: number
  code?: string
}

export interface RecordedSale {
  conversionId: number
  commissionId: number
  affiliateId: number
  amount: number
  discount: number
  commission: number
}

/**
 * A sale that an affiliate brought: the conversion, the commission and, where a code was entered, its redemption, in one
 * transaction. Emits `conversion.recorded`, `commission.created` and then `code.redeemed`.
 */
export async function recordConversion(program: Program, sale: Sale): Promise<RecordedSale> {
  const price = toCents(sale.price, 'price')
  if (price === 0) throw new ProgramError('INVALID_INPUT', 'price must be more than 0.')
  return inTransaction(program, async (step) => {
    const source = await findSource(step.tx, sale)
    const affiliate = await requireApproved(step.tx, source.affiliateId)
    const discount = source.code ? shareOf(price, source.code.discount_points) : 0
    const order: Order = { sale, currency: sale.currency ?? 'USD', price, discount, amount: price - discount }
    const conversionId = await insertConversion(step, affiliate, source, order)
    const commission = await insertCommission(step, affiliate, conversionId, order)
    // Last, because the row of a popular code is what many orders want at once: it is locked only until the commit.
    if (source.code) await redeem(step, affiliate, source.code, conversionId, order)
    return {
      conversionId,
      commissionId: commission.id,
      affiliateId: affiliate.id,
      amount: toAmount(order.amount),
      discount: toAmount(discount),
      commission: toAmount(commission.cents),
    }
  })
}

interface Order {
  sale: Sale
  currency: string
  price: number
  discount: number
  /** What the customer pays: price less discount, in cents. */
  amount: number
}

interface Source {
  affiliateId: number
  clickId: number | null
  code: CodeRow | null
}

async function findSource(tx: TransactionSql, sale: Sale): Promise<Source> {
  if (sale.code !== undefined) {
    const [code] = await tx<CodeRow[]>`select * from codes where code = ${sale.code}`
    if (!code) throw new ProgramError('CODE_NOT_FOUND', `There is no code ${sale.code}.`)
    return { affiliateId: code.affiliate_id, clickId: null, code }
  }
  if (sale.clickId === undefined) {
    throw new ProgramError('INVALID_INPUT', 'A conversion needs a click or a code, to know whose it is.')
  }
  const [click] = await tx<{ affiliate_id: number }[]>`
    select affiliate_id from clicks join links on links.id = link_id where clicks.id = ${sale.clickId}`
  if (!click) throw new ProgramError('CLICK_NOT_FOUND', `There is no click ${sale.clickId}.`)
  return { affiliateId: click.affiliate_id, clickId: sale.clickId, code: null }
}

async function insertConversion(step: Step, affiliate: AffiliateRow, source: Source, order: Order): Promise<number> {
  const { sale } = order
  const [row] = await step.tx<{ id: number }[]>`
    insert into conversions
      (order_id, affiliate_id, click_id, code_id, product_name, price_cents, discount_cents, currency, recorded_at)
    values (${sale.orderId}, ${affiliate.id}, ${source.clickId}, ${source.code?.id ?? null}, ${sale.productName},
      ${order.price}, ${order.discount}, ${order.currency}, ${step.at})
    on conflict (order_id) do nothing returning id`
  if (!row) throw new ProgramError('ORDER_ALREADY_RECORDED', `Order ${sale.orderId} has been recorded already.`)
  await step.emit('conversion.recorded', {
    conversion_id: row.id,
    affiliate_id: affiliate.id,
    affiliate_name: affiliate.name,
    order_id: sale.orderId,
    order_amount: toAmount(order.amount),
    currency: order.currency,
    product_name: sale.productName,
    click_id: source.clickId,
    code: source.code?.code ?? null,
    recorded_date: payloadDate(step.at),
  })
  return row.id
}

async function insertCommission(
  step: Step,
  affiliate: AffiliateRow,
  conversionId: number,
  order: Order,
): Promise<{ id: number; cents: number }> {
  const points = affiliate.commission_rate_points
  const cents = shareOf(order.amount, points)
  const [row] = await step.tx<{ id: number }[]>`
    insert into commissions (conversion_id, affiliate_id, amount_cents, rate_points, currency, created_at)
    values (${conversionId}, ${affiliate.id}, ${cents}, ${points}, ${order.currency}, ${step.at}) returning id`
  await step.emit('commission.created', {
    commission_id: row!.id,
    affiliate_id: affiliate.id,
    affiliate_name: affiliate.name,
    amount: toAmount(cents),
    commission_rate: toAmount(points),
    order_id: order.sale.orderId,
    product_name: order.sale.productName,
    order_amount: toAmount(order.amount),
    conversion_id: conversionId,
    created_date: payloadDate(step.at),
  })
  return { id: row!.id, cents }
}

async function redeem(
  step: Step,
  affiliate: AffiliateRow,
  code: CodeRow,
  conversionId: number,
  order: Order,
): Promise<void> {
  const updated = await step.tx`
    update codes set redemptions_count = redemptions_count + 1
    where id = ${code.id} and (max_redemptions is null or redemptions_count < max_redemptions)`
  if (updated.count === 0)
    throw new ProgramError('CODE_USED_UP', `Code ${code.code} has been used as often as it may be.`)
  const [row] = await step.tx<{ id: number }[]>`
    insert into redemptions (code_id, conversion_id, redeemed_at) values (${code.id}, ${conversionId}, ${step.at}) returning id`
  await step.emit('code.redeemed', {
    redemption_id: row!.id,
    code: code.code,
    affiliate_id: affiliate.id,
    affiliate_name: affiliate.name,
    order_id: order.sale.orderId,
    order_amount: toAmount(order.amount),
    discount_amount: toAmount(order.discount),
    currency: order.currency,
    redeemed_date: payloadDate(step.at),
  })
}
