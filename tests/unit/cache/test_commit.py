"""What `invalidate(when="commit")` drops, and when, around transactions of hooks and of SQLAlchemy."""

from __future__ import annotations

import asyncio
import logging
from functools import cached_property

import pytest
from sqlalchemy import String, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from smw import cache as cache_module
from smw.cache.sqlalchemy import transactions


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


@pytest.fixture
def database(tmp_path):
    """A database with one user."""
    engine = create_engine(f"sqlite:///{tmp_path / 'users.db'}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(User(id=1, name="Ada"))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def name_of(cache, database):
    """A cached reader with transactions of its own."""

    @cache.cached(60, tags=["user:{user_id}"])
    def name_of(user_id: int) -> str:
        with Session(database) as session:
            return session.scalars(select(User.name).where(User.id == user_id)).one()

    assert name_of(1) == "Ada"
    return name_of


@pytest.fixture
def rename(cache, name_of):
    """A writer that takes the session as an argument."""

    @cache.invalidate(tags=["user:{user_id}"], when="commit")
    def rename(session: Session, user_id: int, name: str) -> None:
        session.get_one(User, user_id).name = name

    return rename


def entries(fn) -> int:
    return cache_module.info(fn).entries


def test_the_commit_drops(database, name_of, rename):
    """Nothing is dropped before the commit, so no reader brings the old value back; then it is."""
    with Session(database) as session:
        rename(session, 1, "Eve")
        assert name_of(1) == "Ada"
        assert entries(name_of) == 1
        session.commit()
        assert name_of(1) == "Eve"


def test_a_rollback_forgets(database, name_of, rename):
    """What is rolled back was never changed, and a later commit of the session does not drop it."""
    with Session(database) as session:
        rename(session, 1, "Eve")
        session.rollback()
        session.get_one(User, 1)
        session.commit()
    assert entries(name_of) == 1


def test_closing_the_session_forgets(database, name_of, rename):
    """A session that is closed without a commit has changed nothing."""
    with Session(database) as session:
        rename(session, 1, "Eve")
    assert entries(name_of) == 1


def test_a_block_of_a_transaction(database, name_of, rename):
    """``with session.begin()`` commits at its end, and not when it is left by an error."""
    with Session(database) as session, session.begin() as transaction:
        rename(session, 1, "Eve")
        transaction.rollback()
    assert entries(name_of) == 1
    with Session(database) as session, session.begin():
        rename(session, 1, "Eve")
        assert entries(name_of) == 1
    assert name_of(1) == "Eve"


def test_a_savepoint_is_no_commit(database, name_of, rename):
    """Releasing a savepoint drops nothing yet; the commit of the whole does, also after one that was rolled back."""
    with Session(database) as session:
        with session.begin_nested():
            rename(session, 1, "Eve")
        assert entries(name_of) == 1
        session.commit()
    assert name_of(1) == "Eve"
    with Session(database) as session:
        rename(session, 1, "Bob")
        session.flush()
        session.begin_nested().rollback()
        assert entries(name_of) == 1
        session.commit()
    assert name_of(1) == "Bob"


@pytest.mark.parametrize("how", ["conditional_savepoint", "rollback_only", "create_savepoint"])
def test_a_session_that_joins_a_transaction_drops_at_its_own_commit(database, name_of, rename, how):
    """As tests need it whose outer transaction is rolled back: what the code under test has committed is read anew."""
    with database.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode=how) as session:
            rename(session, 1, "Eve")
            assert entries(name_of) == 1
            session.commit()
            assert outer.is_active
            assert entries(name_of) == 0
        outer.rollback()


def test_a_commit_within_the_call(cache, database, name_of):
    """A writer that commits by itself, and goes on to read, has its drop made when it returns."""

    @cache.invalidate(tags=["user:{user_id}"], when="commit")
    def rename(session: Session, user_id: int) -> str:
        user = session.get_one(User, user_id)
        user.name = "Eve"
        session.commit()
        session.refresh(user)  # begins the next transaction, which nobody will commit
        return user.name

    with Session(database) as session:
        assert rename(session, 1) == "Eve"
        assert entries(name_of) == 0
    assert name_of(1) == "Eve"


def test_a_failed_call_drops_nothing(cache, database, name_of):
    """A writer that raises leaves nothing waiting for the commit of what went before it."""

    @cache.invalidate(tags=["user:{user_id}"], when="commit")
    def rename(session: Session, user_id: int) -> None:
        session.get_one(User, user_id).name = "Eve"
        raise KeyError(user_id)

    with Session(database) as session:
        with pytest.raises(KeyError):
            rename(session, 1)
        session.commit()
    assert (entries(name_of), name_of(1)) == (1, "Ada")  # who commits what a failed call has written drops by hand
    cache.drop_sync(tags=["user:1"])
    assert name_of(1) == "Eve"


