"""Grants: EXECUTE on the functions is withdrawn from PUBLIC, and follows the tables.

Roles that may read ``store_meta`` may execute the functions, which work with the
privileges of their caller. Roles that may write the change log may hold the store lock.
So a role that was given the tables by hand keeps working after a migration.
"""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import Connection, text

from pend_storage.schema import Schema
from pend_storage.stores.postgres._connection.own_names import OWN, OWN_SCHEMA
from pend_storage.stores.postgres._functions import definitions
from pend_storage.stores.postgres._migration.schema_diff import run_text
from pend_storage.stores.postgres._schema.tables import STORE_LOCK

__all__ = ["grant_functions"]

_NAME: Final = re.compile(rf"create or replace function {OWN}(\S+?)\(")
_OPEN: Final = f"""
select p.oid::regprocedure::text
  from pg_proc as p
 where p.pronamespace = to_regnamespace('{OWN_SCHEMA}') and p.proname = any(:names)
   and pg_has_role(p.proowner, 'usage')
   and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                where a.grantee = 0)
 order by 1"""
_READERS: Final = f"""
select p.oid::regprocedure::text, quote_ident(r.rolname)
  from pg_proc as p cross join pg_roles as r
 where p.pronamespace = to_regnamespace('{OWN_SCHEMA}') and p.proname = any(:names)
   and pg_has_role(p.proowner, 'usage')
   and exists (select from pg_class as c, aclexplode(c.relacl) as a
                where c.oid = to_regclass('{OWN}store_meta')
                  and a.grantee = r.oid and a.privilege_type = 'SELECT')
   and not has_function_privilege(r.oid, p.oid, 'execute')
 order by 2, 1"""
_WRITERS: Final = f"""
select quote_ident(r.rolname)
  from pg_class as l cross join pg_roles as r
 where l.oid = to_regclass('{OWN}{STORE_LOCK}') and pg_has_role(l.relowner, 'usage')
   and exists (select from pg_class as c, aclexplode(c.relacl) as a
                where c.oid = to_regclass('{OWN}changes')
                  and a.grantee = r.oid and a.privilege_type = 'INSERT')
   and not has_table_privilege(r.oid, l.oid, 'update')
 order by 1"""


def grant_functions(connection: Connection, schema: Schema) -> list[str]:
    """Withdraw EXECUTE from PUBLIC, and grant it to the roles that hold the tables.

    Only what the role that migrates owns is changed.

    Args:
        connection: in the transaction of the migration.
        schema: as declared.

    Returns:
        A description of each change.
    """
    texts = "\n".join(definitions.definitions(schema))
    names = {"names": [name.strip('"') for name in _NAME.findall(texts)]}
    for function in connection.scalars(text(_OPEN), names).all():
        run_text(connection, f"revoke all on function {function} from public")
    readers: dict[str, list[str]] = {}
    for function, role in connection.execute(text(_READERS), names):
        readers.setdefault(role, []).append(function)
    done = []
    for role, functions in readers.items():
        listed = ", ".join(functions)
        run_text(connection, f"grant execute on function {listed} to {role}")
        done.append(f"execute on the functions granted to {role}")
    for role in connection.scalars(text(_WRITERS)).all():
        run_text(connection, f"grant select, update on {OWN}{STORE_LOCK} to {role}")
        done.append(f"the store lock granted to {role}")
    return done
