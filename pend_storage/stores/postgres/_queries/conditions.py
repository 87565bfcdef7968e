"""Conditions: WHERE and ORDER BY that mean what :mod:`pend_storage.query` says.

SQL has three truth values, a condition has two. Inside of And and Or a null counts as
false by itself, and at the top it does so as well; only Not needs care: ``(x) is not
true``. So equalities stay bare, and indexes can serve them.

Values are always bound. What is written into the text comes from the schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pend_storage._model.fields import FieldSpec
from pend_storage.codec import dump_json
from pend_storage.query import (
    And,
    Comparison,
    Condition,
    Not,
    Operator,
    Or,
    Query,
    SortKey,
    fold_case,
)
from pend_storage.schema import CollectionSpec
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._connection.own_names import (
    EQ,
    GE,
    GT,
    LE,
    LIKE,
    LT,
    MEMBER,
    MEMBER_TEXT,
    OWN,
)
from pend_storage.stores.postgres._connection.wire_format import (
    Value,
    jsonb_array,
    text_array,
)
from pend_storage.stores.postgres._queries.statements import CollectionStatements
from pend_storage.stores.postgres._schema.literals import to_parameter
from pend_storage.stores.postgres._schema.record_json import record_json
from pend_storage.stores.postgres._schema.tables import column_name, quoted

__all__ = ["combined_statement", "count_statement", "query_statement"]

_OPERATORS: Final[Mapping[Operator, str]] = {
    Operator.EQ: EQ,
    Operator.LT: LT,
    Operator.LE: LE,
    Operator.GT: GT,
    Operator.GE: GE,
}


def query_statement(
    statements: CollectionStatements, query: Query, epoch: int | None
) -> tuple[Statement, list[Value]]:
    """Build the statement of a checked query, with its parameters."""
    builder = _StatementBuilder(statements.spec)
    where = builder.where(query, epoch)
    order = ", ".join([*map(builder.order, query.order_by), statements.key])
    text = f"{statements.select} {statements.source} where {where} order by {order}"
    if query.limit is not None:
        text += f" limit {builder.bind(b'%d' % query.limit, 'bigint')}"
    return builder.statement(text), builder.values


def count_statement(
    statements: CollectionStatements, where: Condition, epoch: int | None
) -> tuple[Statement, list[Value]]:
    """Build the statement that counts the rows of a checked condition."""
    builder = _StatementBuilder(statements.spec)
    condition = builder.where(Query(where), epoch)
    text = f"select pg_catalog.count(*) {statements.source} where {condition}"
    return builder.statement(text), builder.values


def combined_statement(
    queries: Sequence[tuple[CollectionStatements, Query]],
    counts: Sequence[tuple[CollectionStatements, Condition]],
    epoch: int | None,
) -> tuple[Statement, list[Value]]:
    """Build one statement of several queries and counts.

    Its columns are the number of the part, the version or the count, and the record.
    """
    parts: list[str] = []
    builder: _StatementBuilder | None = None
    for known, query in queries:
        builder = _StatementBuilder(known.spec, builder)
        body = f"{known.source} where {builder.where(query, epoch)}"
        if query.limit is not None:
            order = ", ".join([*map(builder.order, query.order_by), known.key])
            limit = builder.bind(b"%d" % query.limit, "bigint")
            body += f" order by {order} limit {limit}"
        parts.append(
            f"(select {len(parts)}, t.version, ({record_json(known.spec, 't')})::text {body})"
        )
    for known, where in counts:
        builder = _StatementBuilder(known.spec, builder)
        condition = builder.where(Query(where), epoch)
        parts.append(
            f"(select {len(parts)}, pg_catalog.count(*), null {known.source} where {condition})"
        )
    assert builder is not None  # noqa: S101 - the caller asks something
    return builder.statement(" union all ".join(parts)), builder.values


class _StatementBuilder:
    """Builder of one statement: collects its parameters in order."""

    def __init__(
        self, spec: CollectionSpec, before: _StatementBuilder | None = None
    ) -> None:
        self._spec = spec
        self.values: list[Value] = [] if before is None else before.values
        self.formats: list[int] = [] if before is None else before.formats

    def statement(self, text: str) -> Statement:
        """Statement with the formats of the parameters collected so far."""
        return Statement(text.encode(), tuple(self.formats))

    def bind(self, value: Value, kind: str, *, binary: bool = False) -> str:
        """Bind a value and return its placeholder."""
        self.values.append(value)
        self.formats.append(1 if binary else 0)
        return f"${len(self.values)}::{kind}"

    def where(self, query: Query, epoch: int | None) -> str:
        """Condition of a query with its cursor and its role guard."""
        parts = [self._condition(query.where)]
        if query.after is not None:
            parts.append(self._after(query.order_by, *query.after))
        if epoch is not None:
            parts.append(f"{OWN}pend_guard({self.bind(b'%d' % epoch, 'bigint')})")
        return " and ".join(parts)

    # -- conditions -------------------------------------------------------------------

    def _condition(self, condition: Condition) -> str:
        match condition:
            case And(parts):
                return self._joined(parts, " and ") or "true"
            case Or(parts):
                return self._joined(parts, " or ") or "false"
            case Not(part):
                return f"({self._condition(part)}) is not true"
            case Comparison():
                field = self._spec.fields[condition.path[0]]
                if field.kind.is_json:
                    return self._json_comparison(condition)
                return self._comparison(field, condition)
            case _:
                raise TypeError(f"not a condition: {condition!r}")

    def _joined(self, parts: Sequence[Condition], word: str) -> str:
        text = word.join(map(self._condition, parts))
        return f"({text})" if text else ""

    def _column(self, field: str) -> str:
        return f"t.{quoted(column_name(field))}"

    def _comparison(self, field: FieldSpec, item: Comparison) -> str:
        column = self._column(field.name)
        match item.operator:
            case Operator.IS_NULL:
                return f"{column} is null"
            case Operator.IN:
                return self._among(column, field, item.value) if item.value else "false"
            case Operator.STARTS_WITH | Operator.CONTAINS:
                if field.choices and not isinstance(field.choices[0], str):
                    return "false"
                return self._part_of_text(column, item)
            case operator:
                return f"{column} {_OPERATORS[operator]} {self._operand(field, item.value)}"

    def _part_of_text(self, text: str, item: Comparison) -> str:
        if item.operator is Operator.STARTS_WITH:
            pattern = _escaped(item.value) + "%"
            return f"{text} {LIKE} {self.bind(pattern.encode(), 'text')}"
        pattern = "%" + _escaped(fold_case(item.value)) + "%"
        return f"pg_catalog.lower({text}::text) {LIKE} {self.bind(pattern.encode(), 'text')}"

    def _among(self, column: str, field: FieldSpec, values: Sequence[Any]) -> str:
        """Membership in an array: there may be more values than parameters."""
        found = [to_parameter(field.kind, value) for value in values]
        kinds = {kind for _, kind in found}
        kind = kinds.pop() if len(kinds) == 1 else "numeric"
        array = text_array(text.decode() for text, _ in found)
        return (
            f"{column} {EQ} any ({self.bind(array, 'text[]', binary=True)}::{kind}[])"
        )

    def _operand(self, field: FieldSpec, value: Any) -> str:
        return self.bind(*to_parameter(field.kind, value))

    # -- inside JSON ------------------------------------------------------------------

    def _json_comparison(self, item: Comparison) -> str:
        # -> with a text finds members of objects only, as a path means it; #> would
        # search lists as well.
        steps = [self._column(item.path[0])]
        steps += [self.bind(name.encode(), "text") for name in item.path[1:]]
        value = "(" + f" {MEMBER} ".join(steps) + ")"
        match item.operator:
            case Operator.IS_NULL:
                return f"({value} is null or {value} {EQ} 'null'::jsonb)"
            case Operator.EQ:
                return f"{value} {EQ} {self._json(item.value)}"
            case Operator.IN:
                options = jsonb_array(map(dump_json, item.value))
                return (
                    f"{value} {EQ} any ({self.bind(options, 'jsonb[]', binary=True)})"
                )
            case Operator.STARTS_WITH | Operator.CONTAINS:
                text = f"""({value} {MEMBER_TEXT} '{{}}'::text[]) collate "C\""""
                return self._if_kind("string", value, self._part_of_text(text, item))
            case operator:
                return self._json_order(value, _OPERATORS[operator], item.value)

    def _json(self, value: Any) -> str:
        return self.bind(dump_json(value), "jsonb")

    def _json_order(self, value: str, sign: str, operand: Any) -> str:
        match operand:
            case int() | float():
                other = self.bind(dump_json(operand), "numeric")
                return self._if_kind(
                    "number", value, f"({value})::numeric {sign} {other}"
                )
            case str():
                text = f"""({value} {MEMBER_TEXT} '{{}}'::text[]) collate "C\""""
                other = self.bind(operand.encode(), "text")
                return self._if_kind("string", value, f"{text} {sign} {other}")
            case _:
                return "false"

    @staticmethod
    def _if_kind(kind: str, value: str, test: str) -> str:
        """Guard a test by the JSON type: its cast would fail on other values."""
        return f"case when pg_catalog.jsonb_typeof({value}) {EQ} '{kind}'::text then {test} else false end"

    # -- order ------------------------------------------------------------------------

    def order(self, item: SortKey) -> str:
        """Term of an ORDER BY, as the indexes have it: nulls last."""
        term = self._column(item.field)
        if item.descending:
            term += " desc"
            if self._spec.fields[item.field].optional:
                term += " nulls last"
        return term

    def _after(self, orders: Sequence[SortKey], values: Sequence[Any], key: str) -> str:
        """Condition for the rows after the last one of the previous page.

        For order by a, b and key: beyond in a, or equal in a and beyond in b, or equal
        in both with a greater key. The first term is repeated as a bound, from which an
        index can start.
        """
        key_column = self._column(self._spec.key)
        behind = f"{key_column} {GT} {self.bind(key.encode(), 'text')}"
        for order, value in reversed(list(zip(orders, values, strict=True))):
            field = self._spec.fields[order.field]
            column = self._column(order.field)
            if value is None:
                behind = f"({column} is null and {behind})"
                continue
            operand = self._operand(field, value)
            sign, reached = (LT, LE) if order.descending else (GT, GE)
            beyond = f"{column} {sign} {operand}"
            behind = f"({beyond} or ({column} {EQ} {operand} and {behind}))"
            if field.optional:
                behind = f"({behind} or {column} is null)"
            elif order is orders[0]:
                behind = f"({column} {reached} {operand} and {behind})"
        return behind


def _escaped(text: str) -> str:
    """Escape a text for a LIKE pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
