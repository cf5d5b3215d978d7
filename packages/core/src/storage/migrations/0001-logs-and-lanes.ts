import { clockAndIds } from './0001-clock-and-ids.ts'

/**
 * The first migration: the append-only logs (events, commands, dispatches, deliveries, attempts, renewals), the small
 * tables that change on transitions (endpoints, retries, backlogs, workers, lanes …), and what they need.
 *
 * Immutable once released: a change is a further migration. `s` is the schema name, already checked.
 */
export function logsAndLanes(s: string): string {
  return `${clockAndIds(s)}${configuration(s)}${logs(s)}${lanes(s)}${partitions(s)}`
}

function configuration(s: string): string {
  return /* sql */ `
create table ${s}.endpoints (
  no int generated always as identity primary key,
  id uuid not null default ${s}.new_id() unique,
  account text not null,
  url text not null,
  events text[] not null,
  description text,
  metadata text not null default '{}',
  active boolean not null,
  disabled_reason text,
  disabled_at timestamptz,
  -- Sealed by the host's key ring; the context of each is "endpoint:<id>:<column>".
  secret text not null,
  -- Which of the endpoint's secrets that is, counted from 1.
  secret_number int not null default 1,
  previous_secret text,
  previous_until timestamptz,
  -- While both are valid: the headers with room for one signature use the secret that was accepted last.
  previous_accepted boolean not null default false,
  headers text,
  header_names text[] not null default '{}',
  ordering text not null default 'none' check (ordering in ('none', 'fifo')),
  max_concurrency int,
  rate_limit int,
  rate_limit_per text check (rate_limit_per in ('second', 'minute')),
  version int not null default 1,
  created_at timestamptz not null default ${s}.clock(),
  updated_at timestamptz not null default ${s}.clock(),
  deleted_at timestamptz
);
create index endpoints_by_account on ${s}.endpoints (account, id desc) where deleted_at is null;

-- One row per pattern of each endpoint that is being served (active, not disabled, not deleted), and none for others:
-- what does not subscribe costs nothing.
create table ${s}.subscriptions (
  account text not null,
  pattern text not null,
  endpoint int not null,
  primary key (account, pattern, endpoint)
);
create index subscriptions_by_endpoint on ${s}.subscriptions (endpoint);

-- Secrets that were replaced, or whose endpoint was deleted, as they lay in endpoints.secret: the log shows the signatures of
-- attempts that name one. Erased when no such attempt is left.
create table ${s}.retired_secrets (
  endpoint int not null,
  number int not null,
  sealed text not null,
  -- By the wall clock, as ids are: what it signed was emitted before.
  retired_at timestamptz not null default clock_timestamp(),
  primary key (endpoint, number)
);

create table ${s}.endpoint_health (
  endpoint int primary key,
  epoch int not null default 0,
  failing_since timestamptz,
  backoff_ms int,
  backoff_until timestamptz
);

create table ${s}.api_idempotency (
  account text not null,
  key text not null,
  fingerprint text not null,
  answer text not null,
  at timestamptz not null default ${s}.clock(),
  primary key (account, key)
);
create index api_idempotency_by_age on ${s}.api_idempotency (at);
`
}

/**
 * For indexes of logs, which grow at the end: of Postgres' 10 % of room in each page hardly any is ever used. None at all would be
 * wrong: transactions come a little out of order, and each latecomer would split a full page in two halves (32 at once, measured:
 * 54 bytes an entry by transaction instead of 38).
 */
const DENSE = 'with (fillfactor = 97)'

