import { requireApproved } from './affiliates.ts'
import { ProgramError } from './errors.ts'
import { toRatePoints } from './money.ts'
import { inTransaction, type Program, payloadDate } from './program.ts'

export interface LinkRow {
  id: number
  affiliate_id: number
  slug: string
  target_url: string
  created_at: Date
}

export interface CodeRow {
  id: number
  affiliate_id: number
  code: string
  discount_points: number
  max_redemptions: number | null
  redemptions_count: number
  created_at: Date
}

/** A link of an approved affiliate: `/r/{slug}` leads to the target. */
export async function createLink(
  program: Program,
  input: { affiliateId: number; slug: string; targetUrl: string },
): Promise<LinkRow> {
  return inTransaction(program, async ({ tx, at }) => {
    await requireApproved(tx, input.affiliateId)
    const [row] = await tx<LinkRow[]>`
      insert into links (affiliate_id, slug, target_url, created_at)
      values (${input.affiliateId}, ${input.slug}, ${input.targetUrl}, ${at})
      on conflict (slug) do nothing returning *`
    if (!row) throw new ProgramError('SLUG_TAKEN', `There is already a link ${input.slug}.`)
    return row
  })
}

/** A discount code of an approved affiliate, for so many orders at most (default: any number). */
export async function createCode(
  program: Program,
  input: { affiliateId: number; code: string; discountPercent: number; maxRedemptions?: number },
): Promise<CodeRow> {
  const points = toRatePoints(input.discountPercent, 'discount_percent')
  return inTransaction(program, async ({ tx, at }) => {
    await requireApproved(tx, input.affiliateId)
    const [row] = await tx<CodeRow[]>`
      insert into codes (affiliate_id, code, discount_points, max_redemptions, created_at)
      values (${input.affiliateId}, ${input.code}, ${points}, ${input.maxRedemptions ?? null}, ${at})
      on conflict (code) do nothing returning *`
    if (!row) throw new ProgramError('CODE_TAKEN', `There is already a code ${input.code}.`)
    return row
  })
}

/** A customer follows a link. Emits `link.clicked`; answers where the link leads, and the click that a sale may name. */
export async function recordClick(
  program: Program,
  input: { slug: string; referrer?: string },
): Promise<{ clickId: number; targetUrl: string }> {
  return inTransaction(program, async ({ tx, at, emit }) => {
    const [link] = await tx<(LinkRow & { affiliate_name: string })[]>`
      select links.*, affiliates.name affiliate_name from links join affiliates on affiliates.id = affiliate_id
      where slug = ${input.slug}`
    if (!link) throw new ProgramError('LINK_NOT_FOUND', `There is no link ${input.slug}.`)
    const [click] = await tx<{ id: number }[]>`
      insert into clicks (link_id, referrer, clicked_at) values (${link.id}, ${input.referrer ?? null}, ${at}) returning id`
    await emit('link.clicked', {
      click_id: click!.id,
      link_id: link.id,
      affiliate_id: link.affiliate_id,
      affiliate_name: link.affiliate_name,
      url: link.target_url,
      referrer: input.referrer ?? null,
      clicked_date: payloadDate(at),
    })
    return { clickId: click!.id, targetUrl: link.target_url }
  })
}
