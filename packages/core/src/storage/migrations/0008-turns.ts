/**
 * Turns: what an account has beyond its share of a page waits in a log of its own, in chunks that are worked off in turn with
 * those of other accounts, and nobody else's events wait behind it.
 *
 * A chunk's tag says when its turn comes: start-time fair queueing. It begins where the account's previous chunk ends, or, where
 * the account has none waiting, at the chunk that is being worked off; it is as long as its work. So the log is read by one
 * cursor in the order of (tag, n), whoever waits in it, and the position is as small with a thousand accounts as with one.
 */
export function turns(s: string): string {
  return `${tables(s)}${sort(s)}${put(s)}${take(s)}${fromNow(s)}${storageStats(s)}`
}

/** Chunks with tags from here on are held (0008-aside.ts). A tag counts work that was done, so it never comes near. */
export const HELD_TAG = '4611686018427387904'

/** Greater than any tag. */
export const NO_TAG = '9223372036854775807'

/** Arrays of any length come as parameters: a plan that takes them for short must not go through them again and again. */
const settings = `set search_path = pg_catalog, pg_temp set enable_nestloop = off set jit = off`

function tables(s: string): string {
  return /* sql */ `
create table ${s}.turns (
  tag bigint not null,
  n bigint not null,
  account text not null,
  -- How much work it was when it was put here: matches, at least one for each event. The account's next chunk is at tag + cost.
  cost bigint not null,
  -- Lower bound of the ids: what waits keeps its partition.
  oldest uuid not null,
  ids uuid[] not null,
  types text[] not null,
  keys text[],
  primary key (tag, n)
);
create index turns_by_account on ${s}.turns (account, tag);
-- Ids do not compress.
alter table ${s}.turns alter ids set storage external;

alter table ${s}.dispatches
  -- The chunk that was begun last, and how many of its events are dispatched; null: all.
  add turn_tag bigint not null default 0,
  add turn_n bigint not null default 0,
  add turn_done int,
  -- How many chunks there were ever, and how many of them wait.
  add turns_made bigint not null default 0,
  add turns_open int not null default 0,
  -- How many events the next page looks at, where some of them may have to wait; null in the ordinary case.
  add look int,
  -- Of each of these transactions the events with ids greater than the second are aside (0008-aside.ts), through the third, which is
  -- its last; null: nothing is.
  add aside_xids xid8[],
  add aside_ids uuid[],
  add aside_lasts uuid[],
  -- After a move: what was held stays so until what was left over is dispatched through there.
  add held_until uuid;

-- Of chunks with a number up to this one, events may have been erased: what they name is looked for.
alter table ${s}.installation add turns_erased bigint not null default 0;
`
}

function sort(s: string): string {
  return /* sql */ `
-- Sorts events that were read: which of them this page makes deliveries of, and through which one they are dealt with at all.
-- Those up to there that it does not make deliveries of are of accounts beyond their share, with chunks after (p_tag, p_n) and
-- before p_until, or among p_held.
create function ${s}.sort_events(p_accounts text[], p_types text[], p_held text[], p_tag bigint, p_n bigint, p_until bigint,
  p_max_events int, p_max_matches bigint, p_events_share int, p_matches_share bigint, out direct int[], out through int)
language plpgsql ${settings} as $$
#variable_conflict use_column
begin
  with r as materialized (
    select u.account, u.type, u.ord, row_number() over (partition by u.account collate "C" order by u.ord) rank
    from unnest(p_accounts, p_types) with ordinality u(account, type, ord)
  ),
  waiting as materialized (
    select a.account from (select distinct r.account from r) a where a.account = any (p_held) or (select true from ${s}.turns t
      where t.account = a.account and (t.tag, t.n) > (p_tag, p_n) and t.tag < p_until order by t.tag desc limit 1)
  ),
  light as (
    select r.account, r.type, r.ord, row_number() over (order by r.ord) place from r
    where r.rank <= p_events_share and not exists (select from waiting where waiting.account = r.account)
  ),
  few as materialized (select * from light where place <= p_max_events + 1),
  kinds as materialized (
    select p.account, p.type, (select count(*) from (
        select distinct sub.endpoint from ${s}.subscriptions sub
        where sub.account = p.account and sub.pattern = any (${s}.patterns(p.type)) limit p_matches_share + 1) x) matches
    from (select distinct few.account, few.type from few) p
  ),
  weighed as (
    select few.*, kinds.matches, sum(kinds.matches) over (partition by few.account collate "C" order by few.ord) upto
    from few join kinds on kinds.account = few.account and kinds.type = few.type
  ),
  filled as materialized (
    select *, sum(case when upto <= p_matches_share then matches else 0 end) over (order by ord) total from weighed
  ),
  cut as (
    select coalesce(min(ord), cardinality(p_accounts) + 1) ord from filled
    where place > p_max_events or (upto <= p_matches_share and total > p_max_matches)
  )
  select coalesce((select array_agg(f.ord::int order by f.ord) from filled f, cut
      where f.upto <= p_matches_share and f.ord < cut.ord), '{}'), (select cut.ord::int - 1 from cut)
    into direct, through;
end $$;
`
}

