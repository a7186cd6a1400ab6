"""PostgreSQL as it is met: restarted under load, refused, misnamed, slow, without TLS."""

import asyncio
import os
import signal
import ssl
import threading
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import AccordError, UsageError
from accord_common.fields import now
from accord_common.joining import parse_invitation
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry import engines
from accord_server.registry.db import Database
from accord_server.registry.engines import Bounds, check_url, verified
from accord_server.registry.faults import DatabaseFault
from accord_server.registry.log.tables import LogNodeRow
from accord_server.registry.setup import initialise
from accord_server.registry.turns import Turns
from tests.postgres import Postgres
from tests.server.cli.office import accord
from tests.server.registry.stack import Stack, opened, settings_in
from tests.world import make_world

SECRET = "correct-horse"


@pytest.fixture
def on_postgres(tmp_path: Path, certificates: Path, postgres: Postgres) -> Iterator[Stack]:
    """A registry that its coordinator has joined."""
    with postgres.database() as name:
        url = postgres.url(name)
        settings = settings_in(tmp_path / "registry", certificates, database_url=url)
        invitation = asyncio.run(initialise(settings)).text
        with opened(settings, invitation, make_world(log_key=settings.read_log_key())) as stack:
            stack.join(stack.world.coordinator, parse_invitation(invitation).code)
            yield stack


def code_of(url: str, bounds: Bounds | None = None) -> tuple[str, str]:
    """What a registry says that is started on a database; `""` where it starts."""

    async def run() -> None:
        database = Database(url, bounds)
        try:
            await database.migrate()
        finally:
            await database.close()

    try:
        asyncio.run(run())
    except AccordError as error:
        return error.code, str(error)
    return "", ""


async def appended(database: Database, statement: str = "SELECT 1") -> str:
    """`done`, or the fault's code."""
    try:
        await database.append(lambda session: session.sync_session.execute(text(statement)))
    except DatabaseFault as fault:
        return fault.code
    return "done"


