/**
 * Commands of transactions that were open at the dispatcher's last look are found by their index, one transaction after the
 * other. As a join the planner read all commands of the last hour for them, at each look, as soon as there were a few thousand.
 *
 * One place in a long function: what is replaced is the text of the function as it stands, whatever it has become by now.
 */
export function commandLookup(s: string): string {
  return /* sql */ `
do $do$ begin
  execute replace(pg_get_functiondef('${s}.dispatch(int, int)'::regprocedure),
    'pg_snapshot_xip(pos.snap) y join ${s}.commands c on c.xid = y',
    'pg_snapshot_xip(pos.snap) y cross join lateral (select x.* from ${s}.commands x where x.xid = y offset 0) c');
end $do$;
`
}
