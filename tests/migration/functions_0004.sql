-- What migrate() made of a schema with one collection, tallies, at revision 0004.
create or replace function "public".pend_is_member(_role$ oid)
returns boolean language plpgsql stable set search_path = pg_catalog, pg_temp as $pend$
begin
  return exists (
    select from pg_roles as r$
     where has_table_privilege(r$.oid, '"public".pend_store_lock'::regclass, 'update')
       and pg_has_role(_role$, r$.oid, 'member'));
end $pend$;
create or replace function "public".pend_is_strangers(_lock$ bigint)
returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $pend$
begin
  return exists (
    select from pg_locks as l$ left join pg_stat_activity as a$ on a$.pid = l$.pid
     where l$.locktype = 'advisory' and l$.objsubid = 1 and l$.database = (select b$.oid from pg_database as b$ where b$.datname = current_database())
       and l$.classid = ((_lock$ >> 32) & 4294967295)::oid
       and l$.objid = (_lock$ & 4294967295)::oid
       and l$.pid is distinct from pg_backend_pid()
       and "public".pend_is_member(a$.usesysid) is not true);
end $pend$;
create or replace function "public".pend_await(_lock$ bigint, _shared$ boolean)
returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $pend$
declare _patience$ text := current_setting('lock_timeout');
        _until$ timestamptz := case when _patience$ = '0' then 'infinity'::timestamptz
                                    else clock_timestamp() + _patience$::interval end;
        _step$ numeric := 250;
begin
  if current_setting('pend_storage.stranger_found', true) = 'yes' then
    return false;
  end if;
  loop
    begin
      perform set_config('lock_timeout', ceil(greatest(1, least(_step$,
        case when _patience$ = '0' then _step$
             else extract(epoch from _until$ - clock_timestamp()) * 1000 end)))::text,
        true);
      if _shared$ then
        perform pg_advisory_xact_lock_shared(_lock$);
      else
        perform pg_advisory_xact_lock(_lock$);
      end if;
      perform set_config('lock_timeout', _patience$, true);
      return true;
    exception when lock_not_available then
      if "public".pend_is_strangers(_lock$) then
        perform set_config('pend_storage.stranger_found', 'yes', true);
        return false;
      end if;
      if clock_timestamp() >= _until$ then
        raise exception using errcode = '55P03',
          message = 'canceling statement due to lock timeout';
      end if;
      _step$ := 1000;
    end;
  end loop;
end $pend$;
create or replace function "public".pend_lock_name(
  _queue$ bigint, _name$ integer, _mine$ integer, _wait$ boolean
) returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $pend$
begin
  if not pg_try_advisory_xact_lock(_queue$) then
    if _wait$ then
      perform "public".pend_await(_queue$, false);
    elsif not "public".pend_is_strangers(_queue$) then
      return false;
    end if;
  end if;
  if not pg_try_advisory_xact_lock(_name$, _mine$) then
    return false;
  end if;
  return not exists (
    select from pg_locks as l$ join pg_stat_activity as a$ on a$.pid = l$.pid
     where l$.locktype = 'advisory' and l$.objsubid = 2 and l$.database = (select b$.oid from pg_database as b$ where b$.datname = current_database())
       and l$.classid = (_name$::bigint & 4294967295)::oid and l$.granted
       and l$.pid <> pg_backend_pid() and "public".pend_is_member(a$.usesysid));
end $pend$;
create or replace function "public".pend_guard(_epoch$ bigint)
returns boolean language plpgsql stable set search_path = pg_catalog, pg_temp as $pend$
declare _state$ jsonb; _role$ text; _at$ bigint;
begin
  select m$.value into _state$ from "public".store_meta as m$ where m$.name = 'role';
  _role$ := coalesce(_state$ ->> 'role', 'primary');
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if _role$ <> 'primary' or _epoch$ <> _at$ then
    raise exception using errcode = 'PEND1', message = format('stale %s %s', _role$, _at$);
  end if;
  return true;
