/**
 * The built-in catalogue: the 12 events of an affiliate programme. `commission.approved` is the payload that Posthaste's
 * source document shows; the others are designed like it: its member names, numbers as ids, money as JSON numbers in major
 * units (85.5 is 85.50), percentages as numbers, and `<what happened>_date` for when.
 */
import * as z from 'zod'
import { defineEvents } from './define-events.ts'
import { isoDate } from './iso-date.ts'

const id = () => z.int()
const text = () => z.string().min(1)
const money = () => z.number().describe('In major units of the currency: 85.5 is 85.50.')
const percent = () => z.number().nonnegative().describe('Percent: 15 is 15 %.')
const currency = () =>
  z
    .string()
    .regex(/^[A-Z]{3}$/, 'Expected a currency code of ISO 4217 in capitals, such as USD.')
    .describe('ISO 4217 code.')

const affiliate = { affiliate_id: id(), affiliate_name: text() }

const applicant = { ...affiliate, affiliate_email: text() }

/** What every event about a commission carries, as on the page. */
const commission = {
  commission_id: id(),
  ...affiliate,
  amount: money(),
  commission_rate: percent(),
  order_id: id(),
  product_name: text(),
}

/** What every event about a payout carries: one affiliate's part of a batch. */
const payout = {
  payout_id: id(),
  batch_id: id(),
  ...affiliate,
  amount: money(),
  currency: currency(),
  commission_ids: z.array(id()).describe('The commissions that this payout pays.'),
  method: text().describe('How it is paid: bank_transfer, paypal, …'),
}

const exampleCommission = {
  commission_id: 123,
  affiliate_id: 456,
  affiliate_name: 'John Smith',
  amount: 85.5,
  commission_rate: 15.0,
  order_id: 789,
  product_name: 'Advanced Course',
}

const examplePayout = {
  payout_id: 31,
  batch_id: 7,
  affiliate_id: 456,
  affiliate_name: 'John Smith',
  amount: 242.75,
  currency: 'USD',
  commission_ids: [123, 131, 140],
  method: 'bank_transfer',
}

