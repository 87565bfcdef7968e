"""Audit guard: what keeps the entries of the audit from being changed or deleted.

A trigger refuses ``UPDATE``, ``DELETE`` and ``TRUNCATE`` of the table to every role, so
that a slip of the owner has no effect. The application has no privilege to do either. One
function lets entries go, with the privileges of its caller, which is a pruning or an
erasure of the owner. What goes without one is named by ``audit verify``.
"""

from __future__ import annotations

from typing import Final

from pend_storage.schema import AUDIT, Schema
from pend_storage.stores.postgres._connection.own_names import OWN
from pend_storage.stores.postgres._functions.sequence_numbers import PINNED
from pend_storage.stores.postgres._schema.tables import key_column, own_table, quoted

__all__ = ["APPEND_ONLY", "FORGET", "MAY_FORGET", "forget", "guard", "triggers"]

APPEND_ONLY: Final = "PEND5"
"""SQLSTATE of a refused change."""
FORGET: Final = f"{OWN}pend_audit_forget"
_GUARD: Final = f"{OWN}pend_audit_guard"
_SETTING: Final = "pend_storage.audit"
_TABLE: Final = own_table(AUDIT)
MAY_FORGET: Final = f"has_table_privilege('{_TABLE}', 'delete')"
"""SQL condition: this role may delete entries. The relay of an application may not, and
leaves them to the pruning, which applies its commits to both stores itself."""
_SENTENCE: Final = (
    "audit entries are append-only: let old ones go with pend-storage audit prune, and "
    "personal values with pend-storage purge"
)


def guard() -> str:
    """Function of the triggers, which refuses all but what :func:`forget` deletes."""
    return f"""
create or replace function {_GUARD}() returns trigger language plpgsql {PINNED} as $pend$
begin
  if tg_op = 'DELETE' and current_setting('{_SETTING}', true) = 'forget' then
    return old;
  end if;
  raise exception using errcode = '{APPEND_ONLY}', message = '{_SENTENCE}';
end $pend$"""


def forget(schema: Schema) -> str:
    """Function that deletes entries by id, and answers id and version of each.

    The setting is made in its body: a function with a setting of its own of that kind
    can be created by administrators of the server only.
    """
    key = quoted(key_column(schema[AUDIT]))
    return f"""
create or replace function {FORGET}(_ids$ text[])
  returns table (id$ text, version$ bigint) language plpgsql {PINNED} as $pend$
begin
  perform set_config('{_SETTING}', 'forget', true);
  return query delete from {_TABLE} as t$ where t$.{key} = any(_ids$)
    returning t$.{key}, t$.version;
  perform set_config('{_SETTING}', '', true);
end $pend$"""


def triggers() -> tuple[str, ...]:
    """Statements that create or replace the triggers, after the functions."""
    rows = (
        f"create or replace trigger pend_audit_rows before update or delete on {_TABLE} "
        f"for each row execute function {_GUARD}()"
    )
    whole = (
        f"create or replace trigger pend_audit_all before truncate on {_TABLE} "
        f"for each statement execute function {_GUARD}()"
    )
    return rows, whole
