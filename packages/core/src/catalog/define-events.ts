/** The catalogue: which event types exist, what their `data` looks like, and what people read about them. */
import { safeParse, toJSONSchema } from 'zod'
import { $ZodAsyncError, type $ZodObject, type input, type JSONSchema } from 'zod/v4/core'
import { type FieldError, PosthasteError } from '../errors.ts'
import { isEventTypeName, MAX_EVENT_TYPE_LENGTH, subscriptionPatterns } from './event-names.ts'
import { findChangingPart } from './plain-schema.ts'
import { type JsonObject, type Normalised, normalise } from './wire-json.ts'

/** Whether an event that no active endpoint of its account subscribes to is stored all the same. */
export type StorePolicy = 'always' | 'when_subscribed'

/** One event type as the host declares it. */
export interface EventDefinition<S extends $ZodObject = $ZodObject> {
  /**
   * Checks `data` in its wire form (dates are text by then). It must not transform: what is validated is what is sent.
   * Members that it does not name pass through, unless it is a `z.strictObject`.
   */
  readonly schema: S
  /** What happened, for people: `Commission approved for payout`. */
  readonly description: string
  /** What makes it happen, for people: `Admin approves commission`. */
  readonly trigger: string
  /** A realistic `data`, shown in the catalogue and sent by `POST /{id}/test`. Checked against `schema` at definition. */
  readonly example: input<S>
  /**
   * `when_subscribed` writes nothing while no active endpoint of the account subscribes, and a later replay cannot bring
   * such an event back; for types that outnumber all others. Default `always`.
   */
  readonly store?: StorePolicy
}

/** Schemas by event type name: what a catalogue's types are made of. */
export type EventSchemas = Record<string, $ZodObject>

/** The definitions of a catalogue: `{ 'order.paid': { schema, description, trigger, example }, … }`. */
export type EventDefinitions<S extends EventSchemas> = { readonly [T in keyof S]: EventDefinition<S[T]> }

/** Any catalogue, for code that does not care about its types. */
export type AnyCatalog = Catalog<EventSchemas>

/** The event type names of a catalogue. */
export type EventType<C> = C extends Catalog<infer S> ? keyof S & string : never

/** What `emit` takes as `data` for type `T` of catalogue `C` (dates as `Date` or text). Arrays may be `readonly`: none is changed. */
export type EventData<C, T extends EventType<C>> = C extends Catalog<infer S> ? ArraysReadonly<input<S[T]>> : never

type ArraysReadonly<T> = unknown extends T
  ? T
  : T extends string | number | boolean | bigint | symbol | null | undefined | Date | ((...args: never) => unknown)
    ? T
    : T extends readonly unknown[]
      ? { readonly [K in keyof T]: ArraysReadonly<T[K]> }
      : { [K in keyof T]: ArraysReadonly<T[K]> }

/** One event type as the catalogue keeps it. */
export interface CatalogEntry {
  readonly type: string
  readonly description: string
  readonly trigger: string
  readonly store: StorePolicy
  /** The example in its wire form, and the same as the exact JSON text. */
  readonly example: JsonObject
  readonly exampleText: string
}

interface CompiledEntry extends CatalogEntry {
  readonly schema: $ZodObject
  jsonSchema?: JSONSchema.BaseSchema
}

/**
 * A checked, immutable set of event types. Made by `defineEvents` and `extendEvents`.
 *
 * Everything that takes a type as text throws `UNKNOWN_EVENT_TYPE`, with the list of known ones, for one that is not in it.
 */
export class Catalog<S extends EventSchemas = EventSchemas> {
  /** As given; spread it to build another: `defineEvents({ ...affiliateEvents.definitions, 'order.paid': … })`. */
  readonly definitions: EventDefinitions<S>
  /** All names, in the order of definition. */
  readonly types: ReadonlyArray<keyof S & string>
  readonly #entries = new Map<string, CompiledEntry>()
  readonly #patterns = new Set<string>()