/** The 12 event types of the page. Extend them with `extendEvents(affiliateEvents, { … })`, or use a catalogue of your own. */
export const affiliateEvents = defineEvents({
  'affiliate.created': {
    description: 'New affiliate registered',
    trigger: 'Affiliate signs up',
    schema: z.object({ ...applicant, website: z.string().nullable(), created_date: isoDate() }),
    example: {
      affiliate_id: 456,
      affiliate_name: 'John Smith',
      affiliate_email: 'john@smith-reviews.example',
      website: 'https://smith-reviews.example',
      created_date: '2024-01-08T09:12:44Z',
    },
  },
  'affiliate.approved': {
    description: 'Affiliate application approved',
    trigger: 'Admin approves affiliate',
    schema: z.object({ ...applicant, commission_rate: percent(), approved_by: text(), approved_date: isoDate() }),
    example: {
      affiliate_id: 456,
      affiliate_name: 'John Smith',
      affiliate_email: 'john@smith-reviews.example',
      commission_rate: 15.0,
      approved_by: 'admin@rebusai.com',
      approved_date: '2024-01-09T10:00:00Z',
    },
  },
  'affiliate.rejected': {
    description: 'Affiliate application rejected',
    trigger: 'Admin rejects affiliate',
    schema: z.object({ ...applicant, reason: text(), rejected_by: text(), rejected_date: isoDate() }),
    example: {
      affiliate_id: 457,
      affiliate_name: 'Coupon Central',
      affiliate_email: 'partners@coupon-central.example',
      reason: 'The website shows no content of its own.',
      rejected_by: 'admin@rebusai.com',
      rejected_date: '2024-01-09T10:05:30Z',
    },
  },
  'commission.created': {
    description: 'New commission recorded',
    trigger: 'Sale attributed to affiliate',
    schema: z.object({ ...commission, order_amount: money(), conversion_id: id(), created_date: isoDate() }),
    example: {
      ...exampleCommission,
      order_amount: 570.0,
      conversion_id: 9021,
      created_date: '2024-01-15T18:22:07Z',
    },
  },
  'commission.approved': {
    description: 'Commission approved for payout',
    trigger: 'Admin approves commission',
    schema: z.object({ ...commission, approved_by: text(), approved_date: isoDate() }),
    example: {
      ...exampleCommission,
      approved_by: 'admin@rebusai.com',
      approved_date: '2024-01-20T14:30:00Z',
    },
  },
  'commission.rejected': {
    description: 'Commission rejected',
    trigger: 'Admin rejects commission',
    schema: z.object({ ...commission, reason: text(), rejected_by: text(), rejected_date: isoDate() }),
    example: {
      ...exampleCommission,
      commission_id: 124,
      order_id: 790,
      reason: 'The order was refunded.',
      rejected_by: 'admin@rebusai.com',
      rejected_date: '2024-01-20T14:41:12Z',
    },
  },
  'payout.created': {
    description: 'Payout batch created',
    trigger: 'Payout batch generated',
    schema: z.object({ ...payout, created_date: isoDate() }),
    example: { ...examplePayout, created_date: '2024-02-01T00:05:00Z' },
  },
  'payout.processed': {
    description: 'Payout successfully processed',
    trigger: 'Payment sent to affiliate',
    schema: z.object({
      ...payout,
      reference: text().describe("The payment provider's reference, as on the affiliate's statement."),
      processed_date: isoDate(),
    }),
    example: { ...examplePayout, reference: 'TRX-2024-000931', processed_date: '2024-02-01T08:30:00Z' },
  },
  'payout.failed': {
    description: 'Payout failed',
    trigger: 'Payment failed',
    schema: z.object({
      ...payout,
      reference: text().nullable().describe("The payment provider's reference, where it gave one."),
      reason: text(),
      retryable: z.boolean().describe('True where the payment will be tried again without anyone doing something.'),
      failed_date: isoDate(),
    }),
    example: {
      ...examplePayout,
      payout_id: 32,
      affiliate_id: 461,
      affiliate_name: 'Zoë Müller',
      commission_ids: [127, 133],
      amount: 118.4,
      reference: null,
      reason: 'The bank account is closed.',
      retryable: false,
      failed_date: '2024-02-01T08:30:04Z',
    },
  },
  'link.clicked': {
    description: 'Affiliate link clicked',
    trigger: 'Customer clicks link',
    store: 'when_subscribed',
    schema: z.object({
      click_id: id(),
      link_id: id(),
      ...affiliate,
      url: z.url().describe('Where the link led the customer.'),
      referrer: z.string().nullable().describe('The page with the link, where the browser told it.'),
      clicked_date: isoDate(),
    }),
    example: {
      click_id: 880412,
      link_id: 77,
      affiliate_id: 456,
      affiliate_name: 'John Smith',
      url: 'https://shop.rebusai.com/courses/advanced?ref=john',
      referrer: 'https://smith-reviews.example/best-courses',
      clicked_date: '2024-01-15T18:03:51Z',
    },
  },
  'conversion.recorded': {
    description: 'Sale conversion recorded',
    trigger: 'Customer makes purchase',
    schema: z.object({
      conversion_id: id(),
      ...affiliate,
      order_id: id(),
      order_amount: money(),
      currency: currency(),
      product_name: text(),
      click_id: id().nullable().describe('The click that it is attributed to; null where a code was used.'),
      code: text().nullable().describe('The code that it is attributed to; null where a link was clicked.'),
      recorded_date: isoDate(),
    }),
    example: {
      conversion_id: 9021,
      affiliate_id: 456,
      affiliate_name: 'John Smith',
      order_id: 789,
      order_amount: 570.0,
      currency: 'USD',
      product_name: 'Advanced Course',
      click_id: 880412,
      code: null,
      recorded_date: '2024-01-15T18:22:06Z',
    },
  },
  'code.redeemed': {
    description: 'Affiliate code redeemed',
    trigger: 'Customer redeems code',
    schema: z.object({
      redemption_id: id(),
      code: text(),
      ...affiliate,
      order_id: id(),
      order_amount: money().describe('After the discount, in major units of the currency.'),
      discount_amount: money(),
      currency: currency(),
      redeemed_date: isoDate(),
    }),
    example: {
      redemption_id: 5150,
      code: 'JOHN10',
      affiliate_id: 456,
      affiliate_name: 'John Smith',
      order_id: 802,
      order_amount: 179.1,
      discount_amount: 19.9,
      currency: 'USD',
      redeemed_date: '2024-01-16T11:47:29Z',
    },
  },
})
