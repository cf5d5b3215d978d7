/** The one event that all scenarios send: `commission.approved` with the payload of the page, about 300 bytes of body. */
export const EVENT_TYPE = 'commission.approved' as const

export function sampleData(number: number) {
  return {
    commission_id: number,
    affiliate_id: 456,
    affiliate_name: 'John Smith',
    amount: 85.5,
    commission_rate: 15,
    order_id: 100_000 + number,
    product_name: 'Advanced Course',
    approved_by: 'admin@rebusai.com',
    approved_date: '2024-01-15T14:30:00Z',
  }
}