  constructor(definitions: EventDefinitions<S>) {
    for (const [type, definition] of Object.entries(definitions)) {
      this.#entries.set(type, compile(type, definition as EventDefinition))
      for (const pattern of subscriptionPatterns(type)) this.#patterns.add(pattern)
    }
    if (this.#entries.size === 0) {
      throw new PosthasteError('INVALID_EVENT_TYPE', 'A catalogue needs at least one event type.')
    }
    this.definitions = Object.freeze({ ...definitions })
    this.types = Object.freeze([...this.#entries.keys()]) as ReadonlyArray<keyof S & string>
  }

  has(type: string): type is keyof S & string {
    return this.#entries.has(type)
  }

  get(type: string): CatalogEntry {
    return this.#entry(type)
  }

  /**
   * Checks `data` that is in its wire form already (`normalise`). The value itself is what to send; this returns nothing,
   * so that nobody sends the parser's output, which drops and reorders members.
   *
   * @throws {PosthasteError} `INVALID_DATA` with `errors`, each a path and what is wrong; `UNKNOWN_EVENT_TYPE`
   */
  validateData(type: string, value: JsonObject): void {
    const errors = dataErrors(this.#entry(type).schema, value)
    if (errors.length === 0) return
    const list = errors.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('; ')
    throw new PosthasteError('INVALID_DATA', `The data of ${type} does not match its schema: ${list}`, { errors })
  }

  /**
   * From the host's input to the text to store: normalised, then validated.
   *
   * @throws {PosthasteError} `UNKNOWN_EVENT_TYPE`, `NOT_JSON`, `INVALID_DATA`, in this order
   */
  prepareData(type: string, data: unknown): Normalised {
    this.#entry(type)
    const normalised = normalise(data)
    this.validateData(type, normalised.value)
    return normalised
  }

  /**
   * JSON Schema (draft 2020-12) of `data`, in input mode, which leaves further members allowed; made at the first call.
   * What zod can check and JSON Schema cannot say (refinements, `z.custom`) is left out.
   */
  jsonSchema(type: string): JSONSchema.BaseSchema {
    const entry = this.#entry(type)
    entry.jsonSchema ??= deepFreeze(toJSONSchema(entry.schema, { io: 'input', unrepresentable: 'any' }))
    return entry.jsonSchema
  }

  /** Whether an endpoint may subscribe to this: a known name, `*`, or a group (`commission.*`) with a known member. */
  matchesCatalog(name: string): boolean {
    return this.#patterns.has(name)
  }

  /** As `matchesCatalog`, but throws `UNKNOWN_EVENT_TYPE` with the list of what exists. */
  requirePattern(name: string): void {
    if (!this.matchesCatalog(name)) throw new PosthasteError('UNKNOWN_EVENT_TYPE', this.unknownMessage(name))
  }

  /** The sentence for a name that matches nothing, with all that would; for lists of errors of one's own. */
  unknownMessage(name: string): string {
    const groups = [...this.#patterns].filter((pattern) => pattern.endsWith('.*'))
    return `There is no event type ${quote(name)}. Known types: ${this.types.join(', ')}; groups: ${groups.join(', ')}; or * for all.`
  }

  #entry(type: string): CompiledEntry {
    const entry = this.#entries.get(type)
    if (entry !== undefined) return entry
    throw new PosthasteError(
      'UNKNOWN_EVENT_TYPE',
      `There is no event type ${quote(type)} in the catalogue. Known types: ${this.types.join(', ')}.`,
    )
  }
}

/**
 * Declares the event types of a host.
 *
 * @throws {PosthasteError} `INVALID_EVENT_TYPE`: a name that is not lower snake case segments joined by dots (at least two,
 * 128 characters), a schema that transforms or describes what JSON does not have, or an example that its schema refuses
 */
export function defineEvents<S extends EventSchemas>(events: EventDefinitions<S>): Catalog<S> {
  return new Catalog(events)
}

/** `base` and `more` in one catalogue; a type that both have is taken from `more`. Throws as `defineEvents` does. */
export function extendEvents<B extends EventSchemas, M extends EventSchemas>(
  base: Catalog<B>,
  more: EventDefinitions<M>,
): Catalog<Omit<B, keyof M> & M> {
  const merged = { ...base.definitions, ...more }
  return new Catalog(merged as unknown as EventDefinitions<Omit<B, keyof M> & M>)
}

function compile(type: string, definition: EventDefinition): CompiledEntry {
  if (!isEventTypeName(type)) {
    const rule = `lower snake case segments joined by dots, at least two, at most ${MAX_EVENT_TYPE_LENGTH} characters`
    throw new PosthasteError('INVALID_EVENT_TYPE', `${quote(type)} is not an event type name: use ${rule}.`)
  }
  const { schema, description, trigger, example, store = 'always' } = definition
  if (schema?._zod?.def?.type !== 'object') throw invalid(type, 'its schema must be a z.object of zod 4.')
  if (typeof description !== 'string' || typeof trigger !== 'string') {
    throw invalid(type, 'description and trigger must be text.')
  }
  if (store !== 'always' && store !== 'when_subscribed') throw invalid(type, "store is 'always' or 'when_subscribed'.")
  const changing = findChangingPart(schema)
  if (changing !== null) {
    const where = changing.path === '' ? '' : ` at ${changing.path}`
    throw invalid(
      type,
      `its schema has ${changing.what}${where}. Schemas only check: what is validated is what is sent.`,
    )
  }
  const { value, text } = normaliseExample(type, example)
  const errors = dataErrors(schema, value)
  if (errors.length > 0) {
    const list = errors.map(({ path, message }) => `${path}: ${message}`).join('; ')
    throw new PosthasteError('INVALID_EVENT_TYPE', `The example of ${type} does not match its schema: ${list}`, {
      errors,
    })
  }
  return { type, schema, description, trigger, store, example: deepFreeze(value), exampleText: text }
}

function normaliseExample(type: string, example: unknown): Normalised {
  try {
    return normalise(example)
  } catch (cause) {
    if (!(cause instanceof PosthasteError)) throw cause
    throw new PosthasteError('INVALID_EVENT_TYPE', `The example of ${type}: ${cause.message}`, { cause })
  }
}

/** What is wrong, with paths joined by dots. Messages are zod's or the schema's own; zod's do not repeat the value. */
function dataErrors(schema: $ZodObject, value: JsonObject): FieldError[] {
  let result: ReturnType<typeof safeParse>
  try {
    result = safeParse(schema, value)
  } catch (error) {
    if (!(error instanceof $ZodAsyncError)) throw error
    throw new PosthasteError(
      'INVALID_EVENT_TYPE',
      'A schema of the catalogue has an asynchronous check; make it synchronous.',
    )
  }
  if (result.success) return []
  return result.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }))
}

function invalid(type: string, message: string): PosthasteError {
  return new PosthasteError('INVALID_EVENT_TYPE', `Event type ${type}: ${message}`)
}

function quote(name: unknown): string {
  return JSON.stringify(String(name).slice(0, MAX_EVENT_TYPE_LENGTH))
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member)
    Object.freeze(value)
  }
  return value
}
