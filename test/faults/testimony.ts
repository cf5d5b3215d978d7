/** What the judge is given: the traces of one run, whoever left them. */

export interface Evidence {
  /** What hosts committed, by their own table. */
  committed: readonly number[]
  events: readonly EventEvidence[]
  endpoints: readonly EndpointEvidence[]
  deliveries: readonly DeliveryEvidence[]
  attempts: readonly AttemptEvidence[]
  receipts: readonly Receipt[]
  losses: readonly Loss[]
  /** When the database could not be written to, as far as the runner knows. */
  disturbances: readonly { from: number; to: number }[]
  replays: readonly ReplayEvidence[]
  replayAsks: readonly ReplayAsk[]
  retryAsks: readonly RetryAsk[]
  /** How many attempts the schedule has. */
  attemptsPerDelivery: number
  /** Unhandled rejections and exceptions of workers. */
  unhandled: readonly string[]
  /** What has a time within which it has to be over. */
  bounds: readonly Bound[]
  /** When the machine gave the run's processes no time. */
  stalls: readonly Stall[]
}

export interface EventEvidence {
  id: string
  n: number
  /** The time in its id: when it was emitted, by the clock of Postgres' machine. */
  idMs: number
  dispatchedAt: number | null
}

export interface EndpointEvidence {
  no: number
  ordering: 'none' | 'fifo'
  state: 'active' | 'inactive' | 'disabled' | 'deleted'
  /** When it was switched, in order; `active` null: nobody knows whether it took place. Active from the start of the run. */
  switches: readonly { from: number; to: number; active: boolean | null }[]
}

export interface DeliveryEvidence {
  id: string
  endpoint: number
  eventId: string
  seq: number
  /** 0: of the dispatcher, or of a replay of what was missing; else the number of its replay. */
  generation: number
  /** When the dispatcher made it. */
  madeAt: number
  status: string
}

export interface AttemptEvidence {
  delivery: string
  number: number
  succeeded: boolean
  final: boolean
  /** HTTP status, null where there was no answer. */
  status: number | null
  /** Null: made by hand, or repeated at once. */
  step: number | null
}

export interface Receipt {
  at: number
  delivery: string
  eventId: string
  n: number
  attempt: number
  /** The process that sent it. */
  worker: string
  /** Status and time of the answer; null where none was given. */
  answered: number | null
  answeredAt: number | null
}

/** A worker lost what it knew: it was killed, or its lease was. `from`: when it last worked as it should. */
export interface Loss {
  worker: string
  from: number
  to: number
  why: string
}

export interface ReplayEvidence {
  id: string
  /** The generation of its deliveries. */
  no: number
  endpoint: number
  which: 'failed' | 'missing' | 'all'
  sinceMs: number
  untilMs: number
  status: 'running' | 'completed' | 'cancelled'
  done: number
}

/** A replay that the runner asked for; whether it began may be unknown, where the answer was lost. */
export interface ReplayAsk {
  endpoint: number
  which: 'failed' | 'missing' | 'all'
  /** Each ask has another one, by which its replay is known. */
  sinceMs: number
  from: number
  /** As it was answered; null where it was refused, or nobody knows. */
  id: string | null
  cancelAsked: boolean
  /** Deliveries that the log called failed right before. */
  failedBefore: readonly string[]
}

/** One try to ask for another attempt by hand. */
export interface RetryAsk {
  delivery: string
  endpoint: number
  from: number
  /** How many attempts there were, as it was answered; null where it was refused, or nobody knows. */
  attempts: number | null
}

export interface Bound {
  what: string
  from: number
  to: number
  withinMs: number
}

export interface Stall {
  from: number
  to: number
  /** How much of that time was lost. */
  ms: number
  /** Who had no time. */
  who: string
}
