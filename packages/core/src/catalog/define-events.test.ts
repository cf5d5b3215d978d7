import { describe, expect, expectTypeOf, test } from 'vitest'
import * as z from 'zod'
import * as mini from 'zod/mini'
import { PosthasteError } from '../errors.ts'
import {
  type AnyCatalog,
  Catalog,
  defineEvents,
  type EventData,
  type EventType,
  extendEvents,
} from './define-events.ts'
import { subscriptionPatterns } from './event-names.ts'
import { isoDate } from './iso-date.ts'

const about = { description: 'Something happened', trigger: 'Someone did it' }

const shop = defineEvents({
  'order.paid': {
    ...about,
    schema: z.object({ order_id: z.int(), total: z.number(), paid_date: isoDate(), note: z.string().optional() }),
    example: { order_id: 7, total: 85.5, paid_date: new Date('2024-01-20T14:30:00Z') },
  },
  'shop.stock.low': {
    ...about,
    store: 'when_subscribed',
    schema: z.object({ sku: z.string(), items: z.array(z.object({ left: z.number() })) }),
    example: { sku: 'A-1', items: [{ left: 2 }] },
  },
})

function refusal(act: () => unknown): PosthasteError {
  try {
    act()
  } catch (error) {
    if (error instanceof PosthasteError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

describe('types', () => {
  test('names and data are precise without casts', () => {
    expectTypeOf<EventType<typeof shop>>().toEqualTypeOf<'order.paid' | 'shop.stock.low'>()
    expectTypeOf<EventData<typeof shop, 'order.paid'>>().toEqualTypeOf<{
      order_id: number
      total: number
      paid_date: Date | string
      note?: string | undefined
    }>()
    const any: AnyCatalog = shop
    expect(any.has('order.paid')).toBe(true)
  })

  test('arrays may be readonly, at any depth, and all else stays as it is', () => {
    const lines = z.array(z.object({ sku: z.string(), tags: z.array(z.string()).optional() }))
    const cart = defineEvents({
      'cart.filled': {
        ...about,
        schema: z.object({ lines, at: isoDate(), box: z.tuple([z.number(), z.number()]) }),
        example: { lines: [], at: new Date(0), box: [1, 2] },
      },
    })
    type Cart = EventData<typeof cart, 'cart.filled'>
    expectTypeOf<Cart>().toEqualTypeOf<{
      lines: readonly { sku: string; tags?: readonly string[] | undefined }[]
      at: Date | string
      box: readonly [number, number]
    }>()
    const data = Object.freeze({ lines: [{ sku: 'a', tags: ['x'] }], at: new Date(0), box: [3, 4] } as const)
    const given: Cart = data
    expect(cart.prepareData('cart.filled', given).value).toMatchObject({
      lines: [{ sku: 'a', tags: ['x'] }],
      box: [3, 4],
    })
    // @ts-expect-error a line has a sku
    const wrong: Cart = { ...data, lines: [{}] as const }
    expect(wrong).toBeDefined()
  })

  test('an example that does not fit its schema does not compile', () => {
    const act = () =>
      defineEvents({
        // @ts-expect-error order_id is a number
        'order.paid': { ...about, schema: z.object({ order_id: z.int() }), example: { order_id: 'seven' } },
      })
    expect(refusal(act).code).toBe('INVALID_EVENT_TYPE')
  })
})

describe('defining', () => {
  test('entries carry what people read, with defaults and the example in wire form', () => {
    expect(shop.types).toStrictEqual(['order.paid', 'shop.stock.low'])
    expect(shop.get('order.paid')).toMatchObject({ ...about, type: 'order.paid', store: 'always' })
    expect(shop.get('shop.stock.low').store).toBe('when_subscribed')
    expect(shop.get('order.paid').exampleText).toBe(
      '{"order_id":7,"total":85.5,"paid_date":"2024-01-20T14:30:00.000Z"}',
    )
    expect(() => Object.assign(shop.get('order.paid').example, { order_id: 8 })).toThrow(TypeError)
  })

  test.each([
    'order',
    'Order.paid',
    'order.',
    '.paid',
    'order..paid',
    'order.paid ',
    'order-paid.x',
    '*',
    'order.*',
    `a.${'b'.repeat(127)}`,
  ])('the name %j is refused', (name) => {
    const error = refusal(() => defineEvents({ [name]: { ...about, schema: z.object({}), example: {} } }))
    expect(error.code).toBe('INVALID_EVENT_TYPE')
    expect(error.message).toContain('at least two')
  })

  test('a name of 128 characters is taken', () => {
    const name = `a.${'b'.repeat(126)}`
    expect(defineEvents({ [name]: { ...about, schema: z.object({}), example: {} } }).has(name)).toBe(true)
  })

  test('an example that its schema refuses is refused, with paths', () => {
    const act = () =>
      defineEvents({ 'a.b': { ...about, schema: z.object({ n: z.number().max(3) }), example: { n: 4 } } })
    expect(refusal(act)).toMatchObject({ code: 'INVALID_EVENT_TYPE', errors: [{ path: 'n' }] })
  })

  test('an example that is not JSON is refused', () => {
    const act = () => defineEvents({ 'a.b': { ...about, schema: z.object({ n: z.any() }), example: { n: 4n } } })
    expect(refusal(act).message).toMatch(/example of a\.b.*BigInt/)
  })

  test('an empty catalogue is refused', () => {
    expect(refusal(() => defineEvents({})).code).toBe('INVALID_EVENT_TYPE')
  })

  interface Tree {
    name: string
    children: Tree[]
  }
  const tree: z.ZodType<Tree> = z.lazy(() => z.object({ name: z.string().trim(), children: z.array(tree) }))

  test.each<[what: string, part: z.ZodType]>([
    ['transform', z.string().transform((text) => text.length)],
    ['pipe', z.string().pipe(z.string())],
    ['preprocess', z.preprocess((value) => value, z.string())],
    ['codec', z.codec(z.string(), z.string(), { decode: (text) => text, encode: (text) => text })],
    ['stringbool', z.stringbool()],
    ['coercion', z.coerce.number()],
    ['default', z.string().default('x')],
    ['prefault', z.string().prefault('x')],
    ['catch', z.string().catch('x')],
    ['trim', z.string().trim()],
    ['toLowerCase', z.string().min(1).toLowerCase()],
    ['overwrite', z.number().overwrite((n) => n + 1)],
    ['url normalize', z.url({ normalize: true })],
    ['date', z.date()],
    ['bigint', z.bigint()],
    ['map', z.map(z.string(), z.string())],
    ['set', z.set(z.string())],
    ['in an optional', z.string().trim().optional()],
    ['in a nullable', z.nullable(z.string().trim())],
    ['in an array', z.array(z.string().trim())],
    ['in a tuple', z.tuple([z.number(), z.string().trim()])],
    ["in a tuple's rest", z.tuple([z.number()]).rest(z.string().trim())],
    ['in a union', z.union([z.number(), z.string().trim()])],
    ['in an intersection', z.intersection(z.object({}), z.object({ x: z.string().trim() }))],
    ['in a record', z.record(z.string(), z.string().trim())],
    ["in a record's keys", z.record(z.string().trim(), z.string())],
    ['in a catchall', z.object({}).catchall(z.string().trim())],
    ['in a readonly', z.object({ x: z.string().trim() }).readonly()],
    ['in a lazy, recursive schema', tree],
  ])('a schema that changes the value is refused: %s', (_what, part) => {
    const schema = z.object({ deep: z.object({ part }) })
    const error = refusal(() => defineEvents({ 'a.b': { ...about, schema, example: {} as never } }))
    expect(error.code).toBe('INVALID_EVENT_TYPE')
    expect(error.message).toContain('deep.part')
    expect(error.message).toContain('what is validated is what is sent')
  })

  test('schemas that only check are taken', () => {
    const schema = z.object({
      a: z
        .string()
        .min(1)
        .regex(/x/)
        .refine((text) => text !== 'y'),
      b: z.union([z.literal('k'), z.null()]),
      c: z.record(z.string(), z.number()).optional(),
      d: z.discriminatedUnion('kind', [z.object({ kind: z.literal('m') }), z.object({ kind: z.literal('n') })]),
      e: z.enum(['p', 'q']).readonly(),
      f: z.templateLiteral(['ord_', z.int()]),
      g: z.custom<string>((value) => typeof value === 'string'),
      h: z.json(),
      i: z.string().brand('Code'),
    })
    const example = { a: 'x', b: null, d: { kind: 'n' }, e: 'q', f: 'ord_7', g: 'g', h: [1], i: 'c' } as const
    expect(defineEvents({ 'a.b': { ...about, schema, example: { ...example, h: [1] } } }).types).toStrictEqual(['a.b'])
  })

  test('a strict object, asked for by name, refuses members that it does not name', () => {
    const schema = z.strictObject({ a: z.string() })
    const catalog = defineEvents({ 'a.b': { ...about, schema, example: { a: 'x' } } })
    expect(refusal(() => catalog.validateData('a.b', { a: 'x', b: 1 })).code).toBe('INVALID_DATA')
    expect(catalog.jsonSchema('a.b').additionalProperties).toBe(false)
  })

  test('schemas of zod/mini are taken', () => {
    const schema = mini.object({ a: mini.string() })
    const catalog = defineEvents({ 'a.b': { ...about, schema, example: { a: 'x' } } })
    expectTypeOf<EventData<typeof catalog, 'a.b'>>().toEqualTypeOf<{ a: string }>()
    expect(refusal(() => catalog.validateData('a.b', { a: 1 })).errors?.[0]?.path).toBe('a')
  })

  test('an asynchronous check is refused', () => {
    const schema = z.object({ a: z.string().refine(async () => true) })
    const error = refusal(() => defineEvents({ 'a.b': { ...about, schema, example: { a: 'x' } } }))
    expect(error.message).toContain('synchronous')
  })
})

describe('extending', () => {
  const more = { 'order.shipped': { ...about, schema: z.object({ carrier: z.string() }), example: { carrier: 'DHL' } } }

  test('adds and replaces, by extendEvents and by spreading definitions', () => {
    const extended = extendEvents(shop, {
      ...more,
      'order.paid': { ...about, schema: z.object({ n: z.int() }), example: { n: 1 } },
    })
    expectTypeOf<EventType<typeof extended>>().toEqualTypeOf<'order.paid' | 'shop.stock.low' | 'order.shipped'>()
    expectTypeOf<EventData<typeof extended, 'order.paid'>>().toEqualTypeOf<{ n: number }>()
    expect(extended.get('order.paid').exampleText).toBe('{"n":1}')
    const spread = defineEvents({ ...shop.definitions, ...more })
    expectTypeOf<EventType<typeof spread>>().toEqualTypeOf<EventType<typeof extended>>()
    expect(spread.types).toStrictEqual(['order.paid', 'shop.stock.low', 'order.shipped'])
    expect(spread).toBeInstanceOf(Catalog)
    expect(shop.types).toHaveLength(2)
  })
})

describe('validating', () => {
  const good = { order_id: 7, total: 1, paid_date: '2024-01-20T14:30:00Z' }

  test('members that the schema does not name pass through, in place', () => {
    const data = { extra: { a: 1 }, ...good }
    expect(shop.prepareData('order.paid', data).text).toBe(
      '{"extra":{"a":1},"order_id":7,"total":1,"paid_date":"2024-01-20T14:30:00Z"}',
    )
  })

  test('a Date is checked as the text that it becomes', () => {
    expect(shop.prepareData('order.paid', { ...good, paid_date: new Date(0) }).value.paid_date).toBe(
      '1970-01-01T00:00:00.000Z',
    )
  })

  test('errors name every path', () => {
    const error = refusal(() => shop.validateData('order.paid', { order_id: 1.5, paid_date: 'x' }))
    expect(error.code).toBe('INVALID_DATA')
    expect(error.errors?.map(({ path }) => path)).toStrictEqual(['order_id', 'total', 'paid_date'])
    const deep = refusal(() =>
      shop.validateData('shop.stock.low', { sku: 'x', items: [{ left: 1 }, { left: 'secret-value' }] }),
    )
    expect(deep.errors?.[0]?.path).toBe('items.1.left')
    expect(deep.message).toContain('items.1.left')
    expect(deep.message).not.toContain('secret-value')
  })

  test('an unknown type is refused with the known ones, before its data is looked at', () => {
    const error = refusal(() => shop.prepareData('order.payed', { a: 1n }))
    expect(error.code).toBe('UNKNOWN_EVENT_TYPE')
    expect(error.message).toMatch(/"order\.payed".*order\.paid, shop\.stock\.low/)
    expect(refusal(() => shop.get('constructor')).code).toBe('UNKNOWN_EVENT_TYPE')
  })
})

describe('subscription patterns', () => {
  test('an event matches its name, each group above it, and *', () => {
    expect(subscriptionPatterns('order.paid')).toStrictEqual(['order.paid', 'order.*', '*'])
    expect(subscriptionPatterns('shop.stock.low')).toStrictEqual(['shop.stock.low', 'shop.stock.*', 'shop.*', '*'])
  })

  test.each(['order.paid', 'order.*', 'shop.*', 'shop.stock.*', '*'])('%s is known', (name) => {
    expect(shop.matchesCatalog(name)).toBe(true)
    expect(() => shop.requirePattern(name)).not.toThrow()
  })

  test.each(['order', 'orders.*', 'order.paid.*', 'shop.stock', '*.paid', 'order.**', '', 'Order.*'])(
    '%j is not',
    (name) => {
      expect(shop.matchesCatalog(name)).toBe(false)
      const error = refusal(() => shop.requirePattern(name))
      expect(error.code).toBe('UNKNOWN_EVENT_TYPE')
      expect(error.message).toContain('order.paid, shop.stock.low; groups: order.*, shop.stock.*, shop.*')
    },
  )
})

describe('JSON Schema', () => {
  test('input mode leaves further members allowed; made once, and not to be changed', () => {
    const schema = shop.jsonSchema('order.paid')
    expect(schema).toMatchObject({ type: 'object', required: ['order_id', 'total', 'paid_date'] })
    expect(schema.additionalProperties).toBeUndefined()
    expect(schema.properties?.paid_date).toStrictEqual({ type: 'string', format: 'date-time' })
    expect(shop.jsonSchema('order.paid')).toBe(schema)
    expect(() => Object.assign(schema, { type: 'array' })).toThrow(TypeError)
  })

  test('what JSON Schema cannot say is left out instead of failing', () => {
    const catalog = defineEvents({
      'a.b': { ...about, schema: z.object({ x: z.custom<string>() }), example: { x: 'x' } },
    })
    expect(catalog.jsonSchema('a.b').properties?.x).toStrictEqual({})
  })
})
