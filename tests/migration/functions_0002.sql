-- What migrate() made of a schema with one collection, tallies, at revision 0002. Of
-- pend_commit and pend_apply the parts for other collections are left out.
create or replace function pend_guard(_epoch bigint)
returns boolean language plpgsql stable as $pend$
declare _state jsonb; _role text; _at bigint;
begin
  select value into _state from store_meta where name = 'role';
  _role := coalesce(_state ->> 'role', 'primary');
  _at := coalesce((_state ->> 'epoch')::bigint, 0);
  if _role <> 'primary' or _epoch <> _at then
    raise exception using errcode = 'PEND1', message = format('stale %s %s', _role, _at);
  end if;
  return true;
end $pend$;

create or replace function pend_kept(_after bigint)
returns boolean language plpgsql stable as $pend$
declare _oldest bigint;
begin
  select (value #>> '{}')::bigint into _oldest
    from store_meta where name = 'postgres.pruned';
  if _after < _oldest then
    raise exception using errcode = 'PEND2', message = format('expired %s %s', _after, _oldest);
  end if;
  return true;
end $pend$;

create or replace function pend_horizon()
returns bigint language plpgsql as $pend$
declare _last bigint; _since timestamptz; _safe bigint; _next bigint; _offset bigint;
        _primary boolean;
begin
  select coalesce((value #>> '{}')::bigint, 0) into _offset
    from store_meta where name = 'postgres.offset';
  _offset := coalesce(_offset, 0);
  _safe := (_offset + pg_snapshot_xmin(pg_current_snapshot())::text::bigint)
    * 1024 - 1;
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
  _next := _offset + pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
  if _last >= _next * 1024 then
    insert into store_meta (name, value)
    values ('postgres.offset', to_jsonb(_last / 1024 - (_next - _offset) + 1))
    on conflict (name) do update set value = excluded.value;
  end if;
  return _last;
end $pend$;

create or replace function pend_put_tallies(
  _epoch bigint, _key text, _body json, _expected bigint
) returns text language plpgsql as $pend$
declare _held boolean; _state jsonb; _at bigint; _offset bigint; _sequence bigint;
        _grave bigint; _version bigint;
begin
  _held := pg_advisory_xact_lock_shared(8099000882608500594) is not null
    and pg_advisory_xact_lock(
      hashtextextended('tallies' || chr(1) || _key, 0)) is not null;
  select (select value from store_meta where name = 'role'),
         (select (value #>> '{}')::bigint from store_meta where name = 'postgres.offset'),
         (select version from tombstones
           where collection = 'tallies' and key = _key)
    into _state, _offset, _grave;
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
  _sequence := (coalesce(_offset, 0) + pg_current_xact_id()::text::bigint) * 1024;
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
  _epoch bigint,
  _check_a bigint[], _check_c text[], _check_k text[], _check_v bigint[],
  _a bigint[], _c text[], _k text[], _b json[], _later bigint[], _gone text[]
) returns text language plpgsql as $pend$
declare 
  _state jsonb; _role text; _at bigint; _offset bigint; _sequence bigint;
  _many boolean := cardinality(_k) + cardinality(_check_k) > 256;
  _merged boolean := _a[1] < _a[cardinality(_a)];
  _versions bigint[] := array_fill(0::bigint, array[cardinality(_k)]);
  _failed bigint[] := '{}'; _actual bigint[] := '{}'; _conflicts text := '';
  _put jsonb; _out bigint[]; _most bigint := 0; _n bigint; _v bigint;
begin 
  if _many then
    perform pg_advisory_xact_lock(8099000882608500594);
  else
    perform pg_advisory_xact_lock_shared(8099000882608500594);
  end if;
  select (select value from store_meta where name = 'role'),
         (select (value #>> '{}')::bigint from store_meta where name = 'postgres.offset')
    into _state, _offset;
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
      select _failed || array_agg(u.n), _actual || array_agg(coalesce(t.version, 0))
        into _failed, _actual
        from unnest(_check_c, _check_k, _check_v) with ordinality as u (c, k, v, n)
        left join tallies as t on t.name = u.k
       where u.c = 'tallies' and coalesce(t.version, 0) <> u.v;
    end if;
    if cardinality(_failed) > 0 then
      select array_agg(z.a), string_agg(' ' || z.n || ':' || z.v, '') into _out, _conflicts
        from (select distinct on (_check_a[u.n]) _check_a[u.n] as a, u.n, u.v
                from unnest(_failed, _actual) as u (n, v) order by 1, 2) as z;
      select coalesce(array_agg(case when u.a <> all(_out) then u.later end order by n),
                      '{}') into _later
        from unnest(_a, _later) with ordinality as u (a, later, n);
    end if;
  end if;
  if cardinality(array_remove(_later, null)) = 0 then
    return _versions::text || _conflicts;
  end if;
  if _merged then
    select max(u) into _most from unnest(_later) as u;
  end if;

  _sequence := (coalesce(_offset, 0) + pg_current_xact_id()::text::bigint) * 1024;

  if 'tallies' = any(_gone) then
    for _n, _v in
      with gone as (
        delete from tallies as t
         using unnest(_a, _c, _k, _b, _later) with ordinality as u (a, c, k, b, later, n)
         where u.c = 'tallies' and u.b is null and u.later = 0 and t.name = u.k
        returning u.n, u.k, greatest(t.version + 1, _sequence + u.a) as version
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
    with fresh as materialized (
      select u.a as "batch#", u.k as "key#", x.*
        from unnest(_a, _c, _k, _b, _later) as u (a, c, k, b, later)
       cross join lateral json_to_record(u.b) as x ("name" text, "value" numeric)
       where u.c = 'tallies' and u.b is not null and u.later = 0
    ), dead as (
      delete from tombstones as d using fresh
       where d.collection = 'tallies' and d.key = fresh."key#"
      returning d.key, d.version
    ), put as (
      insert into tallies as t (name, value, version)
      select x."name", coalesce(x."value", '0'::bigint), greatest(_sequence + x."batch#", dead.version + 1 + _most)
        from fresh as x left join dead on dead.key = x."key#"
      on conflict (name) do update
        set value = excluded.value, version = greatest(t.version + 1 + _most, excluded.version)
        
      returning t.name as k, t.version
    )
    select jsonb_object_agg(k, version) into _put from put;
    for _n, _v in
      select u.n, (_put ->> u.k)::bigint
        from unnest(_c, _k, _b, _later) with ordinality as u (c, k, b, later, n)
       where u.c = 'tallies' and u.b is not null and u.later = 0
    loop
      if _v is null then
        raise exception using errcode = 'PEND3', message = 'split';
      end if;
      _versions[_n] := _v;
    end loop;
  end if;
  if _most > 0 then
    for _n, _v in
      select u.n, _versions[w.n] - u.later
        from unnest(_c, _k, _later) with ordinality as u (c, k, later, n)
        join unnest(_c, _k, _later) with ordinality as w (c, k, later, n)
          on w.c = u.c and w.k = u.k and w.later = 0
       where u.later > 0
    loop
      _versions[_n] := _v;
    end loop;
  end if;
  insert into changes (sequence, epoch, at, records)
  select _sequence + u.a, _at, clock_timestamp(),
         json_agg(json_build_array(u.c, u.k, u.v, u.b) order by u.n)
    from unnest(_a, _c, _k, _versions, _b) with ordinality as u (a, c, k, v, b, n)
   where u.v > 0
   group by u.a;
  return _versions::text || _conflicts;
end $pend$;

create or replace function pend_apply(
  _epoch bigint, _c text[], _k text[], _v bigint[], _b json[],
  _mark text, _mark_value jsonb
) returns text language plpgsql as $pend$
declare 
  _state jsonb; _role text; _at bigint; _offset bigint; _sequence bigint;
  _many boolean := cardinality(_k) > 256;
  _written bigint := 0; _n bigint;
begin 
  if _many then
    perform pg_advisory_xact_lock(8099000882608500594);
  else
    perform pg_advisory_xact_lock_shared(8099000882608500594);
  end if;
  select (select value from store_meta where name = 'role'),
         (select (value #>> '{}')::bigint from store_meta where name = 'postgres.offset')
    into _state, _offset;
  _role := coalesce(_state ->> 'role', 'primary');
  _at := coalesce((_state ->> 'epoch')::bigint, 0);
  if (_role <> 'secondary' or _epoch <> _at) and not (_state is null and _epoch is null) then
    return format('stale %s %s', _role, _at);
  end if;

  if not _many then
    perform case when alone then pg_advisory_xact_lock(h)
                 else pg_advisory_xact_lock_shared(h) end
      from (select hashtextextended(c || chr(1) || k, 0) as h, bool_or(w) as alone
              from unnest(_c, _k, array_fill(true, array[cardinality(_k)])) as u (c, k, w)
             group by 1 order by 1) as z;
  end if;
  set constraints all deferred;

  if 'tallies' = any(_c) then
    with fresh as materialized (
      select u.k, u.v, u.b from unnest(_c, _k, _v, _b) as u (c, k, v, b)
       where u.c = 'tallies' and u.b is not null and not exists (
         select from tombstones as d where d.collection = 'tallies'
            and d.key = u.k and d.version >= u.v)
         and not exists (  -- most are there already: the relay comes last
         select from tallies as t where t.name = u.k and t.version >= u.v)
    ), dead as (
      delete from tombstones as d using fresh
       where d.collection = 'tallies' and d.key = fresh.k
    ), put as (
      insert into tallies as t (name, value, version)
      select x."name", coalesce(x."value", '0'::bigint), fresh.v
        from fresh cross join lateral json_to_record(fresh.b) as x ("name" text, "value" numeric)
      on conflict (name) do update set value = excluded.value, version = excluded.version
        where t.version < excluded.version
      returning 1
    )
    select count(*) into _n from put;
    _written := _written + _n;
    with late as materialized (
      select u.k, u.v from unnest(_c, _k, _v, _b) as u (c, k, v, b)
       where u.c = 'tallies' and u.b is null and not exists (
         select from tallies as t where t.name = u.k and t.version >= u.v)
    ), gone as (
      delete from tallies as t using late where t.name = late.k
    ), grave as (
      insert into tombstones as d (collection, key, version)
      select 'tallies', k, v from late
      on conflict (collection, key) do update set version = excluded.version
        where d.version < excluded.version
      returning 1
    )
    select count(*) into _n from grave;
    _written := _written + _n;
  end if;
  if _mark is not null and _mark_value is null then
    delete from store_meta where name = _mark;
  elsif _mark is not null then
    insert into store_meta (name, value) values (_mark, _mark_value)
    on conflict (name) do update set value = excluded.value;
  end if;
  return _written::text;
end $pend$;

create or replace function pend_apply_enter(_epoch bigint)
returns text language plpgsql as $pend$
declare 
  _state jsonb; _role text; _at bigint; _offset bigint; _sequence bigint;
begin 
  if true then
    perform pg_advisory_xact_lock(8099000882608500594);
  else
    perform pg_advisory_xact_lock_shared(8099000882608500594);
  end if;
  select (select value from store_meta where name = 'role'),
         (select (value #>> '{}')::bigint from store_meta where name = 'postgres.offset')
    into _state, _offset;
  _role := coalesce(_state ->> 'role', 'primary');
  _at := coalesce((_state ->> 'epoch')::bigint, 0);
  if (_role <> 'secondary' or _epoch <> _at) and not (_state is null and _epoch is null) then
    return format('stale %s %s', _role, _at);
  end if;
  set constraints all deferred;
  return '';
end $pend$;