def test_it_goes_on_after_the_database_was_restarted(
    on_postgres: Stack, postgres: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    coordinator = on_postgres.tokens[on_postgres.world.coordinator.id]
    told: list[tuple[int, str]] = []
    moved, ended = threading.Condition(), threading.Event()

    def traffic() -> None:
        headers = {"Authorization": f"Bearer {coordinator}"}
        body = {"role": "auditor", "name": "auditor"}
        while not ended.is_set():
            answer = on_postgres.http.post("/v1/invitations", json=body, headers=headers)
            with moved:
                told.append((answer.status_code, answer.json().get("code", "")[:8]))
                moved.notify_all()
            if answer.status_code == 503:
                assert answer.json()["code"] == "database-unreachable"
                assert "/" not in answer.json()["detail"] + answer.json()["hint"]

    def until(status: int) -> None:
        with moved:
            told.clear()
            found = moved.wait_for(lambda: status in {item for item, _ in told}, timeout=20)
        assert found, told

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(traffic)
        try:
            until(201)
            postgres.kill()
            until(503)
            postgres.start()
            until(201)
        finally:
            ended.set()
        running.result(30)
    assert {status for status, _ in told} <= {201, 503}
    assert on_postgres.http.get("/readyz").status_code == 200
    shown = capfd.readouterr()
    assert "database-unreachable" in shown.out + shown.err  # with its cause, for the operator


def test_appends_go_on_after_the_database_was_restarted(
    on_postgres: Stack, postgres: Postgres
) -> None:
    database = on_postgres.settings.open_database()

    async def story() -> None:
        try:
            assert await appended(database) == "done"
            await asyncio.to_thread(postgres.kill)
            assert await appended(database) == "database-unreachable"
            await asyncio.to_thread(postgres.start)
            assert await appended(database) == "done"
        finally:
            await database.close()

    asyncio.run(story())


def test_what_is_wrong_with_the_database_has_a_name(postgres: Postgres, tmp_path: Path) -> None:
    assert code_of(postgres.url("nowhere"))[0] == "database-missing"
    for gone in ("postgresql://a@127.0.0.1:1/b", "postgresql://a@name.invalid/b?sslmode=disable"):
        assert code_of(gone)[0] == "database-unreachable"
    assert code_of("postgresql://a@127.0.0.1/b?sslmode=sometimes")[0] == "database-settings"
    other = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    with postgres.database("template0", other) as name:
        code, message = code_of(postgres.url(name))
        assert code == "wrong-encoding" and "SQL_ASCII" in message
    postgres.run("CREATE ROLE guest LOGIN")
    with postgres.database() as name:
        assert code_of(postgres.url(name, "guest"))[0] == "database-permission"
        postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        assert code_of(postgres.url(name))[0] == "database-read-only"


def test_passwords_come_from_a_file_and_are_never_shown(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.run(f"CREATE ROLE accord LOGIN PASSWORD '{SECRET}'")
    hba = postgres.folder / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all accord scram-sha-256\n" + before)
    postgres.run("SELECT pg_reload_conf()")
    passfile = tmp_path / "passfile"
    with postgres.database() as name:
        postgres.run(f"ALTER DATABASE {name} OWNER TO accord")
        url = f"{postgres.url(name, 'accord')}&passfile={passfile}"
        for password in ("wrong-battery", SECRET):
            passfile.write_text(f"*:*:*:accord:{password}\n")
            passfile.chmod(0o600)
            code, message = code_of(url)
            assert code == ("" if password == SECRET else "database-auth")
            assert password not in message
        passfile.unlink()
        assert code_of(url)[0] == "no-file"
        monkeypatch.setenv("PGPASSWORD", SECRET)
        assert code_of(postgres.url(name, "accord")) == ("", "")
    hba.write_text(before)
    postgres.run("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    "url", [f"postgresql://a:{SECRET}@host/b", f"postgresql://a@host/b?password={SECRET}"]
)
def test_a_password_in_the_address_is_refused_and_not_quoted(
    url: str, tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"--cert": "server.pem", "--key": "server.key", "--ca": "ca.pem"}
    options: list[str | Path] = [
        part for name, file in files.items() for part in (name, str(certificates / file))
    ]
    command: list[str | Path] = ["registry", "init", "--home", tmp_path / "registry", *options]
    monkeypatch.setenv("ACCORD_REGISTRY_DATABASE_URL", url)
    for done in (accord(*command, "--format", "json"), accord(*command, "--database-url", url)):
        assert done.code == 2
        assert "password-in-url" in done.err and SECRET not in done.err + done.out
    assert not (tmp_path / "registry").exists()


def test_addresses_that_are_none_are_refused() -> None:
    for url in ("mysql://a@host/b", "postgresql://host", "sqlite:///x", f"{SECRET}", "postgresql:"):
        with pytest.raises(UsageError) as error:
            check_url(url)
        assert error.value.code == "bad-database-url"
        assert SECRET not in str(error.value)


def test_waiting_is_bounded(on_postgres: Stack) -> None:
    url = on_postgres.settings.database

    async def slow() -> None:
        database = Database(url, Bounds(1, statement_s=0.2, lock_s=0.2))
        try:
            with pytest.raises(DatabaseFault, match="database-busy"):
                async with database.read() as session:
                    await session.execute(text("SELECT pg_sleep(30)"))
            async with database.read():
                with pytest.raises(DatabaseFault, match="database-busy"):
                    async with database.read():
                        raise AssertionError("there is one connection")
            assert await appended(database, "SELECT pg_sleep(30)") == "database-busy"
            with psycopg.connect(url) as another:
                another.execute("SELECT pg_advisory_xact_lock(%s)", (0x6163636F7264,))
                assert await appended(database) == "database-busy"
            assert await appended(database) == "done"
        finally:
            await database.close()

    asyncio.run(slow())
    with psycopg.connect(url) as another:
        another.execute("SELECT pg_advisory_xact_lock(%s)", (0x6163636F7264,))
        assert code_of(url, Bounds(1, lock_s=0.2))[0] == "database-busy"
    assert code_of(url) == ("", "")


async def backend(session: AsyncSession) -> int:
    """The server's process that answers."""
    return int((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


def test_appends_that_cannot_begin_are_told_so_together(postgres: Postgres) -> None:
    async def story(url: str) -> None:
        database = Database(url, Bounds(1, lock_s=0.2))
        tries: list[object] = []
        event.listen(database._appending, "begin", tries.append)
        turns = Turns(database)
        try:
            with psycopg.connect(url) as another:
                another.execute("SELECT pg_advisory_xact_lock(%s)", (0x6163636F7264,))
                each = [turns.do(backend) for _ in range(5)]
                told = await asyncio.gather(*each, return_exceptions=True)
            assert [getattr(one, "code", one) for one in told] == ["database-busy"] * 5
            assert len(tries) == 1  # not 10 s for each in turn
            assert await turns.do(backend)
        finally:
            await database.close()

    with postgres.database() as name:
        asyncio.run(story(postgres.url(name)))


def test_a_lost_connection_costs_its_neighbours_nothing(postgres: Postgres) -> None:
    lost: list[int] = []

    async def losing(session: AsyncSession) -> int:
        if not lost:
            lost.append(await backend(session))
            postgres.run(f"SELECT pg_terminate_backend({lost[0]})")
        return await backend(session)

    async def story(url: str) -> None:
        database = Database(url)
        turns = Turns(database)
        try:
            each = [turns.do(work) for work in (backend, losing, backend)]
            found = await asyncio.gather(*each)
            assert len(set(found)) == 1 and found[0] not in lost
        finally:
            await database.close()

    with postgres.database() as name:
        asyncio.run(story(postgres.url(name)))


def test_a_server_that_hangs_holds_no_append_for_ever(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "CONNECT_TIMEOUT_S", 1.0)

    async def story(url: str) -> None:
        database = Database(url, Bounds(1, statement_s=0.2))
        turns = Turns(database)
        try:
            hung = await turns.do(backend)
            os.kill(hung, signal.SIGSTOP)
            try:
                async with asyncio.timeout(20):
                    assert await turns.do(backend) != hung
            finally:
                os.kill(hung, signal.SIGCONT)
        finally:
            await database.close()

    with postgres.database() as name:
        asyncio.run(story(postgres.url(name)))


def test_what_is_sent_with_the_commit_is_refused_with_it(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with any commit that nobody answers, the database may yet keep it."""
    monkeypatch.setattr(engines, "CONNECT_TIMEOUT_S", 1.0)
    stopped: list[int] = []

    def node(number: int, digest: str) -> LogNodeRow:
        return LogNodeRow(level=60, number=number, hash=digest)

    async def one(session: AsyncSession) -> None:
        session.add(node(0, "0" * 64))

    async def too_long(session: AsyncSession) -> None:
        session.add(node(1, "1" * 65))

    async def hanging(session: AsyncSession) -> None:
        session.add(node(2, "2" * 64))
        if not stopped:
            stopped.append(await backend(session))
            os.kill(stopped[0], signal.SIGSTOP)

    async def story(url: str) -> None:
        database = Database(url, Bounds(1, statement_s=0.2, lock_s=0.2))
        turns = Turns(database)
        try:
            await database.migrate()
            each = [turns.do(work) for work in (one, too_long)]
            told = await asyncio.gather(*each, return_exceptions=True)
            assert told[0] is None and isinstance(told[1], DataError)
            try:
                async with asyncio.timeout(20):
                    assert await code_at(turns.do(hanging)) == "database-unreachable"
            finally:
                os.kill(stopped[0], signal.SIGCONT)
            kept = select(LogNodeRow.number).order_by(LogNodeRow.number)
            found = await turns.do(lambda session: session.execute(kept))
            assert list(found.scalars()) in ([0], [0, 2])
        finally:
            await database.close()

    with postgres.database() as name:
        asyncio.run(story(postgres.url(name)))


async def code_at(work: Awaitable[object]) -> str:
    try:
        await work
    except AccordError as error:
        return error.code
    return ""


def test_no_value_of_a_statement_is_shown(on_postgres: Stack) -> None:
    async def fail() -> None:
        database = Database(on_postgres.settings.database)
        try:
            async with database.read() as session:
                await session.execute(
                    text("SELECT nothing_like_it FROM tokens WHERE hash = :x"), {"x": SECRET}
                )
        finally:
            await database.close()

    with pytest.raises(Exception) as error:
        asyncio.run(fail())
    assert "nothing_like_it" in str(error.value) and SECRET not in str(error.value)


def test_the_server_proves_its_name(postgres: Postgres, tmp_path: Path, certificates: Path) -> None:
    create_ca(tmp_path / "foreign", "Another CA", now())
    issue(certificates, ["db.example.org"], tmp_path / "cert", tmp_path / "key", now())
    with postgres.database() as name:
        address = (
            f"postgresql://postgres@127.0.0.1:{{}}/{name}?sslmode=verify-full&sslrootcert={{}}"
        )
        trusted, foreign = certificates / "ca.pem", tmp_path / "foreign" / "ca.pem"
        right = (certificates / "server.pem", certificates / "server.key")
        for files, ca, code in (
            (right, trusted, ""),
            (right, foreign, "database-tls"),
            ((tmp_path / "cert", tmp_path / "key"), trusted, "database-tls"),
            (None, trusted, "database-tls"),
            (right, tmp_path / "nowhere", "no-file"),
        ):
            context = None
            if files is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*files)
            with postgres.behind_tls(context) as port:
                assert code_of(address.format(port, ca))[0] == code, (files, ca)


def test_over_a_network_tls_is_the_default() -> None:
    seen = {
        "postgresql://a@db.example.org/b": True,
        "postgresql://a@db.example.org/b?passfile=/p": True,
        "postgresql://a@db.example.org/b?sslmode=disable": False,
        "postgresql://a@127.0.0.1/b": False,
        "postgresql://a@/b?host=/run/postgresql": False,
    }
    for url, added in seen.items():
        assert ("sslmode=verify-full" in verified(url)) is added, url
