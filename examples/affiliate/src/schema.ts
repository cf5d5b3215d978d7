import type { Sql } from 'postgres'

/**
 * The shop's own tables. Nothing in them knows of webhooks: Posthaste keeps its tables in a schema of its own, in the
 * same database, so that one transaction covers both.
 */
const TABLES = `
create table if not exists affiliates (
  id integer generated always as identity primary key,
  name text not null,
  email text not null unique,
  website text,
  status text not null default 'pending' check (status in ('pending', 'approved', 'rejected')),
  commission_rate_points integer not null check (commission_rate_points between 0 and 10000),
  created_at timestamptz not null,
  reviewed_by text,
  reviewed_at timestamptz,
  rejection_reason text
);

create table if not exists links (
  id integer generated always as identity primary key,
  affiliate_id integer not null references affiliates,
  slug text not null unique,
  target_url text not null,
  created_at timestamptz not null
);

create table if not exists codes (
  id integer generated always as identity primary key,
  affiliate_id integer not null references affiliates,
  code text not null unique,
  discount_points integer not null check (discount_points between 0 and 10000),
  max_redemptions integer check (max_redemptions > 0),
  redemptions_count integer not null default 0,
  created_at timestamptz not null,
  check (redemptions_count <= max_redemptions)
);

create table if not exists clicks (
  id integer generated always as identity primary key,
  link_id integer not null references links,
  referrer text,
  clicked_at timestamptz not null
);
create index if not exists clicks_link on clicks (link_id);

-- A sale that an affiliate brought, by a click or by a code. order_id is the shop's own number of the order.
create table if not exists conversions (
  id integer generated always as identity primary key,
  order_id integer not null unique,
  affiliate_id integer not null references affiliates,
  click_id integer references clicks,
  code_id integer references codes,
  product_name text not null,
  price_cents bigint not null check (price_cents > 0),
  discount_cents bigint not null check (discount_cents between 0 and price_cents),
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  recorded_at timestamptz not null,
  check (num_nonnulls(click_id, code_id) = 1)
);

create table if not exists redemptions (
  id integer generated always as identity primary key,
  code_id integer not null references codes,
  conversion_id integer not null unique references conversions,
  redeemed_at timestamptz not null
);
create index if not exists redemptions_code on redemptions (code_id);

-- What is paid on one day: a payout for each affiliate who is owed something.
create table if not exists payout_batches (
  id integer generated always as identity primary key,
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  method text not null,
  created_at timestamptz not null
);

create table if not exists payouts (
  id integer generated always as identity primary key,
  batch_id integer not null references payout_batches,
  affiliate_id integer not null references affiliates,
  amount_cents bigint not null check (amount_cents > 0),
  commission_ids integer[] not null check (cardinality(commission_ids) > 0),
  status text not null default 'created' check (status in ('created', 'processed', 'failed')),
  reference text,
  failure_reason text,
  settled_at timestamptz,
  unique (batch_id, affiliate_id)
);

create table if not exists commissions (
  id integer generated always as identity primary key,
  conversion_id integer not null unique references conversions,
  affiliate_id integer not null references affiliates,
  amount_cents bigint not null check (amount_cents >= 0),
  rate_points integer not null,
  currency text not null,
  status text not null default 'pending' check (status in ('pending', 'approved', 'rejected', 'in_payout', 'paid')),
  payout_id integer references payouts,
  created_at timestamptz not null,
  reviewed_by text,
  reviewed_at timestamptz,
  rejection_reason text,
  check ((status in ('in_payout', 'paid')) = (payout_id is not null))
);
create index if not exists commissions_affiliate on commissions (affiliate_id, status);
create index if not exists commissions_payout on commissions (payout_id);

create table if not exists ledger_journals (
  id integer generated always as identity primary key,
  reason text not null,
  commission_id integer references commissions,
  payout_id integer references payouts,
  written_at timestamptz not null
);

create table if not exists ledger_entries (
  id integer generated always as identity primary key,
  journal_id integer not null references ledger_journals,
  account text not null check (account in ('commission_expense', 'affiliate_payable', 'payout_clearing', 'bank')),
  affiliate_id integer not null references affiliates,
  currency text not null,
  amount_cents bigint not null check (amount_cents <> 0)
);
create index if not exists ledger_entries_affiliate on ledger_entries (affiliate_id, account);
create index if not exists ledger_entries_journal on ledger_entries (journal_id);
`

/** The database itself refuses a journal that does not add up to zero, and any change to what was written. */
const LEDGER_RULES = `
create or replace function ledger_journal_must_balance() returns trigger language plpgsql as $$
begin
  if exists (
    select from ledger_entries where journal_id = new.journal_id group by affiliate_id, currency having sum(amount_cents) <> 0
  ) then
    raise exception 'ledger journal % does not add up to zero', new.journal_id;
  end if;
  return null;
end $$;

create or replace function ledger_is_append_only() returns trigger language plpgsql as $$
begin
  raise exception 'ledger entries are never changed; write a reversing entry';
end $$;

do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'ledger_entries'::regclass and tgname = 'ledger_balances') then
    create constraint trigger ledger_balances after insert on ledger_entries
      deferrable initially deferred for each row execute function ledger_journal_must_balance();
    create trigger ledger_append_only before update or delete on ledger_entries
      for each row execute function ledger_is_append_only();
  end if;
end $$;
`

/** Names the lock under which two starting processes make the tables one after the other; any fixed number does. */
const SETUP_LOCK = 7_305_441

/** Makes the shop's tables where they are missing. Several processes may call it at once. */
export async function setUpProgram(sql: Sql): Promise<void> {
  await sql.begin(async (tx) => {
    await tx`select pg_advisory_xact_lock(${SETUP_LOCK})`
    await tx`set local client_min_messages = warning`
    await tx.unsafe(TABLES)
    await tx.unsafe(LEDGER_RULES)
  })
}