def test_the_session_of_an_instance(cache, database, name_of):
    """A repository's session is found on the instance."""

    class Users:
        def __init__(self, session: Session) -> None:
            self._session = session

        @cache.invalidate(fn=name_of, when="commit")
        def rename(self, user_id: int, name: str) -> None:
            self._session.get_one(User, user_id).name = name

    with Session(database) as session:
        Users(session).rename(1, "Eve")
        assert entries(name_of) == 1
        session.commit()
    assert name_of(1) == "Eve"


@pytest.mark.parametrize("place", ["attribute", "property", "cached", "inherited", "class"])
def test_the_session_of_an_instance_of_any_name(cache, database, name_of, place, caplog):
    """Whatever the first parameter is called, and where a property hands the session out."""
    commit = cache.invalidate(fn=name_of, key=lambda _, user_id, name: (user_id,), when="commit")

    class Plain:
        def __init__(this, session: Session) -> None:  # noqa: N805 - the name is what this is about
            this.held = [session] if place in {"property", "cached"} else session

        @commit
        def rename(this, user_id: int, name: str) -> None:  # noqa: N805
            session = this.held[0] if isinstance(this.held, list) else this.held
            session.get_one(User, user_id).name = name

        @classmethod
        @commit
        def rename_all(kind, user_id: int, name: str) -> None:  # noqa: N804
            kind.shared.get_one(User, user_id).name = name

    class Derived(Plain):
        if place == "property":
            session = property(lambda this: this.held[0])
        elif place == "cached":
            db_session = cached_property(lambda this: this.held[0])
        broken_session = property(lambda _: 1 / 0)

    with Session(database) as session:
        if place == "class":
            Plain.shared = session
            Plain.rename_all(1, "Eve")
        else:
            (Plain if place == "attribute" else Derived)(session).rename(1, "Eve")
        assert name_of(1) == "Ada"
        assert entries(name_of) == 1
        session.commit()
    assert name_of(1) == "Eve"
    assert not caplog.records


class Slotted:
    """A repository without a dictionary."""

    __slots__ = ("__session", "empty")

    def __init__(self, session: Session) -> None:
        self.__session = session

    @property
    def session(self) -> Session:
        return self.__session


@pytest.mark.parametrize("place", ["slot", "star", "keyword"])
def test_a_session_that_is_hidden(cache, database, name_of, place, caplog):
    """A private slot of the instance, `*args` and `**kwargs` are looked into as well."""
    commit = cache.invalidate(tags=["user:{user_id}"], when="commit")

    def change(session: Session, user_id: int, name: str) -> None:
        session.get_one(User, user_id).name = name

    class Repository(Slotted):
        @commit
        def rename(self, user_id: int, name: str) -> None:
            change(self.session, user_id, name)

    @commit
    def starred(user_id: int, name: str, *session: Session) -> None:
        change(*session, user_id, name)

    @commit
    def named(user_id: int, name: str, **more: Session) -> None:
        change(more["session"], user_id, name)

    with Session(database) as session:
        if place == "slot":
            Repository(session).rename(1, "Eve")
        elif place == "star":
            starred(1, "Eve", session)
        else:
            named(1, "Eve", session=session)
        assert name_of(1) == "Ada"
        assert entries(name_of) == 1
        session.commit()
    assert name_of(1) == "Eve"
    assert not caplog.records


def test_two_sessions(database, name_of, cache):
    """With two sessions in a transaction the commit of each drops, whichever wrote."""

    @cache.invalidate(tags=["user:{user_id}"], when="commit")
    def rename(replica: Session, session: Session, user_id: int, name: str) -> None:
        replica.get_one(User, user_id)
        replica.rollback()
        replica.get_one(User, user_id)
        session.get_one(User, user_id).name = name

    with Session(database) as replica, Session(database) as session:
        rename(replica, session, 1, "Eve")
        replica.rollback()
        assert entries(name_of) == 1
        session.commit()
    assert name_of(1) == "Eve"


@pytest.mark.parametrize("kind", ["scoped", "function"])
def test_a_session_that_is_no_argument(cache, database, name_of, kind):
    """A scoped session, or a function that returns the session of the moment, is followed once it is registered."""
    ambient = scoped_session(sessionmaker(database))
    remove = cache.on_commit(transactions(ambient if kind == "scoped" else ambient.registry))

    @cache.invalidate(tags=["user:{user_id}"], when="commit")
    def rename(user_id: int, name: str) -> None:
        ambient.get_one(User, user_id).name = name

    rename(1, "Eve")
    assert entries(name_of) == 1
    ambient.commit()
    assert name_of(1) == "Eve"
    rename(1, "Bob")
    ambient.rollback()
    assert entries(name_of) == 1
    remove()
    ambient.remove()


