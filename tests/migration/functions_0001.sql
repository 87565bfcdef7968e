-- What migrate() made of a schema with one collection, tallies, at revision 0001: the
-- functions that write. Of pend_commit the parts for other collections are left out.
create or replace function pend_horizon()
returns bigint language plpgsql as $pend$
declare _last bigint; _since timestamptz; _safe bigint; _next bigint; _base bigint;
        _primary boolean;
begin
  select coalesce((value #>> '{}')::bigint, 0) into _base
    from store_meta where name = 'postgres.base';
  _base := coalesce(_base, 0);
  _safe := _base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1;
  select at into _since from changes where sequence > _safe order by sequence limit 1;
  if not found then
    return _safe;
  end if;
  if not pg_try_advisory_xact_lock(8099000882608500594) then
    select coalesce(value ->> 'role', 'primary') = 'primary' into _primary
      from store_meta where name = 'role';
    if coalesce(_primary, true) and _since > clock_timestamp() - interval '1 s' then
      return _safe;
    end if;
    perform pg_advisory_xact_lock(8099000882608500594);
  end if;
  select max(sequence) into _last from changes;
  _next := _base + pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
  if _last >= _next then
    insert into store_meta (name, value)
    values ('postgres.base', to_jsonb(_last - (_next - _base) + 1))
    on conflict (name) do update set value = excluded.value;
  end if;
  return _last;
end $pend$;

create or replace function pend_put_tallies(
  _epoch bigint, _key text, _body json, _expected bigint
) returns text language plpgsql as $pend$
declare _held boolean; _state jsonb; _at bigint; _base bigint; _sequence bigint;
        _grave bigint; _version bigint;
begin
  _held := pg_advisory_xact_lock_shared(8099000882608500594) is not null
    and pg_advisory_xact_lock(
      hashtextextended('tallies' || chr(1) || _key, 0)) is not null;
  select (select value from store_meta where name = 'role'),
         (select (value #>> '{}')::bigint from store_meta where name = 'postgres.base'),
         (select version from tombstones
           where collection = 'tallies' and key = _key)
    into _state, _base, _grave;
  _at := coalesce((_state ->> 'epoch')::bigint, 0);
  if coalesce(_state ->> 'role', 'primary') <> 'primary' or _epoch <> _at then
    return format('stale %s %s', coalesce(_state ->> 'role', 'primary'), _at);
  end if;

  if _expected is not null then
    select version into _version from tallies where name = _key;
    if coalesce(_version, 0) <> _expected then
      return format('conflict 1 %s', coalesce(_version, 0));
    end if;
  end if;
  _sequence := coalesce(_base, 0) + pg_current_xact_id()::text::bigint;
  if _grave is not null then
    delete from tombstones where collection = 'tallies' and key = _key;
  end if;
  insert into tallies as t (name, value, version)
  select x."name", coalesce(x."value", '0'::bigint), greatest(_sequence, _grave + 1)
    from json_to_record(_body) as x ("name" text, "value" numeric)
  on conflict (name) do update
    set value = excluded.value, version = greatest(t.version + 1, excluded.version)
  returning t.version into _version;
  insert into changes (sequence, epoch, at, records)
  values (_sequence, _at, clock_timestamp(), json_build_array(
    json_build_array('tallies', _key, _version, _body)));
  return _version::text;
end $pend$;

create or replace function pend_commit(
  _epoch bigint, _check_c text[], _check_k text[], _check_v bigint[],
  _c text[], _k text[], _b json[]
) returns text language plpgsql as $pend$
declare 
  _state jsonb; _role text; _at bigint; _base bigint; _sequence bigint;
  _many boolean := cardinality(_k) + cardinality(_check_k) > 256;
  _versions bigint[] := array_fill(0::bigint, array[cardinality(_k)]);
  _first bigint; _actual bigint; _n bigint; _v bigint;
begin 
  if _many then
    perform pg_advisory_xact_lock(8099000882608500594);
  else
    perform pg_advisory_xact_lock_shared(8099000882608500594);
  end if;
  select (select value from store_meta where name = 'role'),
         (select (value #>> '{}')::bigint from store_meta where name = 'postgres.base')
    into _state, _base;
  _role := coalesce(_state ->> 'role', 'primary');
  _at := coalesce((_state ->> 'epoch')::bigint, 0);
  if _role <> 'primary' or _epoch <> _at then
    return format('stale %s %s', _role, _at);
  end if;

  if not _many then
    perform case when alone then pg_advisory_xact_lock(h)
                 else pg_advisory_xact_lock_shared(h) end
      from (select hashtextextended(c || chr(1) || k, 0) as h, bool_or(w) as alone
              from unnest(_c || _check_c, _k || _check_k, array_fill(true, array[cardinality(_k)]) || array_fill(false, array[cardinality(_check_k)])) as u (c, k, w)
             group by 1 order by 1) as z;
  end if;
  if cardinality(_check_k) > 0 then
    if 'tallies' = any(_check_c) then
      select u.n, coalesce(t.version, 0) into _n, _v
        from unnest(_check_c, _check_k, _check_v) with ordinality as u (c, k, v, n)
        left join tallies as t on t.name = u.k
       where u.c = 'tallies' and coalesce(t.version, 0) <> u.v
       order by u.n limit 1;
      if _n < _first or _first is null then
        _first := _n; _actual := _v;
      end if;
    end if;
    if _first is not null then
      return format('conflict %s %s', _first, _actual);
    end if;
  end if;
  if cardinality(_k) = 0 then
    return '{}';
  end if;
  _sequence := coalesce(_base, 0) + pg_current_xact_id()::text::bigint;

  if 'tallies' = any(_c) then
    for _n, _v in
      with gone as (
        delete from tallies as t
         using unnest(_c, _k, _b) with ordinality as u (c, k, b, n)
         where u.c = 'tallies' and u.b is null and t.name = u.k
        returning u.n, u.k, greatest(t.version + 1, _sequence) as version
      ), grave as (
        insert into tombstones (collection, key, version)
        select 'tallies', k, version from gone
        on conflict (collection, key) do update
          set version = greatest(tombstones.version, excluded.version)
      )
      select n, version from gone
    loop
      _versions[_n] := _v;
    end loop;
  end if;
  if 'tallies' = any(_c) then
    for _n, _v in
      with fresh as materialized (
        select u.k, u.b, u.n from unnest(_c, _k, _b) with ordinality as u (c, k, b, n)
         where u.c = 'tallies' and u.b is not null
      ), dead as (
        delete from tombstones as d using fresh
         where d.collection = 'tallies' and d.key = fresh.k
        returning d.key, d.version
      ), put as (
        insert into tallies as t (name, value, version)
        select x."name", coalesce(x."value", '0'::bigint), greatest(_sequence, dead.version + 1)
          from fresh left join dead on dead.key = fresh.k
         cross join lateral json_to_record(fresh.b) as x ("name" text, "value" numeric)
        on conflict (name) do update
          set value = excluded.value, version = greatest(t.version + 1, excluded.version)
        returning t.name as k, t.version
      )
      select fresh.n, put.version from put join fresh on fresh.k = put.k
    loop
      _versions[_n] := _v;
    end loop;
  end if;
  insert into changes (sequence, epoch, at, records)
  select _sequence, _at, clock_timestamp(),
         json_agg(json_build_array(u.c, u.k, u.v, u.b) order by u.n)
    from unnest(_c, _k, _versions, _b) with ordinality as u (c, k, v, b, n)
   where u.v > 0
  having count(*) > 0;
  return _versions::text;
end $pend$;

