import { HELD_TAG, NO_TAG } from './0008-turns.ts'

/**
 * The dispatcher's step: finds what was committed since the last look, matches subscriptions, and appends deliveries and one row of
 * `dispatches`. One statement for the caller, so nothing of it is left half done when a process freezes. It knows the name of the
 * installation that asks; looks whether its position is of this life, and where it is not, dispatches first what was left over.
 *
 * In the ordinary case a page is a thousand events, or two thousand matches, in the order of their commits. Where a
 * page is full and an account has more than a tenth of it, what it has beyond that is put into `turns`, and as long as something
 * waits there a page has two halves: events of accounts that nothing waits of, as they are found; and the chunks whose turn it
 * is. What is found of accounts that wait joins their chunks, so that each account's events keep their order; this is quick, so
 * that the others' are soon reached behind thousands of rows of one account. Where a transaction has more of them, its rest is laid
 * aside and read by every second page: see `0008-aside.ts`.
 */
export function fairDispatch(s: string, lockKey: string): string {
  return /* sql */ `
create function ${s}.dispatch(p_max_events int, p_max_matches int, p_installation text default null)
returns table (n bigint, events int, deliveries int, commands int, more boolean) language plpgsql
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  pos record;
  here constant text := ${s}.life();
  before json;
  moved boolean := false;
  -- What the life before left over is being dispatched, and through which of its events it was looked through.
  left_over boolean;
  looked_through uuid;
  -- Whether this page reads what is aside, how much at once, through how many of an account's own events it is looked for there,
  -- up to where chunks count meanwhile, and of whom they are held.
  from_aside boolean := false;
  aside_look constant int := 8 * p_max_events;
  own_events constant int := 20 * p_max_events;
  counts_until bigint := ${NO_TAG};
  held text[] := '{}';
  lay_after uuid;
  last_id uuid;
  cur pg_snapshot;
  zero constant uuid := '00000000-0000-0000-0000-000000000000';
  top constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  events_share constant int := greatest(1, p_max_events / 10);
  matches_share constant int := greatest(1, p_max_matches / 10);
  found record;
  look int;
  xids xid8[] := '{}';
  ids uuid[] := '{}';
  accounts text[] := '{}';
  types text[] := '{}';
  keys text[] := '{}';
  cmds text;
  n_commands int := 0;
  replays json;
  n_events int;
  full_look boolean;
  -- Of the events that were read: those that this page makes deliveries of (null: all), and through which one it deals with them.
  direct int[];
  through int;
  made record;
  sorting boolean;
  uneven boolean := false;
  taken boolean[];
  put int := 0;
  -- The chunks that this page looks at.
  due record;
  turn_tag bigint;
  turn_n bigint;
  turn_done int;
  turns_open int;
  turns_left int := 0;
  room bigint;
  done int := 0;
  n_deliveries int := 0;
  last bigint;
  -- Of the page's own events; those of replays come before.
  first_seq bigint;
  open_endpoint int;
  more_events boolean;
  wake_endpoints int[];
  wake_firsts bigint[];
  wake_lasts bigint[];
  oldest uuid;
begin
  if not pg_try_advisory_xact_lock(${lockKey}) then
    return; -- another dispatcher is at it
  end if;
  -- After the lock, in a statement of its own: whoever adopts this database holds it.
  if p_installation is not null
    and not exists (select from ${s}.installation i where i.name = p_installation and i.adopting is null) then
    return;
  end if;
  select d.*, d.xmin = d.xid::xid native into pos from ${s}.dispatches d order by d.n desc limit 1;
  -- A row may have been copied, by chance, by a transaction with the very number that it names; hardly two. (Behind the first one
  -- that is written after a move lies one that was copied; but that first one is of this life.)
  if pos.native and pos.life <> here then
    pos.native := coalesce((select d.xmin = d.xid::xid from ${s}.dispatches d where d.n < pos.n order by d.n desc limit 1), true);
  end if;
  cur := coalesce(pos.win, pg_current_snapshot());

  -- Another life: the position was copied, or this cluster is younger than it. Where it was written here, so was all that it speaks
  -- of, whatever the cluster is called now (pg_upgrade). Of rows that do not say who wrote them, only the cluster's name tells.
  if pos.native is false or pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(pos.snap)
    or (pos.native is null and split_part(pos.life, '/', 1) <> split_part(here, '/', 1) and pos.life not like '?%' and here not like '?%') then
    if ${s}.is_replica() then
      raise exception 'logical replication still writes into the schema ${s}: nothing is dispatched here before it is ended';
    end if;
    moved := true;
    cur := pg_current_snapshot();
    before := ${s}.life_before(pos.snap, pos.win, pos.key_xid, pos.key_id, pos.aside_xids, pos.aside_ids, pos.at);
    -- Moved again before all of that was dispatched: it begins anew. What is repeated changes nothing.
    pos.rest := coalesce((pos.rest::jsonb || '{"after": null}')::json, before);
    pos.snap := cur;
    pos.win := null; pos.key_xid := null; pos.key_id := null; pos.key_endpoint := null;
    pos.held_until := greatest(pos.held_until, (select id from unnest(pos.aside_lasts) id order by id desc limit 1));
    pos.aside_xids := null; pos.aside_ids := null; pos.aside_lasts := null;
    pos.foreign_xid := greatest(pos.foreign_xid, (select e.xid from ${s}.events e order by e.xid desc limit 1),
      (select c.xid from ${s}.commands c order by c.xid desc limit 1));
    pos.floor := ${s}.id_floor(clock_timestamp() - interval '7 days');
    perform ${s}.raise_sequences();
    -- What it handed on is dispatched by this very statement.
    update ${s}.replays r set handed_xid = '0' where r.status = 'running';
  elsif pos.foreign_xid < pg_snapshot_xmin(pos.snap) then
    -- The counter has passed whatever was copied: from here on no transaction id is of another life.
    pos.foreign_xid := null; pos.floor := null;
  end if;

  sorting := pos.turns_open > 0 or pos.look is not null;
  look := greatest(pos.look, p_max_events);

  left_over := pos.rest is not null;
  if left_over then
    if pos.held_until is not null then counts_until := ${HELD_TAG}; end if;
    found := ${s}.events_left_over(pos.rest, look, pos.held_until);
    looked_through := coalesce(found.last, (pos.rest ->> 'after')::uuid);
    if found.ids is not null then
      ids := found.ids; accounts := found.accounts; types := found.types; keys := found.keys;
    end if;
    full_look := found.n >= look;
  elsif pos.aside_xids is not null and pos.n % 2 = 0 then
    from_aside := true;
    counts_until := ${HELD_TAG};
    found := ${s}.events_aside(pos.aside_xids[1], pos.aside_ids[1], aside_look);
    ids := found.ids; accounts := found.accounts; types := found.types; keys := found.keys;
    full_look := cardinality(ids) >= aside_look;
  else
    found := ${s}.events_in_window(pos.snap, cur, pos.key_xid, pos.key_id, pos.foreign_xid, pos.floor, look);
    xids := found.xids; ids := found.ids; accounts := found.accounts; types := found.types; keys := found.keys;
    if pos.aside_xids is not null then
      held := ${s}.accounts_aside(accounts, pos.aside_xids, pos.aside_ids, pos.aside_lasts, own_events);
    end if;
  end if;
  n_events := cardinality(ids);
  through := n_events;
  full_look := coalesce(full_look, n_events >= look);

  -- All commands of a window go into its first page.
  if moved then
    select x.told, x.replays, x.n into cmds, replays, n_commands from ${s}.commands_left_over(before) x;
  elsif pos.key_xid is null and pos.rest is null and not from_aside then
    select x.told, x.replays, x.n into cmds, replays, n_commands
      from ${s}.commands_in_window(pos.snap, cur, pos.foreign_xid, pos.floor) x;
  end if;

  if n_events = 0 and n_commands = 0 and pos.win is null and pos.rest is null and not sorting
    and pg_snapshot_xmax(cur)::text::numeric - pg_snapshot_xmax(pos.snap)::text::numeric < 500 then
    return query select pos.n, 0, 0, 0, false;
    return;
  end if;

  -- What replays ask for comes before the page's own events: an endpoint may be named twice, the second time with higher
  -- sequence numbers.
  last := pos.last_seq;
  if replays is not null then
    made := ${s}.dispatch_replays(replays, last);
    last := made.last_seq;
    n_deliveries := made.made;
    wake_endpoints := made.endpoints; wake_firsts := made.firsts; wake_lasts := made.lasts;
    oldest := made.oldest;
  end if;

  first_seq := last;
  if sorting then
    -- Nothing was found, or only what joins what waits of its account.
    if n_events = 0 or (accounts = array_fill(accounts[1], array[n_events]) and exists (select from ${s}.turns t
        where t.account = accounts[1] and (t.tag, t.n) > (pos.turn_tag, pos.turn_n - (pos.turn_done is not null)::int)
          and t.tag < counts_until)) then
      direct := '{}';
    end if;
  elsif full_look then
    uneven := exists (select from unnest(accounts) a group by a having count(*) > events_share);
  end if;
  if uneven or (sorting and direct is null) then
    -- With nothing waiting, the page is theirs; else half of it, so that those who wait get on.
    select x.direct, x.through into direct, through from ${s}.sort_events(accounts, types, held, pos.turn_tag,
      pos.turn_n - (pos.turn_done is not null)::int, counts_until, case when sorting then greatest(1, p_max_events / 2) else p_max_events end,
      case when sorting then greatest(1, p_max_matches / 2) else p_max_matches end, events_share, matches_share) x;
  end if;

  if direct is null then
    if n_events > 0 then
      made := ${s}.dispatch_events(ids, accounts, types, keys, last, p_max_matches, false);
      done := made.done;
      through := done;
      -- The page is full of matches. Is this one account's doing? Then what follows of it waits for its turn.
      if done < n_events and matches_share < (
        select sum(k.count * (select count(distinct sub.endpoint) from ${s}.subscriptions sub
          where sub.account = accounts[done + 1] and sub.pattern = any (${s}.patterns(k.type))))
        from (select u.type, count(*) from unnest(accounts[1:done + 1], types[1:done + 1]) u(account, type)
          where u.account = accounts[done + 1] group by u.type) k)
      then
        direct := array(select generate_series(1, done));
        while through < n_events and accounts[through + 1] = accounts[done + 1] loop through := through + 1; end loop;
      end if;
    end if;
  elsif cardinality(direct) > 0 then
    made := ${s}.dispatch_events(array(select ids[o] from unnest(direct) o), array(select accounts[o] from unnest(direct) o),
      array(select types[o] from unnest(direct) o), array(select keys[o] from unnest(direct) o), last, p_max_matches, false);
    done := made.done;
    -- Somebody subscribed after they were sorted: what does not fit any more waits, too.
    direct := direct[1:done];
  end if;
  if done > 0 then
    last := made.last_seq;
    n_deliveries := n_deliveries + made.made;
    wake_endpoints := wake_endpoints || made.endpoints; wake_firsts := wake_firsts || made.firsts;
    wake_lasts := wake_lasts || made.lasts;
    oldest := least(oldest, made.oldest);
  end if;

  room := p_max_matches - (last - first_seq);

  -- The rest of a transaction is laid aside, or all of it behind what is aside of its account. Not where that was its end, nor where
  -- rows of another life may name the same transaction.
  if counts_until = ${NO_TAG} and full_look and through = n_events and coalesce(cardinality(pos.aside_xids), 0) < 16
    and xids[1] = xids[n_events] and (pos.foreign_xid is null or xids[1] > pos.foreign_xid)
    and accounts = array_fill(accounts[1], array[n_events]) then
    lay_after := case when accounts[1] = any (held) then case when pos.key_xid = xids[1] then pos.key_id else zero end
      when n_events >= 4 * p_max_events or pos.aside_xids is not null then ids[n_events] end;
    if lay_after is not null then
      last_id := ${s}.last_event_of(xids[1], ids[n_events]);
      if last_id is null or ${s}.held_has_later(xids[1], lay_after, last_id, own_events) then lay_after := null; end if;
    end if;
  end if;

  turn_tag := pos.turn_tag; turn_n := pos.turn_n; turn_done := pos.turn_done;
  if cardinality(direct) < through and (lay_after is null or lay_after = ids[n_events]) then
    taken := array_fill(false, array[n_events]);
    for o in 1..cardinality(direct) loop taken[direct[o]] := true; end loop;
    put := ${s}.put_turns(ids, accounts, types, keys, held, taken, through, turn_tag, turn_n - (turn_done is not null)::int,
      counts_until, pos.turns_made, greatest(1, p_max_matches / 8));
  end if;

  more_events := through < n_events or full_look;
  if counts_until = ${HELD_TAG} then
    if from_aside and through > 0 then pos.aside_ids := ids[through] || pos.aside_ids[2:]; end if;
    if not more_events then
      -- That was all of it; of what was left over there may be more behind.
      if left_over then
        looked_through := pos.held_until; more_events := true;
        pos.held_until := null;
      else
        pos.aside_xids := nullif(pos.aside_xids[2:], '{}');
        pos.aside_ids := nullif(pos.aside_ids[2:], '{}'); pos.aside_lasts := nullif(pos.aside_lasts[2:], '{}');
      end if;
      if pos.aside_xids is null then
        perform ${s}.release_held(turn_tag, turn_n - (turn_done is not null)::int);
      end if;
    end if;
  elsif lay_after is not null then
    pos.aside_xids := pos.aside_xids || xids[n_events];
    pos.aside_ids := pos.aside_ids || lay_after; pos.aside_lasts := pos.aside_lasts || last_id;
  end if;

  -- The chunks whose turn it is, with what the page has room for; of those that are held none as long as anything is aside.
  counts_until := case when pos.aside_xids is null and pos.held_until is null then ${NO_TAG} else ${HELD_TAG} end;
  turns_open := pos.turns_open + put;
  -- An event that a position of before has open, and nothing waits, is made deliveries of anew: those that there are stay as they are.
  open_endpoint := case when pos.turns_open > 0 then pos.key_endpoint end;
  if turns_open > 0 and room > 0 and done < p_max_events then
    due := ${s}.due_turns(turn_tag, turn_n, turn_done, counts_until, p_max_events - done, room);
    turns_left := cardinality(due.ids);
  end if;
  if turns_left > 0 then
    turns_left := 0;
    if open_endpoint is null or (select true from ${s}.events e where e.id = due.ids[1] limit 1) is null then
      made := ${s}.dispatch_events(due.ids, due.accounts, due.types, due.keys, last, room,
        open_endpoint is not null or exists (select from ${s}.installation i where i.turns_erased >= any (due.ns)));
      open_endpoint := null;
      turns_left := made.done;
    end if;
    if turns_left > 0 then
      oldest := least(oldest, made.oldest);
    else
      -- One event with more matches than there is room for is worked off by itself, endpoint by endpoint.
      made := ${s}.dispatch_event(due.ids[1], due.accounts[1], due.types[1], coalesce(open_endpoint, 0), last, room);
      open_endpoint := made.open_endpoint;
      oldest := least(oldest, due.ids[1]);
      turns_left := (open_endpoint is null)::int;
    end if;
    done := done + turns_left;
    last := made.last_seq;
    n_deliveries := n_deliveries + made.made;
    wake_endpoints := wake_endpoints || made.endpoints; wake_firsts := wake_firsts || made.firsts;
    wake_lasts := wake_lasts || made.lasts;
    for i in 1..cardinality(due.tags) loop
      exit when turns_left = 0 and open_endpoint is null;
      turn_tag := due.tags[i]; turn_n := due.ns[i];
      if turns_left >= due.sizes[i] then
        turn_done := null;
        turns_open := turns_open - 1;
        turns_left := turns_left - due.sizes[i];
      else
        turn_done := due.froms[i] + turns_left;
        exit;
      end if;
    end loop;
  end if;

  if left_over then
    pos.rest := case when more_events then (pos.rest::jsonb || jsonb_build_object('after',
      case when through = n_events then looked_through else coalesce(ids[through], (pos.rest ->> 'after')::uuid) end))::json end;
  elsif from_aside then
    -- The window is where it was.
  elsif more_events then
    pos.win := cur;
    pos.key_xid := coalesce(xids[through], pos.key_xid, '0'::xid8);
    pos.key_id := case when lay_after is not null then top else coalesce(ids[through], pos.key_id, zero) end;
  else
    pos.snap := cur; pos.win := null; pos.key_xid := null; pos.key_id := null;
  end if;
  -- While what is read goes to those who wait, the next page reads more: this is far quicker than making deliveries.
  sorting := turns_open > 0 or counts_until = ${HELD_TAG} or (more_events and direct is not null);
  look := case when from_aside then pos.look when not sorting then null when lay_after is not null then p_max_events
    when through < n_events then greatest(p_max_events, least(look, 2 * through))
    when more_events then least(2 * look, 16 * p_max_events) else look end;
  -- The primary key is the fence: a second dispatcher that read the same position fails here, and with it all of the above.
  insert into ${s}.dispatches (n, life, snap, win, key_xid, key_id, key_endpoint, last_seq, events, deliveries, oldest, endpoints,
      firsts, lasts, commands, turn_tag, turn_n, turn_done, turns_made, turns_open, look, foreign_xid, floor, rest,
      aside_xids, aside_ids, aside_lasts, held_until)
  values (pos.n + 1, here, pos.snap, pos.win, pos.key_xid, pos.key_id, open_endpoint, last, done, n_deliveries, oldest,
    wake_endpoints, wake_firsts, wake_lasts, cmds, turn_tag, turn_n, turn_done, pos.turns_made + put, turns_open, look,
    pos.foreign_xid, pos.floor, pos.rest, pos.aside_xids, pos.aside_ids, pos.aside_lasts, pos.held_until);
  return query select pos.n + 1, done, n_deliveries, n_commands,
    more_events or left_over or turns_open > 0 or pos.win is not null or pos.aside_xids is not null;
end $$;
`
}