async def test_async_sessions(bench, tmp_path):
    """An asynchronous session drops at its commit, at the servers as well, and forgets at its rollback."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'users.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    made = async_sessionmaker(engine)
    async with made() as session, session.begin():
        session.add(User(id=1, name="Ada"))

    def reader(cache):
        @cache.cached(60, tags=["user:{user_id}"], key=lambda user_id: user_id)
        async def name_of(user_id: int) -> str:
            async with made() as session:
                return (await session.scalars(select(User.name).where(User.id == user_id))).one()

        return name_of

    cache = bench.cache("l2")
    here, there = reader(cache), reader(bench.cache("l2"))

    @cache.invalidate(tags=["user:{user_id}"], when="commit")
    async def rename(session: AsyncSession, user_id: int, name: str) -> None:
        (await session.get_one(User, user_id)).name = name

    async with made() as session:
        assert (await here(1), await there(1)) == ("Ada", "Ada")
        await rename(session, 1, "Eve")
        await session.rollback()
        assert entries(here) == 1
        await rename(session, 1, "Eve")
        assert entries(here) == 1
        await session.commit()
        assert entries(here) == 0
    assert await here(1) == "Eve"
    await asyncio.sleep(0)  # the servers are told by a task
    bench.clock.advance(2)
    assert await there(1) == "Eve"
    await engine.dispose()


def test_a_hook_of_ones_own(cache):
    """A hook gets a function to call at the commit; one that returns False has no transaction, so the drop is made."""
    waiting = []
    reads = []

    @cache.cached(60, tags=["a"])
    def read() -> int:
        reads.append(1)
        return len(reads)

    @cache.invalidate(tags=["a"], when="commit")
    def write(user_id: int) -> None: ...

    remove = cache.on_commit(lambda drop: waiting.append(drop) if waiting is not None else False)
    read()
    write(7)
    assert (read(), waiting[0].arguments) == (1, {"user_id": 7})
    waiting[0]()
    assert read() == 2
    waiting[0]()  # no harm
    assert read() == 3
    waiting = None
    write(7)
    assert read() == 4
    remove()


def test_a_module_wide_hook_counts_for_every_cache(cache):
    """`smw.cache.on_commit` is asked by the decorators of every cache until it is removed."""
    taken = []
    remove = cache_module.on_commit(taken.append)

    @cache.invalidate(tags=["a"], when="commit")
    def write() -> None: ...

    write()
    remove()
    assert len(taken) == 1
    write()
    assert len(taken) == 1


def test_a_failing_hook_costs_no_drop(cache, caplog):
    """A hook that raises is logged; the call succeeds, and what it changed is dropped after it."""
    reads = []

    @cache.cached(60, tags=["a"])
    def read() -> int:
        reads.append(1)
        return len(reads)

    @cache.invalidate(tags=["a"], when="commit")
    def write() -> str:
        return "done"

    cache.on_commit(lambda _drop: 1 / 0)
    read()
    with caplog.at_level(logging.ERROR, "smw.cache"):
        assert write() == "done"
    assert read() == 2
    assert "hook of on_commit failed" in caplog.text


@pytest.mark.parametrize("at", [1, 2])
def test_a_hook_that_cannot_tell_of_commits_costs_no_drop(cache, caplog, at):
    """One whose count fails, before the call or after it, is logged; the call succeeds, and then it drops."""
    source, asked = {1: "a"}, []

    class Hook:
        def commits(self, _arguments):
            asked.append(1)
            if len(asked) >= at:
                raise RuntimeError
            return 0

        def __call__(self, _drop):
            return True

    @cache.cached(60, tags=["n:{number}"])
    def name(number: int) -> str:
        return source[number]

    @cache.invalidate(tags=["n:{number}"], when="commit")
    def rename(number: int, new: str) -> None:
        source[number] = new

    cache.on_commit(Hook())
    assert name(1) == "a"
    with caplog.at_level(logging.ERROR, "smw.cache"):
        rename(1, "b")
    assert name(1) == "b"
    assert "hook of on_commit failed" in caplog.text


def test_without_any_transaction_it_is_after(cache, name_of, database, caplog):
    """A session that is in none drops after the call; where nobody knows of transactions one warning says so."""

    @cache.invalidate(tags=["user:{user_id}"], when="commit")
    def with_session(session: Session, user_id: int) -> None: ...

    @cache.invalidate(tags=["user:{user_id}"], when="commit")
    def without(user_id: int) -> None: ...

    with caplog.at_level(logging.WARNING, "smw.cache"):
        with Session(database) as session:
            with_session(session, 1)
        assert entries(name_of) == 0
        assert caplog.records == []
        for _ in range(2):
            name_of(1)
            without(1)
            assert entries(name_of) == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "knows of no transaction" in caplog.text
