"""Alembic's entry: runs on the connection that `onefold.adapters.sql.migrate` hands over."""

from alembic import context

from onefold.ports.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=context.config.attributes["connection"].dialect.name == "sqlite",
)
context.run_migrations()  # in the transaction that `migrate` has begun
