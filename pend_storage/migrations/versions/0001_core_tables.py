"""Core tables: change log, meta entries and tombstones."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSON, JSONB, TIMESTAMP

revision = "0001"
down_revision = None


def upgrade() -> None:
    namespace = context.config.attributes["namespace"]
    op.create_table(
        "changes",
        sa.Column("sequence", sa.BigInteger, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("at", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("records", JSON, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="changes_pkey"),
        schema=namespace,
    )
    op.create_table(
        "store_meta",
        sa.Column("name", sa.Text(collation="C")),
        sa.Column("value", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("name", name="store_meta_pkey"),
        schema=namespace,
    )
    op.create_table(
        "tombstones",
        sa.Column("collection", sa.Text(collation="C")),
        sa.Column("key", sa.Text(collation="C")),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("collection", "key", name="tombstones_pkey"),
        schema=namespace,
    )
