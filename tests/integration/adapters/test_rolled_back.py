"""Users' SQLAlchemy code commits for real in a test, and nothing is left after it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from onefold.testing.sql import rolled_back, rolled_back_async


class Base(DeclarativeBase):
    """The user's tables."""


class Order(Base):
    """One of them."""

    __tablename__ = "user_orders"
    id: Mapped[int] = mapped_column(primary_key=True)


def place(session: Session, number: int) -> None:
    """The user's code: it commits."""
    session.add(Order(id=number))
    session.commit()


def placed(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Order)) or 0


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine of the user's own, with the user's table."""
    url = f"sqlite:///{tmp_path / 'user.db'}"
    if request.param == "postgres":
        found: str = request.getfixturevalue("postgres_url")
        url = found.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_what_is_committed_is_gone_after_the_block(engine: Engine) -> None:
    """Commit, roll back, commit again: all as without the transaction around it."""
    with rolled_back(engine) as session:
        place(session, 1)
        session.add(Order(id=2))
        session.rollback()
        assert placed(session) == 1
        place(session, 3)
        assert placed(session) == 2

    with Session(engine) as after:
        assert placed(after) == 0


def test_a_constraint_that_breaks_leaves_the_rest(engine: Engine) -> None:
    """An error undoes what was not committed, and the session goes on."""
    with rolled_back(engine) as session:
        place(session, 1)
        session.expunge_all()
        with pytest.raises(IntegrityError):
            place(session, 1)
        session.rollback()
        place(session, 2)
        assert placed(session) == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_the_same_with_an_async_engine(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`await session.commit()` too."""
    driver: Callable[[str], str] = {
        "sqlite": lambda _: f"sqlite+aiosqlite:///{tmp_path / 'user.db'}",
        "postgres": lambda url: url.replace("postgresql://", "postgresql+asyncpg://"),
    }[kind]
    url = driver(request.getfixturevalue("postgres_url") if kind == "postgres" else "")
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

    async with rolled_back_async(engine) as session:
        session.add(Order(id=1))
        await session.commit()
        assert await session.run_sync(placed) == 1

    async with engine.connect() as after:
        count = await after.scalar(select(func.count()).select_from(Order))
    await engine.dispose()
    assert count == 0