/** Where an account's chunks end that wait, after (p_tag, p_n) and before `until`; null without any. */
export function endOfWaiting(s: string, account: string, until: string): string {
  return `(select t.tag + t.cost from ${s}.turns t
      where t.account = ${account} and (t.tag, t.n) > (p_tag, p_n) and t.tag < ${until} order by t.tag desc limit 1)`
}

/** Where the next chunk of an account begins: behind those that wait; without any at p_tag, or where what is held begins. */
function nextTag(s: string, account: string): string {
  return `greatest(p_tag, ${endOfWaiting(s, account, 'p_until')},
    case when ${account} = any (p_held) then ${HELD_TAG} end)`
}

function put(s: string): string {
  return /* sql */ `
-- Puts events into chunks behind those of their accounts: of the first p_through those that are not taken. Answers how many
-- chunks. Those of the accounts among p_held are held.
create function ${s}.put_turns(p_ids uuid[], p_accounts text[], p_types text[], p_keys text[], p_held text[], p_taken boolean[],
  p_through int, p_tag bigint, p_n bigint, p_until bigint, p_made bigint, p_most bigint) returns int
language plpgsql ${settings} as $$
declare
  n_events constant int := cardinality(p_ids);
  -- A lower bound serves all chunks.
  bound constant uuid := (select id from unnest(p_ids) id order by id limit 1);
  one_kind constant boolean := p_through = n_events and p_accounts = array_fill(p_accounts[1], array[n_events])
    and p_types = array_fill(p_types[1], array[n_events]) and array_remove(p_keys, null) = '{}'
    and array_position(p_taken, true) is null;
  weight bigint;
  made int;
begin
  if one_kind then
    -- A backlog of one account is mostly this, and cut up so at a tenth of the cost.
    select greatest(1, count(distinct sub.endpoint)) into weight from ${s}.subscriptions sub
      where sub.account = p_accounts[1] and sub.pattern = any (${s}.patterns(p_types[1]));
    insert into ${s}.turns (tag, n, account, cost, oldest, ids, types)
    select ${nextTag(s, 'p_accounts[1]')} + c.before * weight,
        p_made + row_number() over (order by c.before), p_accounts[1], least(c.size, n_events - c.before) * weight, bound,
        p_ids[c.before + 1:c.before + c.size], p_types[c.before + 1:c.before + c.size]
      from (select x.before, greatest(1, p_most / weight)::int size
        from generate_series(0, n_events - 1, greatest(1, p_most / weight)::int) x(before)) c;
    get diagnostics made = row_count;
    return made;
  end if;

  with r as materialized (
    select u.id, u.account, u.type, u.key, u.ord
    from unnest(p_ids, p_accounts, p_types, p_keys, p_taken) with ordinality u(id, account, type, key, taken, ord)
    where u.ord <= p_through and u.taken is not true
  ),
  kinds as materialized (
    select p.account, p.type, greatest(1, (select count(distinct sub.endpoint) from ${s}.subscriptions sub
      where sub.account = p.account and sub.pattern = any (${s}.patterns(p.type)))) weight
    from (select distinct r.account, r.type from r) p
  ),
  starts as materialized (
    select a.account, ${nextTag(s, 'a.account')} tag from (select distinct r.account from r) a
  ),
  placed as (
    select r.*, k.weight, sum(k.weight) over (partition by r.account collate "C" order by r.ord) - k.weight before
    from r join kinds k on k.account = r.account and k.type = r.type
  ),
  chunks as (
    select p.account, min(p.before) before, sum(p.weight) cost, min(p.ord) ord,
      array_agg(p.id order by p.ord) ids, array_agg(p.type order by p.ord) types,
      case when count(p.key) > 0 then array_agg(p.key order by p.ord) end keys
    from placed p group by p.account, div(p.before, p_most)
  )
  insert into ${s}.turns (tag, n, account, cost, oldest, ids, types, keys)
  select starts.tag + c.before, p_made + row_number() over (order by c.ord), c.account, c.cost, bound, c.ids, c.types, c.keys
  from chunks c join starts on starts.account = c.account;
  get diagnostics made = row_count;
  return made;
end $$;
`
}