function logs(s: string): string {
  return /* sql */ `
create table ${s}.events (
  id uuid not null default ${s}.new_id(),
  -- The emitting transaction: with a remembered snapshot it tells what was committed since the last look.
  xid xid8 not null default pg_current_xact_id(),
  -- Where the host says when; null: when it was emitted, which the id tells to the millisecond.
  occurred_at timestamptz,
  envelope smallint not null default 0,
  account text not null,
  type text not null,
  -- The JSON text that is sent, to the byte. Never jsonb, which reorders keys and refuses \\u0000.
  data text not null,
  idempotency_key text,
  primary key (id) ${DENSE}
) partition by range (id);
create index events_by_xid on ${s}.events (xid, id) ${DENSE};
create index events_by_account on ${s}.events (account, id) ${DENSE};

-- Writes an event of a type that is stored only where somebody subscribes. It runs in the host's session and with its rights.
create function ${s}.write_event(p_account text, p_type text, p_data text, p_occurred_at timestamptz, p_envelope smallint,
  p_idempotency_key text) returns text language plpgsql as $$
declare
  written uuid;
begin
  insert into ${s}.events (account, type, data, occurred_at, envelope, idempotency_key)
    values (p_account, p_type, p_data, p_occurred_at, p_envelope, p_idempotency_key) returning id into written;
  return written::text;
end $$;

create table ${s}.commands (
  id uuid not null default ${s}.new_id() primary key,
  xid xid8 not null default pg_current_xact_id(),
  kind text not null,
  endpoint int not null,
  payload text
);
create index commands_by_xid on ${s}.commands (xid, id);

create table ${s}.idempotency_keys (
  account text not null,
  key text not null,
  event_id uuid not null,
  at timestamptz not null,
  primary key (account, key)
);
create index idempotency_keys_by_age on ${s}.idempotency_keys (at);

-- Events that were not dispatched because of their key, and the one that was.
create table ${s}.duplicates (
  event_id uuid primary key,
  first_id uuid not null
);

-- What the dispatcher did, page by page, and so its position: the newest row. Its key is the fence between two
-- dispatchers, and its order is the order of commits, so that whoever follows this log misses nothing.
create table ${s}.dispatches (
  n bigint primary key,
  at timestamptz not null default clock_timestamp(),
  life text not null,
  snap pg_snapshot not null,
  win pg_snapshot,
  key_xid xid8,
  key_id uuid,
  key_endpoint int,
  last_seq bigint not null,
  events int not null,
  deliveries int not null,
  oldest uuid,
  endpoints int[],
  firsts bigint[],
  lasts bigint[],
  commands text
);
alter table ${s}.dispatches alter endpoints set storage external, alter firsts set storage external,
  alter lasts set storage external;

create table ${s}.deliveries (
  id uuid not null,
  seq bigint not null,
  event_id uuid not null,
  endpoint int not null,
  generation int not null default 0,
  primary key (id) ${DENSE}
) partition by range (id);
create index deliveries_by_endpoint on ${s}.deliveries (endpoint, seq) ${DENSE};

-- In this order nothing is lost to alignment.
create table ${s}.attempts (
  delivery_id uuid not null,
  at timestamptz not null,
  -- The delivery's, so that what did not succeed can be listed in its order; null where it succeeded.
  seq bigint,
  number int not null,
  endpoint int not null,
  dns_ms real,
  connect_ms real,
  tls_ms real,
  first_byte_ms real,
  total_ms real,
  -- The endpoint's secret that alone signed it; null for the first one, and where the signatures are kept.
  secret_number int,
  -- 1 succeeded, 2 failed, 3 expired, 4 cancelled
  outcome smallint not null,
  -- The step of the retry schedule that this attempt used; null for attempts that use none (manual, repeated at once).
  step smallint,
  status smallint,
  -- Nothing follows by itself: it succeeded, or the schedule is at its end.
  final boolean not null,
  -- Where they cannot be computed from one secret: see signing/packed-signatures.ts.
  signatures bytea,
  error text,
  detail text,
  response_headers text,
  response_excerpt text,
  primary key (delivery_id, number) ${DENSE}
) partition by range (delivery_id);
create index attempts_by_endpoint on ${s}.attempts (endpoint, at) ${DENSE};
create index attempts_final_by_seq on ${s}.attempts (endpoint, seq) where final and outcome <> 1;
create index attempts_final_by_delivery on ${s}.attempts (endpoint, delivery_id) where final and outcome <> 1;
`
}

function lanes(s: string): string {
  return /* sql */ `
-- One row per waiting retry; written by the lane's owner only.
create table ${s}.retries (
  delivery_id uuid not null,
  step smallint not null,
  endpoint int not null,
  lane smallint not null,
  seq bigint not null,
  event_id uuid not null,
  number int not null,
  due_at timestamptz not null,
  primary key (delivery_id, step)
) with (autovacuum_vacuum_scale_factor = 0.05);
create index retries_by_due on ${s}.retries (due_at, delivery_id);
create index retries_by_endpoint on ${s}.retries (endpoint, due_at, delivery_id);

-- One row per endpoint that is behind, so that it does not pin its lane's position.
create table ${s}.backlogs (
  endpoint int primary key,
  lane smallint not null,
  cursor_seq bigint not null,
  oldest uuid not null,
  reason text not null,
  since timestamptz not null default ${s}.clock()
) with (autovacuum_vacuum_scale_factor = 0.05);
create index backlogs_by_lane on ${s}.backlogs (lane);

create table ${s}.workers (
  token bigint generated always as identity primary key,
  name text not null,
  version text not null,
  started_at timestamptz not null default clock_timestamp(),
  fenced boolean not null default false
);

create table ${s}.renewals (
  token bigint not null,
  seq bigint generated always as identity,
  at timestamptz not null default clock_timestamp(),
  lanes smallint[] not null,
  positions bigint[] not null,
  primary key (token, seq)
);

create table ${s}.lanes (
  lane smallint primary key,
  token bigint,
  position bigint not null
);
insert into ${s}.lanes select lane, null, 0 from generate_series(0, 63) lane;

-- Takes a worker's lanes away, once and for all. The update waits for the worker's writes in flight (each holds a share
-- lock on this row); what it reads afterwards therefore includes them.
create function ${s}.fence(p_token bigint) returns int language plpgsql as $$
declare
  newest ${s}.renewals;
  freed int;
begin
  update ${s}.workers set fenced = true where token = p_token and not fenced;
  select * into newest from ${s}.renewals where token = p_token order by seq desc limit 1;
  update ${s}.lanes l set token = null, position = greatest(l.position, coalesce(
      (select p.position from unnest(newest.lanes, newest.positions) p(lane, position) where p.lane = l.lane), 0))
    where l.token = p_token;
  get diagnostics freed = row_count;
  return freed;
end $$;
`
}

function partitions(s: string): string {
  return /* sql */ `
-- The net: a missing partition never fails a host's insert. Those of weeks are made by 0006.
create table ${s}.events_default partition of ${s}.events default;
create table ${s}.deliveries_default partition of ${s}.deliveries default;
create table ${s}.attempts_default partition of ${s}.attempts default;
`
}