end $pend$;
create or replace function "public".pend_kept(_after$ bigint)
returns boolean language plpgsql stable set search_path = pg_catalog, pg_temp as $pend$
declare _oldest$ bigint;
begin
  select (m$.value #>> '{}')::bigint into _oldest$
    from "public".store_meta as m$ where m$.name = 'postgres.pruned';
  if _after$ < _oldest$ then
    raise exception using errcode = 'PEND2',
      message = format('expired %s %s', _after$, _oldest$);
  end if;
  return true;
end $pend$;
create or replace function "public".pend_changes(
  _after$ bigint, _upto$ bigint, _most$ bigint, _bytes$ bigint
) returns table (sequence$ bigint, epoch$ bigint, at$ timestamptz, records$ json,
                 token$ uuid, by$ text, reason$ text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $pend$
begin
  perform "public".pend_kept(_after$);
  for sequence$, epoch$, at$, records$, token$, by$, reason$ in
    select c$.sequence, c$.epoch, c$.at, c$.records, c$.token, c$."by", c$.reason
      from "public".changes as c$
     where c$.sequence > _after$ and c$.sequence <= _upto$
     order by c$.sequence limit _most$
  loop
    return next;
    _bytes$ := _bytes$ - octet_length(records$::text);
    exit when _bytes$ <= 0;
  end loop;
end $pend$;
create or replace function "public".pend_found(_tokens$ uuid[])
returns text language plpgsql stable set search_path = pg_catalog, pg_temp as $pend$
begin
  return (
    select 'done' || string_agg(' ' || (u$.n$ - 1), '')
      from unnest(_tokens$) with ordinality as u$ (t$, n$)
      join "public".changes as c$ on c$.token = u$.t$);
end $pend$;
create or replace function "public".pend_whole(_old$ json, _new$ json, _known$ text[])
returns json language plpgsql immutable set search_path = pg_catalog, pg_temp as $pend$
declare _name$ text;
begin
  select m$.k$ into _name$ from json_object_keys(_new$) as m$ (k$)
   where m$.k$ <> all(_known$) limit 1;
  if _name$ is not null then
    raise exception using errcode = 'PEND4', message = format('no column %s', _name$);
  end if;
  if _old$ is null then
    return _new$;
  end if;
  return (
    select json_object_agg(o$.key, coalesce(n$.value, o$.value))
      from json_each(_old$) as o$ left join json_each(_new$) as n$ on n$.key = o$.key);
end $pend$;
create or replace function "public".pend_horizon()
returns bigint language plpgsql set search_path = pg_catalog, pg_temp as $pend$
declare _offset$ bigint; _role$ text; _low$ bigint; _high$ bigint; _end$ bigint;
        _safe$ bigint; _oldest$ bigint;
begin
  select coalesce((select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), 0),
         (select m$.value ->> 'role' from "public".store_meta as m$ where m$.name = 'role'),
         pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint, pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint, (select max(c$.sequence) from "public".changes as c$)
    into _offset$, _role$, _low$, _high$, _end$;
  _safe$ := (_offset$ + _low$) * 1024 - 1;
  if _end$ is null or _end$ <= _safe$ then
    return _safe$;
  end if;
  if _role$ <> 'primary' then
    return _end$;
  end if;
  -- Of open ids there are 32 bits; none is 2^31 away from the next one.
  select min(_high$ + ((a$.backend_xid::text::bigint - _high$ + 2147483648)
                       & 4294967295) - 2147483648)
    into _oldest$
    from pg_locks as l$ join pg_stat_activity as a$ on a$.pid = l$.pid
   where l$.locktype = 'relation' and l$.granted
     and l$.relation = '"public".pend_store_lock'::regclass
     and l$.mode in ('RowShareLock', 'ExclusiveLock')
     and l$.database = (select b$.oid from pg_database as b$
                         where b$.datname = current_database())
     and a$.backend_xid is not null;
  if _oldest$ is null and _end$ >= (_offset$ + _high$) * 1024 then
    return _end$;  -- numbers of another server: later commits are put above them
  end if;
  return (_offset$ + least(_high$, _oldest$)) * 1024 - 1;
end $pend$;
create or replace function "public".pend_renumber()
returns bigint language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $pend$
declare _top$ bigint; _next$ bigint; _offset$ bigint;
begin
  select greatest(0,
    (select max(t$.version) from "public".tombstones as t$),
    (select max(t$.version) from "public".tallies as t$),
    (select max(t$.version) from "public".quarantine as t$),
    (select max(t$.version) from "public".legacy_files as t$),
    (select max(t$.version) from "public".findings as t$),
    (select max((m$.value ->> n$.n$)::numeric)::bigint
       from "public".store_meta as m$, unnest(array['after', 'base', 'head']) as n$ (n$)
      where jsonb_typeof(m$.value) = 'object'
        and jsonb_typeof(m$.value -> n$.n$) = 'number'
        and (m$.value ->> n$.n$)::numeric < 4611686018427387904),
      (select max(c$.sequence) from "public".changes as c$),
      (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.pruned'::text))
    into _top$;
  select coalesce((select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), 0), pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint into _offset$, _next$;
  if _top$ < (_offset$ + _next$) * 1024 then
    return _offset$;
  end if;
  lock table "public".pend_store_lock in exclusive mode;
  _top$ := greatest(_top$ + 2 * 1024, (select max(c$.sequence) from "public".changes as c$),
      (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.pruned'::text));
  select coalesce((select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), 0), pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint into _offset$, _next$;
  if _top$ >= (_offset$ + _next$) * 1024 then
    _offset$ := _top$ / 1024 - _next$ + 1;
    insert into "public".store_meta as m$ (name, value)
    values ('postgres.numbering', to_jsonb(_offset$))
    on conflict (name) do update set value = excluded.value
      where (m$.value #>> '{}')::bigint < (excluded.value #>> '{}')::bigint;
  end if;
  return _offset$;
end $pend$;
create or replace function "public".pend_put_tallies(
  _epoch$ bigint, _key$ text, _body$ json, _expected$ bigint,
  _token$ uuid, _by$ text, _reason$ text, _again$ boolean, _patience$ text, _alone$ boolean
) returns text language plpgsql set search_path = pg_catalog, pg_temp as $pend$
declare _held$ boolean := true; _state$ jsonb; _at$ bigint; _offset$ bigint; _end$ bigint;
        _sequence$ bigint; _grave$ bigint; _version$ bigint; _value$ bigint;
        _fits$ boolean;
begin
  if _patience$ is not null then
    perform set_config('lock_timeout', _patience$, true);
  end if;
  if _alone$ then
    perform set_config('lock_timeout', '200ms', true);
    lock table "public".pend_store_lock in exclusive mode;
  else
    _value$ := hashtextextended('tallies' || chr(1) || _key$, 0::bigint);
    _held$ := (case when pg_try_advisory_xact_lock(_value$) then true else "public".pend_await(_value$, false) end);
  if not _held$ then
    return 'alone';
  end if;
    lock table "public".pend_store_lock in row share mode;
  end if;
  select (select m$.value from "public".store_meta as m$ where m$.name = 'role'),
         (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), (select e$.sequence from "public".changes as e$ order by e$.sequence desc limit 1),
         (select d$.version from "public".tombstones as d$
           where d$.collection = 'tallies' and d$.key = _key$),
         (select count(*) = 2 and bool_and(m$.k$ = any(array['name', 'value']::text[])) from json_object_keys(_body$) as m$ (k$))
    into _state$, _offset$, _end$, _grave$, _fits$;
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if coalesce(_state$ ->> 'role', 'primary') <> 'primary' or _epoch$ <> _at$ then
    return case when exists (select from "public".changes as f$ where f$.token = _token$) then 'done' else format('stale %s %s', coalesce(_state$ ->> 'role', 'primary'), _at$) end;
  end if;
  if _again$ then  -- apart: an expression with a query in it is never cheap
    if exists (select from "public".changes as f$ where f$.token = _token$) then
      return 'done';
    end if;
  end if;

  if _expected$ is not null then
    select t$.version into _version$ from "public".tallies as t$ where t$.name = _key$;
    if coalesce(_version$, 0) <> _expected$ then
      return case when exists (select from "public".changes as f$ where f$.token = _token$) then 'done' else format('conflict 1 %s', coalesce(_version$, 0)) end;
    end if;
  end if;
  _sequence$ := (coalesce(_offset$, 0) + pg_current_xact_id()::text::bigint) * 1024;
  if _end$ is null then  -- apart, because it is rare
    _end$ := (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.pruned'::text);
  end if;
  if _sequence$ <= _end$ then
    return 'renumber';
  end if;
  if not _fits$ then
    select "public".pend_whole((select (pg_catalog.json_build_object('name', t$.name, 'value', t$.value))::json from "public".tallies as t$ where t$.name = _key$),
                      _body$, array['name', 'value']::text[]) into _body$;
  end if;
  if _grave$ is not null then
    delete from "public".tombstones as d$
     where d$.collection = 'tallies' and d$.key = _key$;
  end if;
  insert into "public".tallies as t$ (name, value, version)
  select x$."name", coalesce(x$."value", '0'::bigint), greatest(_sequence$, _grave$ + 1)
    from json_to_record(_body$) as x$ ("name" text, "value" numeric)
  on conflict (name) do update
    set value = excluded.value, version = greatest(t$.version + 1, excluded.version)
  returning t$.version into _version$;
  insert into "public".changes (sequence, epoch, at, records, token, "by", reason)
  values (_sequence$, _at$, clock_timestamp(), json_build_array(
    json_build_array('tallies', _key$, _version$, _body$)), _token$, _by$, _reason$);
  return _version$::text;
end $pend$;
create or replace function "public".pend_put_quarantine(
  _epoch$ bigint, _key$ text, _body$ json, _expected$ bigint,
  _token$ uuid, _by$ text, _reason$ text, _again$ boolean, _patience$ text, _alone$ boolean
) returns text language plpgsql set search_path = pg_catalog, pg_temp as $pend$
declare _held$ boolean := true; _state$ jsonb; _at$ bigint; _offset$ bigint; _end$ bigint;
        _sequence$ bigint; _grave$ bigint; _version$ bigint; _value$ bigint;
        _fits$ boolean;
begin
  if _patience$ is not null then
    perform set_config('lock_timeout', _patience$, true);
  end if;
  if _alone$ then
    perform set_config('lock_timeout', '200ms', true);
    lock table "public".pend_store_lock in exclusive mode;
  else
    _value$ := hashtextextended('quarantine' || chr(1) || _key$, 0::bigint);
    _held$ := (case when pg_try_advisory_xact_lock(_value$) then true else "public".pend_await(_value$, false) end);
  if not _held$ then
    return 'alone';
  end if;
    lock table "public".pend_store_lock in row share mode;
  end if;
  select (select m$.value from "public".store_meta as m$ where m$.name = 'role'),
         (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), (select e$.sequence from "public".changes as e$ order by e$.sequence desc limit 1),
         (select d$.version from "public".tombstones as d$
           where d$.collection = 'quarantine' and d$.key = _key$),
         (select count(*) = 10 and bool_and(m$.k$ = any(array['id', 'file', 'place', 'position', 'raw', 'code', 'reason', 'status', 'note', 'seen_at']::text[])) from json_object_keys(_body$) as m$ (k$))
    into _state$, _offset$, _end$, _grave$, _fits$;
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if coalesce(_state$ ->> 'role', 'primary') <> 'primary' or _epoch$ <> _at$ then
    return case when exists (select from "public".changes as f$ where f$.token = _token$) then 'done' else format('stale %s %s', coalesce(_state$ ->> 'role', 'primary'), _at$) end;
  end if;
  if _again$ then  -- apart: an expression with a query in it is never cheap
    if exists (select from "public".changes as f$ where f$.token = _token$) then
      return 'done';
    end if;
  end if;

  if _expected$ is not null then
    select t$.version into _version$ from "public".quarantine as t$ where t$.id = _key$;
    if coalesce(_version$, 0) <> _expected$ then
      return case when exists (select from "public".changes as f$ where f$.token = _token$) then 'done' else format('conflict 1 %s', coalesce(_version$, 0)) end;
    end if;
  end if;
  _sequence$ := (coalesce(_offset$, 0) + pg_current_xact_id()::text::bigint) * 1024;
  if _end$ is null then  -- apart, because it is rare
    _end$ := (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.pruned'::text);
  end if;
  if _sequence$ <= _end$ then
    return 'renumber';
  end if;
  if not _fits$ then
    select "public".pend_whole((select (pg_catalog.json_build_object('id', t$.id, 'file', t$.file, 'place', t$.place, 'position', t$.position, 'raw', pg_catalog.translate(pg_catalog.encode(t$.raw, 'base64'::text), pg_catalog.chr(10), ''::text), 'code', t$.code, 'reason', t$.reason, 'status', t$.status, 'note', t$.note, 'seen_at', pg_catalog.to_char(pg_catalog.timezone('UTC'::text, t$.seen_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text)))::json from "public".quarantine as t$ where t$.id = _key$),
                      _body$, array['id', 'file', 'place', 'position', 'raw', 'code', 'reason', 'status', 'note', 'seen_at']::text[]) into _body$;
  end if;
  if _grave$ is not null then
    delete from "public".tombstones as d$
     where d$.collection = 'quarantine' and d$.key = _key$;
  end if;
  insert into "public".quarantine as t$ (id, file, place, position, raw, code, reason, status, note, seen_at, version)
  select x$."id", x$."file", x$."place", x$."position", decode(x$."raw", 'base64'), x$."code", x$."reason", coalesce(x$."status", 'waiting'::text), x$."note", x$."seen_at", greatest(_sequence$, _grave$ + 1)
    from json_to_record(_body$) as x$ ("id" text, "file" text, "place" text, "position" numeric, "raw" text, "code" text, "reason" text, "status" text, "note" text, "seen_at" timestamp with time zone)
  on conflict (id) do update
    set file = excluded.file, place = excluded.place, position = excluded.position, raw = excluded.raw, code = excluded.code, reason = excluded.reason, status = excluded.status, note = excluded.note, seen_at = excluded.seen_at, version = greatest(t$.version + 1, excluded.version)
  returning t$.version into _version$;
  insert into "public".changes (sequence, epoch, at, records, token, "by", reason)
  values (_sequence$, _at$, clock_timestamp(), json_build_array(
    json_build_array('quarantine', _key$, _version$, _body$)), _token$, _by$, _reason$);
  return _version$::text;
end $pend$;
create or replace function "public".pend_put_legacy_files(
  _epoch$ bigint, _key$ text, _body$ json, _expected$ bigint,
  _token$ uuid, _by$ text, _reason$ text, _again$ boolean, _patience$ text, _alone$ boolean
) returns text language plpgsql set search_path = pg_catalog, pg_temp as $pend$
declare _held$ boolean := true; _state$ jsonb; _at$ bigint; _offset$ bigint; _end$ bigint;
        _sequence$ bigint; _grave$ bigint; _version$ bigint; _value$ bigint;
        _fits$ boolean;
begin
  if _patience$ is not null then
    perform set_config('lock_timeout', _patience$, true);
  end if;
  if _alone$ then
    perform set_config('lock_timeout', '200ms', true);
    lock table "public".pend_store_lock in exclusive mode;
  else
    _value$ := hashtextextended('legacy_files' || chr(1) || _key$, 0::bigint);
    _held$ := (case when pg_try_advisory_xact_lock(_value$) then true else "public".pend_await(_value$, false) end);
  if not _held$ then
    return 'alone';
  end if;
    lock table "public".pend_store_lock in row share mode;
  end if;
  select (select m$.value from "public".store_meta as m$ where m$.name = 'role'),
         (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), (select e$.sequence from "public".changes as e$ order by e$.sequence desc limit 1),
         (select d$.version from "public".tombstones as d$
           where d$.collection = 'legacy_files' and d$.key = _key$),
         (select count(*) = 3 and bool_and(m$.k$ = any(array['file', 'format', 'envelope']::text[])) from json_object_keys(_body$) as m$ (k$))
    into _state$, _offset$, _end$, _grave$, _fits$;
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if coalesce(_state$ ->> 'role', 'primary') <> 'primary' or _epoch$ <> _at$ then
    return case when exists (select from "public".changes as f$ where f$.token = _token$) then 'done' else format('stale %s %s', coalesce(_state$ ->> 'role', 'primary'), _at$) end;
  end if;
  if _again$ then  -- apart: an expression with a query in it is never cheap
    if exists (select from "public".changes as f$ where f$.token = _token$) then
      return 'done';
    end if;
  end if;

  if _expected$ is not null then
    select t$.version into _version$ from "public".legacy_files as t$ where t$.file = _key$;
    if coalesce(_version$, 0) <> _expected$ then
      return case when exists (select from "public".changes as f$ where f$.token = _token$) then 'done' else format('conflict 1 %s', coalesce(_version$, 0)) end;
    end if;
  end if;
  _sequence$ := (coalesce(_offset$, 0) + pg_current_xact_id()::text::bigint) * 1024;
  if _end$ is null then  -- apart, because it is rare
    _end$ := (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.pruned'::text);
  end if;
  if _sequence$ <= _end$ then
    return 'renumber';
  end if;
  if not _fits$ then
    select "public".pend_whole((select (pg_catalog.json_build_object('file', t$.file, 'format', t$.format, 'envelope', t$.envelope))::json from "public".legacy_files as t$ where t$.file = _key$),
                      _body$, array['file', 'format', 'envelope']::text[]) into _body$;
  end if;
  if _grave$ is not null then
    delete from "public".tombstones as d$
     where d$.collection = 'legacy_files' and d$.key = _key$;
  end if;
  insert into "public".legacy_files as t$ (file, format, envelope, version)
  select x$."file", coalesce(x$."format", '{}'::jsonb), coalesce(x$."envelope", 'null'::jsonb), greatest(_sequence$, _grave$ + 1)
    from json_to_record(_body$) as x$ ("file" text, "format" jsonb, "envelope" jsonb)
  on conflict (file) do update
    set format = excluded.format, envelope = excluded.envelope, version = greatest(t$.version + 1, excluded.version)
  returning t$.version into _version$;
  insert into "public".changes (sequence, epoch, at, records, token, "by", reason)
  values (_sequence$, _at$, clock_timestamp(), json_build_array(
    json_build_array('legacy_files', _key$, _version$, _body$)), _token$, _by$, _reason$);
  return _version$::text;
end $pend$;
create or replace function "public".pend_put_findings(
  _epoch$ bigint, _key$ text, _body$ json, _expected$ bigint,
  _token$ uuid, _by$ text, _reason$ text, _again$ boolean, _patience$ text, _alone$ boolean
) returns text language plpgsql set search_path = pg_catalog, pg_temp as $pend$
declare _held$ boolean := true; _state$ jsonb; _at$ bigint; _offset$ bigint; _end$ bigint;
        _sequence$ bigint; _grave$ bigint; _version$ bigint; _value$ bigint;
        _fits$ boolean;
begin
  if _patience$ is not null then
    perform set_config('lock_timeout', _patience$, true);
  end if;
  if _alone$ then
    perform set_config('lock_timeout', '200ms', true);
    lock table "public".pend_store_lock in exclusive mode;
  else
    _value$ := hashtextextended('findings' || chr(1) || _key$, 0::bigint);
    _held$ := (case when pg_try_advisory_xact_lock(_value$) then true else "public".pend_await(_value$, false) end);
  if not _held$ then
    return 'alone';
  end if;
    lock table "public".pend_store_lock in row share mode;
  end if;
  select (select m$.value from "public".store_meta as m$ where m$.name = 'role'),
         (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), (select e$.sequence from "public".changes as e$ order by e$.sequence desc limit 1),
         (select d$.version from "public".tombstones as d$
           where d$.collection = 'findings' and d$.key = _key$),
         (select count(*) = 12 and bool_and(m$.k$ = any(array['id', 'collection', 'key', 'kind', 'state', 'source', 'primary_version', 'secondary_version', 'differences', 'quarantined', 'first_seen', 'last_seen']::text[])) from json_object_keys(_body$) as m$ (k$))
    into _state$, _offset$, _end$, _grave$, _fits$;
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if coalesce(_state$ ->> 'role', 'primary') <> 'primary' or _epoch$ <> _at$ then
    return case when exists (select from "public".changes as f$ where f$.token = _token$) then 'done' else format('stale %s %s', coalesce(_state$ ->> 'role', 'primary'), _at$) end;
  end if;
  if _again$ then  -- apart: an expression with a query in it is never cheap
    if exists (select from "public".changes as f$ where f$.token = _token$) then
      return 'done';
    end if;
  end if;

  if _expected$ is not null then
    select t$.version into _version$ from "public".findings as t$ where t$.id = _key$;
    if coalesce(_version$, 0) <> _expected$ then
      return case when exists (select from "public".changes as f$ where f$.token = _token$) then 'done' else format('conflict 1 %s', coalesce(_version$, 0)) end;
    end if;
  end if;
  _sequence$ := (coalesce(_offset$, 0) + pg_current_xact_id()::text::bigint) * 1024;
  if _end$ is null then  -- apart, because it is rare
    _end$ := (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.pruned'::text);
  end if;
  if _sequence$ <= _end$ then
    return 'renumber';
  end if;
  if not _fits$ then
    select "public".pend_whole((select (pg_catalog.json_build_object('id', t$.id, 'collection', t$.collection, 'key', t$.key, 'kind', t$.kind, 'state', t$.state, 'source', t$.source, 'primary_version', t$.primary_version, 'secondary_version', t$.secondary_version, 'differences', t$.differences, 'quarantined', t$.quarantined, 'first_seen', pg_catalog.to_char(pg_catalog.timezone('UTC'::text, t$.first_seen), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text), 'last_seen', pg_catalog.to_char(pg_catalog.timezone('UTC'::text, t$.last_seen), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text)))::json from "public".findings as t$ where t$.id = _key$),
                      _body$, array['id', 'collection', 'key', 'kind', 'state', 'source', 'primary_version', 'secondary_version', 'differences', 'quarantined', 'first_seen', 'last_seen']::text[]) into _body$;
  end if;
  if _grave$ is not null then
    delete from "public".tombstones as d$
     where d$.collection = 'findings' and d$.key = _key$;
  end if;
  insert into "public".findings as t$ (id, collection, key, kind, state, source, primary_version, secondary_version, differences, quarantined, first_seen, last_seen, version)
  select x$."id", x$."collection", x$."key", x$."kind", coalesce(x$."state", 'open'::text), x$."source", coalesce(x$."primary_version", '0'::bigint), coalesce(x$."secondary_version", '0'::bigint), coalesce(x$."differences", '[]'::jsonb), x$."quarantined", x$."first_seen", x$."last_seen", greatest(_sequence$, _grave$ + 1)
    from json_to_record(_body$) as x$ ("id" text, "collection" text, "key" text, "kind" text, "state" text, "source" text, "primary_version" numeric, "secondary_version" numeric, "differences" jsonb, "quarantined" text, "first_seen" timestamp with time zone, "last_seen" timestamp with time zone)
  on conflict (id) do update
    set collection = excluded.collection, key = excluded.key, kind = excluded.kind, state = excluded.state, source = excluded.source, primary_version = excluded.primary_version, secondary_version = excluded.secondary_version, differences = excluded.differences, quarantined = excluded.quarantined, first_seen = excluded.first_seen, last_seen = excluded.last_seen, version = greatest(t$.version + 1, excluded.version)
  returning t$.version into _version$;
  insert into "public".changes (sequence, epoch, at, records, token, "by", reason)
  values (_sequence$, _at$, clock_timestamp(), json_build_array(
    json_build_array('findings', _key$, _version$, _body$)), _token$, _by$, _reason$);
  return _version$::text;
end $pend$;
create or replace function "public".pend_commit(
  _epoch$ bigint,
  _check_a$ bigint[], _check_c$ text[], _check_k$ text[], _check_v$ bigint[],
  _a$ bigint[], _c$ text[], _k$ text[], _b$ json[], _later$ bigint[], _gone$ text[],
  _tokens$ uuid[], _bys$ text[], _reasons$ text[], _again$ boolean, _patience$ text, _alone$ boolean
) returns text language plpgsql set search_path = pg_catalog, pg_temp as $pend$
declare 
  _state$ jsonb; _role$ text; _at$ bigint; _offset$ bigint; _end$ bigint;
  _held$ boolean := true;
  _merged$ boolean := _a$[1] < _a$[cardinality(_a$)];
  _versions$ bigint[] := array_fill(0::bigint, array[cardinality(_k$)]);
  _failed$ bigint[] := '{}'; _actual$ bigint[] := '{}'; _conflicts$ text := '';
  _put$ jsonb; _whole$ json; _out$ bigint[]; _done$ text; _most$ bigint := 0; _n$ bigint; _v$ bigint;
  _sequence$ bigint;
begin 
  if _patience$ is not null then
    perform set_config('lock_timeout', _patience$, true);
  end if;
  _alone$ := _alone$ or cardinality(_k$) + cardinality(_check_k$) > 256;

  if not _alone$ then
    select coalesce(bool_and((case when case when not z$.alone$ then pg_try_advisory_xact_lock_shared(z$.h$) else pg_try_advisory_xact_lock(z$.h$) end then true else "public".pend_await(z$.h$, not z$.alone$) end)), true) into _held$
      from (select hashtextextended(u$.c$ || chr(1) || u$.k$, 0::bigint) as h$,
                   bool_or(u$.w$) as alone$
              from unnest(_c$ || _check_c$, _k$ || _check_k$, array_fill(true, array[cardinality(_k$)]) || array_fill(false, array[cardinality(_check_k$)])) as u$ (c$, k$, w$)
             group by 1 order by 1) as z$;
  end if;
  if not _held$ then
    return 'alone';
  end if;

  if _alone$ then
    perform set_config('lock_timeout', '200ms', true);
    lock table "public".pend_store_lock in exclusive mode;
  else
    lock table "public".pend_store_lock in row share mode;
  end if;
  select (select m$.value from "public".store_meta as m$ where m$.name = 'role'),
         (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), (select e$.sequence from "public".changes as e$ order by e$.sequence desc limit 1)
    into _state$, _offset$, _end$;
  _role$ := coalesce(_state$ ->> 'role', 'primary');
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if _role$ <> 'primary' or _epoch$ <> _at$ then
    return coalesce("public".pend_found(_tokens$), format('stale %s %s', _role$, _at$));
  end if;
  if cardinality(_check_k$) > 0 then
    if 'tallies' = any(_check_c$) then
      select _failed$ || array_agg(u$.n$), _actual$ || array_agg(coalesce(t$.version, 0))
        into _failed$, _actual$
        from unnest(_check_c$, _check_k$, _check_v$)
          with ordinality as u$ (c$, k$, v$, n$)
        left join "public".tallies as t$ on t$.name = u$.k$
       where u$.c$ = 'tallies' and coalesce(t$.version, 0) <> u$.v$;
    end if;
    if 'quarantine' = any(_check_c$) then
      select _failed$ || array_agg(u$.n$), _actual$ || array_agg(coalesce(t$.version, 0))
        into _failed$, _actual$
        from unnest(_check_c$, _check_k$, _check_v$)
          with ordinality as u$ (c$, k$, v$, n$)
        left join "public".quarantine as t$ on t$.id = u$.k$
       where u$.c$ = 'quarantine' and coalesce(t$.version, 0) <> u$.v$;
    end if;
    if 'legacy_files' = any(_check_c$) then
      select _failed$ || array_agg(u$.n$), _actual$ || array_agg(coalesce(t$.version, 0))
        into _failed$, _actual$
        from unnest(_check_c$, _check_k$, _check_v$)
          with ordinality as u$ (c$, k$, v$, n$)
        left join "public".legacy_files as t$ on t$.file = u$.k$
       where u$.c$ = 'legacy_files' and coalesce(t$.version, 0) <> u$.v$;
    end if;
    if 'findings' = any(_check_c$) then
      select _failed$ || array_agg(u$.n$), _actual$ || array_agg(coalesce(t$.version, 0))
        into _failed$, _actual$
        from unnest(_check_c$, _check_k$, _check_v$)
          with ordinality as u$ (c$, k$, v$, n$)
        left join "public".findings as t$ on t$.id = u$.k$
       where u$.c$ = 'findings' and coalesce(t$.version, 0) <> u$.v$;
    end if;
  end if;
  if _again$ or cardinality(_failed$) > 0 then
    _done$ := "public".pend_found(_tokens$);
    if _done$ is not null then
      return _done$;
    end if;
  end if;
  if cardinality(_failed$) > 0 then
    select array_agg(z$.a$), string_agg(' ' || z$.n$ || ':' || z$.v$, '')
      into _out$, _conflicts$
      from (select distinct on (_check_a$[u$.n$]) _check_a$[u$.n$] as a$, u$.n$, u$.v$
              from unnest(_failed$, _actual$) as u$ (n$, v$) order by 1, 2) as z$;
    select coalesce(
             array_agg(case when u$.a$ <> all(_out$) then u$.later$ end order by u$.n$),
             '{}') into _later$
      from unnest(_a$, _later$) with ordinality as u$ (a$, later$, n$);
  end if;
  if cardinality(array_remove(_later$, null)) = 0 then
    return _versions$::text || _conflicts$;
  end if;
  if _merged$ then
    select max(u$.u$) into _most$ from unnest(_later$) as u$ (u$);
  end if;

  _sequence$ := (coalesce(_offset$, 0) + pg_current_xact_id()::text::bigint) * 1024;
  if _end$ is null then  -- apart, because it is rare
    _end$ := (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.pruned'::text);
  end if;
  if _sequence$ <= _end$ then
    return 'renumber';
  end if;

  if 'tallies' = any(_gone$) then
    for _n$, _v$ in
      with gone$ as (
        delete from "public".tallies as t$
         using unnest(_a$, _c$, _k$, _b$, _later$)
           with ordinality as u$ (a$, c$, k$, b$, later$, n$)
         where u$.c$ = 'tallies' and u$.b$ is null and u$.later$ = 0
           and t$.name = u$.k$
        returning u$.n$, u$.k$, greatest(t$.version + 1, _sequence$ + u$.a$) as v$
      ), grave$ as (
        insert into "public".tombstones as d$ (collection, key, version)
        select 'tallies', gone$.k$, gone$.v$ from gone$
        on conflict (collection, key) do update
          set version = greatest(d$.version, excluded.version)
      )
      select gone$.n$, gone$.v$ from gone$
    loop
      _versions$[_n$] := _v$;
    end loop;
  end if;
  if 'quarantine' = any(_gone$) then
    for _n$, _v$ in
      with gone$ as (
        delete from "public".quarantine as t$
         using unnest(_a$, _c$, _k$, _b$, _later$)
           with ordinality as u$ (a$, c$, k$, b$, later$, n$)
         where u$.c$ = 'quarantine' and u$.b$ is null and u$.later$ = 0
           and t$.id = u$.k$
        returning u$.n$, u$.k$, greatest(t$.version + 1, _sequence$ + u$.a$) as v$
      ), grave$ as (
        insert into "public".tombstones as d$ (collection, key, version)
        select 'quarantine', gone$.k$, gone$.v$ from gone$
        on conflict (collection, key) do update
          set version = greatest(d$.version, excluded.version)
      )
      select gone$.n$, gone$.v$ from gone$
    loop
      _versions$[_n$] := _v$;
    end loop;
  end if;
  if 'legacy_files' = any(_gone$) then
    for _n$, _v$ in
      with gone$ as (
        delete from "public".legacy_files as t$
         using unnest(_a$, _c$, _k$, _b$, _later$)
           with ordinality as u$ (a$, c$, k$, b$, later$, n$)
         where u$.c$ = 'legacy_files' and u$.b$ is null and u$.later$ = 0
           and t$.file = u$.k$
        returning u$.n$, u$.k$, greatest(t$.version + 1, _sequence$ + u$.a$) as v$
      ), grave$ as (
        insert into "public".tombstones as d$ (collection, key, version)
        select 'legacy_files', gone$.k$, gone$.v$ from gone$
        on conflict (collection, key) do update
          set version = greatest(d$.version, excluded.version)
      )
      select gone$.n$, gone$.v$ from gone$
    loop
      _versions$[_n$] := _v$;
    end loop;
  end if;
  if 'findings' = any(_gone$) then
    for _n$, _v$ in
      with gone$ as (
        delete from "public".findings as t$
         using unnest(_a$, _c$, _k$, _b$, _later$)
           with ordinality as u$ (a$, c$, k$, b$, later$, n$)
         where u$.c$ = 'findings' and u$.b$ is null and u$.later$ = 0
           and t$.id = u$.k$
        returning u$.n$, u$.k$, greatest(t$.version + 1, _sequence$ + u$.a$) as v$
      ), grave$ as (
        insert into "public".tombstones as d$ (collection, key, version)
        select 'findings', gone$.k$, gone$.v$ from gone$
        on conflict (collection, key) do update
          set version = greatest(d$.version, excluded.version)
      )
      select gone$.n$, gone$.v$ from gone$
    loop
      _versions$[_n$] := _v$;
    end loop;
  end if;
  if 'tallies' = any(_c$) then
    for _n$, _whole$ in
      select u$.n$, "public".pend_whole(case when t$.version is not null then (pg_catalog.json_build_object('name', t$.name, 'value', t$.value))::json end, u$.b$, array['name', 'value']::text[])
        from unnest(_c$, _k$, _b$) with ordinality as u$ (c$, k$, b$, n$)
        left join "public".tallies as t$ on t$.name = u$.k$
       where u$.c$ = 'tallies' and u$.b$ is not null and not (select count(*) = 2 and bool_and(m$.k$ = any(array['name', 'value']::text[])) from json_object_keys(u$.b$) as m$ (k$))
    loop
      _b$[_n$] := _whole$;
    end loop;
    with fresh$ as materialized (
      select u$.a$ as "batch#", u$.k$ as "key#", x$.*
        from unnest(_a$, _c$, _k$, _b$, _later$) as u$ (a$, c$, k$, b$, later$)
       cross join lateral json_to_record(u$.b$) as x$ ("name" text, "value" numeric)
       where u$.c$ = 'tallies' and u$.b$ is not null and u$.later$ = 0
    ), dead$ as (
      delete from "public".tombstones as d$ using fresh$
       where d$.collection = 'tallies' and d$.key = fresh$."key#"
      returning d$.key, d$.version
    ), put$ as (
      insert into "public".tallies as t$ (name, value, version)
      select x$."name", coalesce(x$."value", '0'::bigint), greatest(_sequence$ + x$."batch#", dead$.version + 1 + _most$)
        from fresh$ as x$ left join dead$ on dead$.key = x$."key#"
      on conflict (name) do update
        set value = excluded.value, version = greatest(t$.version + 1 + _most$, excluded.version)
        
      returning t$.name as k$, t$.version as v$
    )
    select jsonb_object_agg(put$.k$, put$.v$) into _put$ from put$;
    for _n$, _v$ in
      select u$.n$, (_put$ ->> u$.k$)::bigint
        from unnest(_c$, _k$, _b$, _later$)
          with ordinality as u$ (c$, k$, b$, later$, n$)
       where u$.c$ = 'tallies' and u$.b$ is not null and u$.later$ = 0
    loop
      if _v$ is null then
        raise exception using errcode = 'PEND3', message = 'split';
      end if;
      _versions$[_n$] := _v$;
    end loop;
  end if;
  if 'quarantine' = any(_c$) then
    for _n$, _whole$ in
      select u$.n$, "public".pend_whole(case when t$.version is not null then (pg_catalog.json_build_object('id', t$.id, 'file', t$.file, 'place', t$.place, 'position', t$.position, 'raw', pg_catalog.translate(pg_catalog.encode(t$.raw, 'base64'::text), pg_catalog.chr(10), ''::text), 'code', t$.code, 'reason', t$.reason, 'status', t$.status, 'note', t$.note, 'seen_at', pg_catalog.to_char(pg_catalog.timezone('UTC'::text, t$.seen_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text)))::json end, u$.b$, array['id', 'file', 'place', 'position', 'raw', 'code', 'reason', 'status', 'note', 'seen_at']::text[])
        from unnest(_c$, _k$, _b$) with ordinality as u$ (c$, k$, b$, n$)
        left join "public".quarantine as t$ on t$.id = u$.k$
       where u$.c$ = 'quarantine' and u$.b$ is not null and not (select count(*) = 10 and bool_and(m$.k$ = any(array['id', 'file', 'place', 'position', 'raw', 'code', 'reason', 'status', 'note', 'seen_at']::text[])) from json_object_keys(u$.b$) as m$ (k$))
    loop
      _b$[_n$] := _whole$;
    end loop;
    with fresh$ as materialized (
      select u$.a$ as "batch#", u$.k$ as "key#", x$.*
        from unnest(_a$, _c$, _k$, _b$, _later$) as u$ (a$, c$, k$, b$, later$)
       cross join lateral json_to_record(u$.b$) as x$ ("id" text, "file" text, "place" text, "position" numeric, "raw" text, "code" text, "reason" text, "status" text, "note" text, "seen_at" timestamp with time zone)
       where u$.c$ = 'quarantine' and u$.b$ is not null and u$.later$ = 0
    ), dead$ as (
      delete from "public".tombstones as d$ using fresh$
       where d$.collection = 'quarantine' and d$.key = fresh$."key#"
      returning d$.key, d$.version
    ), put$ as (
      insert into "public".quarantine as t$ (id, file, place, position, raw, code, reason, status, note, seen_at, version)
      select x$."id", x$."file", x$."place", x$."position", decode(x$."raw", 'base64'), x$."code", x$."reason", coalesce(x$."status", 'waiting'::text), x$."note", x$."seen_at", greatest(_sequence$ + x$."batch#", dead$.version + 1 + _most$)
        from fresh$ as x$ left join dead$ on dead$.key = x$."key#"
      on conflict (id) do update
        set file = excluded.file, place = excluded.place, position = excluded.position, raw = excluded.raw, code = excluded.code, reason = excluded.reason, status = excluded.status, note = excluded.note, seen_at = excluded.seen_at, version = greatest(t$.version + 1 + _most$, excluded.version)
        
      returning t$.id as k$, t$.version as v$
    )
    select jsonb_object_agg(put$.k$, put$.v$) into _put$ from put$;
    for _n$, _v$ in
      select u$.n$, (_put$ ->> u$.k$)::bigint
        from unnest(_c$, _k$, _b$, _later$)
          with ordinality as u$ (c$, k$, b$, later$, n$)
       where u$.c$ = 'quarantine' and u$.b$ is not null and u$.later$ = 0
    loop
      if _v$ is null then
        raise exception using errcode = 'PEND3', message = 'split';
      end if;
      _versions$[_n$] := _v$;
    end loop;
  end if;
  if 'legacy_files' = any(_c$) then
    for _n$, _whole$ in
      select u$.n$, "public".pend_whole(case when t$.version is not null then (pg_catalog.json_build_object('file', t$.file, 'format', t$.format, 'envelope', t$.envelope))::json end, u$.b$, array['file', 'format', 'envelope']::text[])
        from unnest(_c$, _k$, _b$) with ordinality as u$ (c$, k$, b$, n$)
        left join "public".legacy_files as t$ on t$.file = u$.k$
       where u$.c$ = 'legacy_files' and u$.b$ is not null and not (select count(*) = 3 and bool_and(m$.k$ = any(array['file', 'format', 'envelope']::text[])) from json_object_keys(u$.b$) as m$ (k$))
    loop
      _b$[_n$] := _whole$;
    end loop;
    with fresh$ as materialized (
      select u$.a$ as "batch#", u$.k$ as "key#", x$.*
        from unnest(_a$, _c$, _k$, _b$, _later$) as u$ (a$, c$, k$, b$, later$)
       cross join lateral json_to_record(u$.b$) as x$ ("file" text, "format" jsonb, "envelope" jsonb)
       where u$.c$ = 'legacy_files' and u$.b$ is not null and u$.later$ = 0
    ), dead$ as (
      delete from "public".tombstones as d$ using fresh$
       where d$.collection = 'legacy_files' and d$.key = fresh$."key#"
      returning d$.key, d$.version
    ), put$ as (
      insert into "public".legacy_files as t$ (file, format, envelope, version)
      select x$."file", coalesce(x$."format", '{}'::jsonb), coalesce(x$."envelope", 'null'::jsonb), greatest(_sequence$ + x$."batch#", dead$.version + 1 + _most$)
        from fresh$ as x$ left join dead$ on dead$.key = x$."key#"
      on conflict (file) do update
        set format = excluded.format, envelope = excluded.envelope, version = greatest(t$.version + 1 + _most$, excluded.version)
        
      returning t$.file as k$, t$.version as v$
    )
    select jsonb_object_agg(put$.k$, put$.v$) into _put$ from put$;
    for _n$, _v$ in
      select u$.n$, (_put$ ->> u$.k$)::bigint
        from unnest(_c$, _k$, _b$, _later$)
          with ordinality as u$ (c$, k$, b$, later$, n$)
       where u$.c$ = 'legacy_files' and u$.b$ is not null and u$.later$ = 0
    loop
      if _v$ is null then
        raise exception using errcode = 'PEND3', message = 'split';
      end if;
      _versions$[_n$] := _v$;
    end loop;
  end if;
  if 'findings' = any(_c$) then
    for _n$, _whole$ in
      select u$.n$, "public".pend_whole(case when t$.version is not null then (pg_catalog.json_build_object('id', t$.id, 'collection', t$.collection, 'key', t$.key, 'kind', t$.kind, 'state', t$.state, 'source', t$.source, 'primary_version', t$.primary_version, 'secondary_version', t$.secondary_version, 'differences', t$.differences, 'quarantined', t$.quarantined, 'first_seen', pg_catalog.to_char(pg_catalog.timezone('UTC'::text, t$.first_seen), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text), 'last_seen', pg_catalog.to_char(pg_catalog.timezone('UTC'::text, t$.last_seen), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text)))::json end, u$.b$, array['id', 'collection', 'key', 'kind', 'state', 'source', 'primary_version', 'secondary_version', 'differences', 'quarantined', 'first_seen', 'last_seen']::text[])
        from unnest(_c$, _k$, _b$) with ordinality as u$ (c$, k$, b$, n$)
        left join "public".findings as t$ on t$.id = u$.k$
       where u$.c$ = 'findings' and u$.b$ is not null and not (select count(*) = 12 and bool_and(m$.k$ = any(array['id', 'collection', 'key', 'kind', 'state', 'source', 'primary_version', 'secondary_version', 'differences', 'quarantined', 'first_seen', 'last_seen']::text[])) from json_object_keys(u$.b$) as m$ (k$))
    loop
      _b$[_n$] := _whole$;
    end loop;
    with fresh$ as materialized (
      select u$.a$ as "batch#", u$.k$ as "key#", x$.*
        from unnest(_a$, _c$, _k$, _b$, _later$) as u$ (a$, c$, k$, b$, later$)
       cross join lateral json_to_record(u$.b$) as x$ ("id" text, "collection" text, "key" text, "kind" text, "state" text, "source" text, "primary_version" numeric, "secondary_version" numeric, "differences" jsonb, "quarantined" text, "first_seen" timestamp with time zone, "last_seen" timestamp with time zone)
       where u$.c$ = 'findings' and u$.b$ is not null and u$.later$ = 0
    ), dead$ as (
      delete from "public".tombstones as d$ using fresh$
       where d$.collection = 'findings' and d$.key = fresh$."key#"
      returning d$.key, d$.version
    ), put$ as (
      insert into "public".findings as t$ (id, collection, key, kind, state, source, primary_version, secondary_version, differences, quarantined, first_seen, last_seen, version)
      select x$."id", x$."collection", x$."key", x$."kind", coalesce(x$."state", 'open'::text), x$."source", coalesce(x$."primary_version", '0'::bigint), coalesce(x$."secondary_version", '0'::bigint), coalesce(x$."differences", '[]'::jsonb), x$."quarantined", x$."first_seen", x$."last_seen", greatest(_sequence$ + x$."batch#", dead$.version + 1 + _most$)
        from fresh$ as x$ left join dead$ on dead$.key = x$."key#"
      on conflict (id) do update
        set collection = excluded.collection, key = excluded.key, kind = excluded.kind, state = excluded.state, source = excluded.source, primary_version = excluded.primary_version, secondary_version = excluded.secondary_version, differences = excluded.differences, quarantined = excluded.quarantined, first_seen = excluded.first_seen, last_seen = excluded.last_seen, version = greatest(t$.version + 1 + _most$, excluded.version)
        
      returning t$.id as k$, t$.version as v$
    )
    select jsonb_object_agg(put$.k$, put$.v$) into _put$ from put$;
    for _n$, _v$ in
      select u$.n$, (_put$ ->> u$.k$)::bigint
        from unnest(_c$, _k$, _b$, _later$)
          with ordinality as u$ (c$, k$, b$, later$, n$)
       where u$.c$ = 'findings' and u$.b$ is not null and u$.later$ = 0
    loop
      if _v$ is null then
        raise exception using errcode = 'PEND3', message = 'split';
      end if;
      _versions$[_n$] := _v$;
    end loop;
  end if;
  if _most$ > 0 then
    for _n$, _v$ in
      select u$.n$, _versions$[w$.n$] - u$.later$
        from unnest(_c$, _k$, _later$) with ordinality as u$ (c$, k$, later$, n$)
        join unnest(_c$, _k$, _later$) with ordinality as w$ (c$, k$, later$, n$)
          on w$.c$ = u$.c$ and w$.k$ = u$.k$ and w$.later$ = 0
       where u$.later$ > 0
    loop
      _versions$[_n$] := _v$;
    end loop;
  end if;
  insert into "public".changes (sequence, epoch, at, records, token, "by", reason)
  select _sequence$ + u$.a$, _at$, clock_timestamp(),
         json_agg(json_build_array(u$.c$, u$.k$, u$.v$, u$.b$) order by u$.n$),
         _tokens$[u$.a$ + 1], _bys$[u$.a$ + 1], _reasons$[u$.a$ + 1]
    from unnest(_a$, _c$, _k$, _versions$, _b$)
      with ordinality as u$ (a$, c$, k$, v$, b$, n$)
   where u$.v$ > 0
   group by u$.a$;
  return _versions$::text || _conflicts$;
end $pend$;
create or replace function "public".pend_apply(
  _epoch$ bigint, _c$ text[], _k$ text[], _v$ bigint[], _b$ json[], _top$ bigint,
  _mark$ text, _mark_expected$ jsonb, _mark_value$ jsonb, _alone$ boolean
) returns text language plpgsql set search_path = pg_catalog, pg_temp as $pend$
declare 
  _state$ jsonb; _role$ text; _at$ bigint; _offset$ bigint; _end$ bigint;
  _held$ boolean := true;
  _written$ bigint := 0; _n$ bigint := 1;
begin
  _alone$ := _alone$ or cardinality(_k$) > 256;

  if not _alone$ then
    select coalesce(bool_and((case when case when not z$.alone$ then pg_try_advisory_xact_lock_shared(z$.h$) else pg_try_advisory_xact_lock(z$.h$) end then true else "public".pend_await(z$.h$, not z$.alone$) end)), true) into _held$
      from (select hashtextextended(u$.c$ || chr(1) || u$.k$, 0::bigint) as h$,
                   bool_or(u$.w$) as alone$
              from unnest(_c$, _k$, array_fill(true, array[cardinality(_k$)])) as u$ (c$, k$, w$)
             group by 1 order by 1) as z$;
  end if;
  if not _held$ then
    return 'alone';
  end if;

  if _alone$ then
    perform set_config('lock_timeout', '200ms', true);
    lock table "public".pend_store_lock in exclusive mode;
  else
    lock table "public".pend_store_lock in row share mode;
  end if;
  select (select m$.value from "public".store_meta as m$ where m$.name = 'role'),
         (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), (select e$.sequence from "public".changes as e$ order by e$.sequence desc limit 1)
    into _state$, _offset$, _end$;
  _role$ := coalesce(_state$ ->> 'role', 'primary');
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if (_role$ <> 'secondary' or _epoch$ <> _at$) and not (_state$ is null and _epoch$ is null) then
    return format('stale %s %s', _role$, _at$);
  end if;
  set constraints all deferred;

  if _mark$ is not null and _mark_expected$ is null then
    if _mark_value$ is null then
      select count(*) into _n$
        where not exists (select from "public".store_meta as m$ where m$.name = _mark$);
    else
      insert into "public".store_meta as m$ (name, value) values (_mark$, _mark_value$)
      on conflict (name) do nothing;
      get diagnostics _n$ = row_count;
    end if;
  elsif _mark$ is not null and _mark_value$ is null then
    delete from "public".store_meta as m$ where m$.name = _mark$ and m$.value = _mark_expected$;
    get diagnostics _n$ = row_count;
  elsif _mark$ is not null then
    update "public".store_meta as m$ set value = _mark_value$
     where m$.name = _mark$ and m$.value = _mark_expected$;
    get diagnostics _n$ = row_count;
  end if;
  if _n$ = 0 then
    return 'position';
  end if;
  if _top$ >= (coalesce(_offset$, 0)
               + pg_snapshot_xmin(pg_current_snapshot())::text::bigint) * 1024
     and _top$ >= (coalesce(_offset$, 0) + pg_current_xact_id()::text::bigint + 1) * 1024
  then
    insert into "public".store_meta as m$ (name, value)
    values ('postgres.numbering', to_jsonb(_top$ / 1024 - pg_current_xact_id()::text::bigint))
    on conflict (name) do update set value = excluded.value
      where (m$.value #>> '{}')::bigint < (excluded.value #>> '{}')::bigint;
  end if;

  if 'tallies' = any(_c$) then
    if exists (select from unnest(_c$, _b$) as u$ (c$, b$)
                where u$.c$ = 'tallies' and u$.b$ is not null
                  and not (select count(*) = 2 and bool_and(m$.k$ = any(array['name', 'value']::text[])) from json_object_keys(u$.b$) as m$ (k$))) then
      raise exception using errcode = 'PEND4', message = 'a record is not whole';
    end if;
    with fresh$ as materialized (
      select u$.k$, u$.v$, u$.b$
        from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = 'tallies' and u$.b$ is not null and not exists (
         select from "public".tombstones as d$ where d$.collection = 'tallies'
            and d$.key = u$.k$ and d$.version >= u$.v$)
         and not exists (  -- most are there already: the relay comes last
         select from "public".tallies as t$ where t$.name = u$.k$ and t$.version >= u$.v$)
    ), dead$ as (
      delete from "public".tombstones as d$ using fresh$
       where d$.collection = 'tallies' and d$.key = fresh$.k$
    ), put$ as (
      insert into "public".tallies as t$ (name, value, version)
      select x$."name", coalesce(x$."value", '0'::bigint), fresh$.v$
        from fresh$ cross join lateral json_to_record(fresh$.b$) as x$ ("name" text, "value" numeric)
      on conflict (name) do update set value = excluded.value, version = excluded.version
        where t$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from put$;
    _written$ := _written$ + _n$;
    with late$ as materialized (
      select u$.k$, u$.v$ from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = 'tallies' and u$.b$ is null and not exists (
         select from "public".tallies as t$ where t$.name = u$.k$ and t$.version >= u$.v$)
    ), gone$ as (
      delete from "public".tallies as t$ using late$ where t$.name = late$.k$
    ), grave$ as (
      insert into "public".tombstones as d$ (collection, key, version)
      select 'tallies', late$.k$, late$.v$ from late$
      on conflict (collection, key) do update set version = excluded.version
        where d$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from grave$;
    _written$ := _written$ + _n$;
  end if;
  if 'quarantine' = any(_c$) then
    if exists (select from unnest(_c$, _b$) as u$ (c$, b$)
                where u$.c$ = 'quarantine' and u$.b$ is not null
                  and not (select count(*) = 10 and bool_and(m$.k$ = any(array['id', 'file', 'place', 'position', 'raw', 'code', 'reason', 'status', 'note', 'seen_at']::text[])) from json_object_keys(u$.b$) as m$ (k$))) then
      raise exception using errcode = 'PEND4', message = 'a record is not whole';
    end if;
    with fresh$ as materialized (
      select u$.k$, u$.v$, u$.b$
        from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = 'quarantine' and u$.b$ is not null and not exists (
         select from "public".tombstones as d$ where d$.collection = 'quarantine'
            and d$.key = u$.k$ and d$.version >= u$.v$)
         and not exists (  -- most are there already: the relay comes last
         select from "public".quarantine as t$ where t$.id = u$.k$ and t$.version >= u$.v$)
    ), dead$ as (
      delete from "public".tombstones as d$ using fresh$
       where d$.collection = 'quarantine' and d$.key = fresh$.k$
    ), put$ as (
      insert into "public".quarantine as t$ (id, file, place, position, raw, code, reason, status, note, seen_at, version)
      select x$."id", x$."file", x$."place", x$."position", decode(x$."raw", 'base64'), x$."code", x$."reason", coalesce(x$."status", 'waiting'::text), x$."note", x$."seen_at", fresh$.v$
        from fresh$ cross join lateral json_to_record(fresh$.b$) as x$ ("id" text, "file" text, "place" text, "position" numeric, "raw" text, "code" text, "reason" text, "status" text, "note" text, "seen_at" timestamp with time zone)
      on conflict (id) do update set file = excluded.file, place = excluded.place, position = excluded.position, raw = excluded.raw, code = excluded.code, reason = excluded.reason, status = excluded.status, note = excluded.note, seen_at = excluded.seen_at, version = excluded.version
        where t$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from put$;
    _written$ := _written$ + _n$;
    with late$ as materialized (
      select u$.k$, u$.v$ from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = 'quarantine' and u$.b$ is null and not exists (
         select from "public".quarantine as t$ where t$.id = u$.k$ and t$.version >= u$.v$)
    ), gone$ as (
      delete from "public".quarantine as t$ using late$ where t$.id = late$.k$
    ), grave$ as (
      insert into "public".tombstones as d$ (collection, key, version)
      select 'quarantine', late$.k$, late$.v$ from late$
      on conflict (collection, key) do update set version = excluded.version
        where d$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from grave$;
    _written$ := _written$ + _n$;
  end if;
  if 'legacy_files' = any(_c$) then
    if exists (select from unnest(_c$, _b$) as u$ (c$, b$)
                where u$.c$ = 'legacy_files' and u$.b$ is not null
                  and not (select count(*) = 3 and bool_and(m$.k$ = any(array['file', 'format', 'envelope']::text[])) from json_object_keys(u$.b$) as m$ (k$))) then
      raise exception using errcode = 'PEND4', message = 'a record is not whole';
    end if;
    with fresh$ as materialized (
      select u$.k$, u$.v$, u$.b$
        from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = 'legacy_files' and u$.b$ is not null and not exists (
         select from "public".tombstones as d$ where d$.collection = 'legacy_files'
            and d$.key = u$.k$ and d$.version >= u$.v$)
         and not exists (  -- most are there already: the relay comes last
         select from "public".legacy_files as t$ where t$.file = u$.k$ and t$.version >= u$.v$)
    ), dead$ as (
      delete from "public".tombstones as d$ using fresh$
       where d$.collection = 'legacy_files' and d$.key = fresh$.k$
    ), put$ as (
      insert into "public".legacy_files as t$ (file, format, envelope, version)
      select x$."file", coalesce(x$."format", '{}'::jsonb), coalesce(x$."envelope", 'null'::jsonb), fresh$.v$
        from fresh$ cross join lateral json_to_record(fresh$.b$) as x$ ("file" text, "format" jsonb, "envelope" jsonb)
      on conflict (file) do update set format = excluded.format, envelope = excluded.envelope, version = excluded.version
        where t$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from put$;
    _written$ := _written$ + _n$;
    with late$ as materialized (
      select u$.k$, u$.v$ from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = 'legacy_files' and u$.b$ is null and not exists (
         select from "public".legacy_files as t$ where t$.file = u$.k$ and t$.version >= u$.v$)
    ), gone$ as (
      delete from "public".legacy_files as t$ using late$ where t$.file = late$.k$
    ), grave$ as (
      insert into "public".tombstones as d$ (collection, key, version)
      select 'legacy_files', late$.k$, late$.v$ from late$
      on conflict (collection, key) do update set version = excluded.version
        where d$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from grave$;
    _written$ := _written$ + _n$;
  end if;
  if 'findings' = any(_c$) then
    if exists (select from unnest(_c$, _b$) as u$ (c$, b$)
                where u$.c$ = 'findings' and u$.b$ is not null
                  and not (select count(*) = 12 and bool_and(m$.k$ = any(array['id', 'collection', 'key', 'kind', 'state', 'source', 'primary_version', 'secondary_version', 'differences', 'quarantined', 'first_seen', 'last_seen']::text[])) from json_object_keys(u$.b$) as m$ (k$))) then
      raise exception using errcode = 'PEND4', message = 'a record is not whole';
    end if;
    with fresh$ as materialized (
      select u$.k$, u$.v$, u$.b$
        from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = 'findings' and u$.b$ is not null and not exists (
         select from "public".tombstones as d$ where d$.collection = 'findings'
            and d$.key = u$.k$ and d$.version >= u$.v$)
         and not exists (  -- most are there already: the relay comes last
         select from "public".findings as t$ where t$.id = u$.k$ and t$.version >= u$.v$)
    ), dead$ as (
      delete from "public".tombstones as d$ using fresh$
       where d$.collection = 'findings' and d$.key = fresh$.k$
    ), put$ as (
      insert into "public".findings as t$ (id, collection, key, kind, state, source, primary_version, secondary_version, differences, quarantined, first_seen, last_seen, version)
      select x$."id", x$."collection", x$."key", x$."kind", coalesce(x$."state", 'open'::text), x$."source", coalesce(x$."primary_version", '0'::bigint), coalesce(x$."secondary_version", '0'::bigint), coalesce(x$."differences", '[]'::jsonb), x$."quarantined", x$."first_seen", x$."last_seen", fresh$.v$
        from fresh$ cross join lateral json_to_record(fresh$.b$) as x$ ("id" text, "collection" text, "key" text, "kind" text, "state" text, "source" text, "primary_version" numeric, "secondary_version" numeric, "differences" jsonb, "quarantined" text, "first_seen" timestamp with time zone, "last_seen" timestamp with time zone)
      on conflict (id) do update set collection = excluded.collection, key = excluded.key, kind = excluded.kind, state = excluded.state, source = excluded.source, primary_version = excluded.primary_version, secondary_version = excluded.secondary_version, differences = excluded.differences, quarantined = excluded.quarantined, first_seen = excluded.first_seen, last_seen = excluded.last_seen, version = excluded.version
        where t$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from put$;
    _written$ := _written$ + _n$;
    with late$ as materialized (
      select u$.k$, u$.v$ from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = 'findings' and u$.b$ is null and not exists (
         select from "public".findings as t$ where t$.id = u$.k$ and t$.version >= u$.v$)
    ), gone$ as (
      delete from "public".findings as t$ using late$ where t$.id = late$.k$
    ), grave$ as (
      insert into "public".tombstones as d$ (collection, key, version)
      select 'findings', late$.k$, late$.v$ from late$
      on conflict (collection, key) do update set version = excluded.version
        where d$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from grave$;
    _written$ := _written$ + _n$;
  end if;
  return _written$::text;
end $pend$;
create or replace function "public".pend_apply_enter(
  _epoch$ bigint, _mark$ text, _mark_expected$ jsonb
) returns text language plpgsql set search_path = pg_catalog, pg_temp as $pend$
declare 
  _state$ jsonb; _role$ text; _at$ bigint; _offset$ bigint; _end$ bigint;
begin 
  if true then
    perform set_config('lock_timeout', '200ms', true);
    lock table "public".pend_store_lock in exclusive mode;
  else
    lock table "public".pend_store_lock in row share mode;
  end if;
  select (select m$.value from "public".store_meta as m$ where m$.name = 'role'),
         (select (m$.value operator(pg_catalog.#>>) '{}'::text[])::bigint from "public".store_meta as m$ where m$.name operator(pg_catalog.=) 'postgres.numbering'::text), (select e$.sequence from "public".changes as e$ order by e$.sequence desc limit 1)
    into _state$, _offset$, _end$;
  _role$ := coalesce(_state$ ->> 'role', 'primary');
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if (_role$ <> 'secondary' or _epoch$ <> _at$) and not (_state$ is null and _epoch$ is null) then
    return format('stale %s %s', _role$, _at$);
  end if;
  if _mark$ is not null and _mark_expected$ is distinct from
     (select m$.value from "public".store_meta as m$ where m$.name = _mark$) then
    return 'position';
  end if;
  set constraints all deferred;
  return '';
end $pend$;