function take(s: string): string {
  return /* sql */ `
-- The chunks whose turn it is, from the one that was begun (with p_done of its events) or the next, and before p_until: as many as
-- hold p_events, or p_room; how many events each had done before, how many it has left; and these events, up to p_events.
create function ${s}.due_turns(p_tag bigint, p_n bigint, p_done int, p_until bigint, p_events int, p_room bigint, out tags bigint[],
  out ns bigint[], out froms int[], out sizes int[], out ids uuid[], out accounts text[], out types text[], out keys text[])
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  turn record;
  room_left int := p_events;
begin
  tags := '{}'; ns := '{}'; froms := '{}'; sizes := '{}'; ids := '{}'; accounts := '{}'; types := '{}'; keys := '{}';
  for turn in
    select t.*, case when (t.tag, t.n) = (p_tag, p_n) then coalesce(p_done, 0) else 0 end done from ${s}.turns t
    where (t.tag, t.n) > (p_tag, p_n - (p_done is not null)::int) and t.tag < p_until order by t.tag, t.n
  loop
    tags := tags || turn.tag; ns := ns || turn.n; froms := froms || turn.done;
    sizes := sizes || cardinality(turn.ids) - turn.done;
    ids := ids || turn.ids[turn.done + 1:turn.done + room_left];
    types := types || turn.types[turn.done + 1:turn.done + room_left];
    accounts := accounts || array_fill(turn.account, array[cardinality(ids) - cardinality(accounts)]);
    keys := keys || case when turn.keys is not null then turn.keys[turn.done + 1:turn.done + room_left]
      else array_fill(null::text, array[cardinality(ids) - cardinality(keys)]) end;
    room_left := p_events - cardinality(ids);
    exit when room_left <= 0 or cardinality(ids) >= p_room;
  end loop;
end $$;
`
}

function fromNow(s: string): string {
  return /* sql */ `
-- A position from which nothing that was committed so far is dispatched, nor any command carried out. Under the dispatcher's lock.
create function ${s}.dispatch_from_now() returns void language sql set search_path = pg_catalog, pg_temp as $$
  delete from ${s}.turns;
  insert into ${s}.dispatches (n, life, snap, last_seq, events, deliveries, foreign_xid, floor, turn_tag, turn_n, turns_made)
  select d.n + 1, ${s}.life(), pg_current_snapshot(), d.last_seq, 0, 0,
    greatest(d.foreign_xid, (select e.xid from ${s}.events e order by e.xid desc limit 1),
      (select c.xid from ${s}.commands c order by c.xid desc limit 1)), ${s}.id_floor(clock_timestamp() - interval '7 days'),
    d.turn_tag, d.turn_n, d.turns_made
  from ${s}.dispatches d order by d.n desc limit 1
$$;
`
}

function storageStats(s: string): string {
  return /* sql */ `
-- The oldest event that the dispatcher has not worked off: in the gaps of its last look, or beyond it; in a window that it is
-- in the middle of, beyond the page; or of what waits for its turn. But for transaction ids that copied rows may have.
create function ${s}.oldest_undispatched() returns timestamptz language sql stable set search_path = pg_catalog, pg_temp as $$
  with pos as (select d.* from ${s}.dispatches d order by d.n desc limit 1)
  select min(${s}.id_time(x.id)) from pos cross join lateral (
    select e.id from pg_snapshot_xip(pos.snap) y cross join lateral (
      select e.id from ${s}.events e where (e.xid, e.id) >= (y, '00000000-0000-0000-0000-000000000000')
        and (e.xid, e.id) <= (y, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        and (pos.foreign_xid is null or e.xid > pos.foreign_xid)
        and (pos.key_xid is null or (e.xid, e.id) > (pos.key_xid, pos.key_id)) order by e.xid, e.id limit 1) e
    union all
    (select e.id from ${s}.events e
      where (e.xid, e.id) > (greatest(pg_snapshot_xmax(pos.snap), pos.key_xid),
        case when pos.key_xid >= pg_snapshot_xmax(pos.snap) then pos.key_id else '00000000-0000-0000-0000-000000000000' end)
        and (pos.foreign_xid is null or e.xid > pos.foreign_xid)
      order by e.xid, e.id limit 1)
    union all
    select e.id from unnest(pos.aside_xids, pos.aside_ids, pos.aside_lasts) a(xid, id, last) cross join lateral (
      select e.id from ${s}.events e where (e.xid, e.id) > (a.xid, a.id) and (e.xid, e.id) <= (a.xid, a.last)
      order by e.xid, e.id limit 1) e
    union all
    select t.oldest from ${s}.turns t where (t.tag, t.n) > (pos.turn_tag, pos.turn_n - (pos.turn_done is not null)::int)) x
$$;
`
}
