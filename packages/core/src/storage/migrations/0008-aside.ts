import { endOfWaiting, HELD_TAG } from './0008-turns.ts'

/**
 * The rest of a large transaction of one account is laid aside: the dispatcher's window goes on behind it at once, and it is
 * read beside the window, page by page, into the account's turns. Reading a million events takes seconds, and without this
 * everybody whose events were committed later would wait for it.
 *
 * Whose the events of that rest are is not known before they are read: it begins with many of one account, which is reason enough
 * to lay it aside, but others may follow. So each account that is found in the window meanwhile is looked up by the index of its
 * own events, and what has an earlier event in there is held: its chunks have tags from `HELD_TAG` on, which are no time yet, and get
 * their place when the rest is read. So each account's events keep their order.
 *
 * Several may be aside, and are read in their order. What is aside comes before what is held: a transaction that has something of an
 * account of which something is held already is read in its place in the window.
 */
export function aside(s: string): string {
  return `${read(s)}${held(s)}`
}

function read(s: string): string {
  return /* sql */ `
create function ${s}.last_event_of(p_xid xid8, p_after uuid) returns uuid language sql stable
set search_path = pg_catalog, pg_temp as $$
  select e.id from ${s}.events e
  where (e.xid, e.id) > (p_xid, p_after) and (e.xid, e.id) <= (p_xid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by e.xid desc, e.id desc limit 1
$$;

create function ${s}.events_aside(p_xid xid8, p_after uuid, p_limit int, out ids uuid[], out accounts text[], out types text[],
  out keys text[])
language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(array_agg(e.id order by e.id), '{}'), coalesce(array_agg(e.account order by e.id), '{}'),
    coalesce(array_agg(e.type order by e.id), '{}'), coalesce(array_agg(e.idempotency_key order by e.id), '{}')
  from (
    select e.id, e.account, e.type, e.idempotency_key from ${s}.events e
    where (e.xid, e.id) > (p_xid, p_after) and (e.xid, e.id) <= (p_xid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by e.xid, e.id limit p_limit) e
$$;

-- Those of the accounts that have an event aside. By the index of each account's own events, whatever the statistics say: the one
-- by transaction would go through all that is aside. Of an account that has emitted more than p_most others in that time it is
-- taken for granted.
create function ${s}.accounts_aside(p_accounts text[], p_xids xid8[], p_afters uuid[], p_lasts uuid[], p_most int) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(array_agg(a.account), '{}') from (select distinct unnest(p_accounts) account) a
  where exists (select from unnest(p_xids, p_afters, p_lasts) t(xid, after, last)
    where (select true from (
        select e.xid, row_number() over (order by e.account, e.id) n from ${s}.events e
        where (e.account, e.id) > (a.account, t.after) and (e.account, e.id) <= (a.account, t.last)
        order by e.account, e.id limit p_most + 1) own
      where own.xid = t.xid or own.n > p_most limit 1))
$$;

-- Whether what is held has anything in this transaction, behind p_after and through p_last: then it cannot be laid aside, since
-- what is aside comes before what is held.
create function ${s}.held_has_later(p_xid xid8, p_after uuid, p_last uuid, p_most int) returns boolean language sql stable
set search_path = pg_catalog, pg_temp as $$
  select ${s}.accounts_aside(array(select t.account from ${s}.turns t where t.tag >= ${HELD_TAG}), array[p_xid], array[p_after],
    array[p_last], p_most) <> '{}'
$$;
`
}

function held(s: string): string {
  return /* sql */ `
-- Nothing is aside any more: what was held has its place behind what waits of its account, or as the next at all.
create function ${s}.release_held(p_tag bigint, p_n bigint) returns void language sql set search_path = pg_catalog, pg_temp as $$
  with starts as materialized (
    select a.account, greatest(p_tag + 1, ${endOfWaiting(s, 'a.account', HELD_TAG)}) tag
    from (select distinct t.account from ${s}.turns t where t.tag >= ${HELD_TAG}) a
  )
  update ${s}.turns t set tag = t.tag - ${HELD_TAG} + starts.tag from starts
    where starts.account = t.account and t.tag >= ${HELD_TAG}
$$;
`
}
