/**
 * What attempts amount to, by endpoint and hour. Statistics are computed from the attempts themselves; for busy hours that are
 * over, the sums are kept, since a million attempts take 1.7 s to read (2 cores, Postgres 18).
 */
export function attemptHours(s: string): string {
  return /* sql */ `
-- Hours since 1970, each on its own: whatever time zone the session has.
create table ${s}.attempt_hours (
  endpoint int not null,
  hour int not null,
  succeeded int not null,
  failed int not null,
  -- Of the failed ones, how many ended their delivery; and ends without a send.
  ended int not null,
  expired int not null,
  cancelled int not null,
  -- A histogram of the time until an answer was there, see attempt_sums.
  buckets smallint[] not null,
  counts int[] not null,
  primary key (endpoint, hour)
);

-- The sums of an endpoint's attempts, by hour. Bucket b holds what took up to 1.05^b ms and more than 1.05^(b-1).
create function ${s}.attempt_sums(p_endpoint int, p_from timestamptz, p_until timestamptz)
returns table (hour int, succeeded int, failed int, ended int, expired int, cancelled int, buckets smallint[], counts int[])
language sql stable as $$
  with sums as materialized (
    select floor(extract(epoch from a.at) / 3600)::int as hour, a.outcome, a.final and a.step is not null as over,
      case when a.status is not null then ceil(ln(greatest(a.total_ms, 1)::float8) / ln(1.05::float8))::smallint end as bucket,
      count(*)::int as n
    from ${s}.attempts a
    where a.endpoint = p_endpoint and a.at >= p_from and a.at < p_until
    group by 1, 2, 3, 4
  ),
  latencies as (
    select b.hour, array_agg(b.bucket order by b.bucket) buckets, array_agg(b.n order by b.bucket) counts
    from (select s.hour, s.bucket, sum(s.n)::int n from sums s where s.bucket is not null group by 1, 2) b group by 1
  )
  select s.hour, coalesce(sum(s.n) filter (where s.outcome = 1), 0)::int, coalesce(sum(s.n) filter (where s.outcome = 2), 0)::int,
    coalesce(sum(s.n) filter (where s.outcome = 2 and s.over), 0)::int, coalesce(sum(s.n) filter (where s.outcome = 3), 0)::int,
    coalesce(sum(s.n) filter (where s.outcome = 4), 0)::int, coalesce(l.buckets, '{}'), coalesce(l.counts, '{}')
  from sums s left join latencies l on l.hour = s.hour group by s.hour, l.buckets, l.counts
$$;

-- Keeps the sums of one hour for those among the next endpoints that had many attempts in it. Answers the last endpoint that it
-- looked at, null at the end.
create function ${s}.roll_up(p_hour int, p_after int, p_endpoints int, p_many int) returns int language plpgsql as $$
declare
  from_time timestamptz := to_timestamp(p_hour * 3600::float8);
  until_time timestamptz := to_timestamp((p_hour + 1) * 3600::float8);
  looked int[];
begin
  looked := array(select e.no from ${s}.endpoints e
    where e.no > p_after and (e.deleted_at is null or e.deleted_at >= from_time) order by e.no limit p_endpoints);
  insert into ${s}.attempt_hours (endpoint, hour, succeeded, failed, ended, expired, cancelled, buckets, counts)
    select l.no, x.* from unnest(looked) l(no)
    cross join lateral (select from ${s}.attempts a where a.endpoint = l.no and a.at >= from_time and a.at < until_time
      offset p_many limit 1) many
    cross join lateral ${s}.attempt_sums(l.no, from_time, until_time) x
    on conflict do nothing;
  return case when cardinality(looked) = p_endpoints then looked[p_endpoints] end;
end $$;
`
}
