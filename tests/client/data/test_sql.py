"""Rows from real databases: what a query may do, what a change does, how things fail."""

import gc
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url

from accord_client.data import sql, sql_connection
from accord_client.data.reading import Reading
from accord_client.data.rows import open_rows
from accord_client.data.sql import SqlSource
from accord_client.data.sql_text import check_select
from accord_client.datasets import Datasets
from accord_client.training.train import LocalPlan, train_round
from accord_common import schema_file
from accord_common.errors import AccordError, DataError, UsageError
from accord_common.models.discovery import load_task
from accord_common.models.flat import initial_vector
from accord_common.schema import TableSchema
from tests.client.data.conftest import Postgres
from tests.client.data.omop import EXAMPLE, PEOPLE, statements
from tests.client.data.test_rows import SCHEMA

ROWS = [(f"p{row}", row, row % 2) for row in range(60)]
EVERYTHING = "SELECT patient, age, ill FROM visits"


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(tmp_path / "clinic.db")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("CREATE TABLE visits (patient, age, ill)")
    connection.executemany("INSERT INTO visits VALUES (?, ?, ?)", ROWS)
    connection.commit()
    return connection


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/clinic.db"


@pytest.fixture(scope="module")
def clinic(postgres: tuple[Postgres, str]) -> tuple[Postgres, str]:
    psql, url = postgres
    psql(
        "CREATE TABLE visits AS SELECT 'p' || i AS patient, i AS age, (i % 2)::numeric AS ill "
        "FROM generate_series(0, 59) i; CREATE SEQUENCE counter;"
        "GRANT ALL ON visits, counter TO reader;"
    )
    return psql, url


def read(url: str, query: str = EVERYTHING, known: str | None = None) -> Reading:
    return SqlSource.at(url, query).read(SCHEMA, known=known)


def refusal(call: Callable[[], object]) -> AccordError:
    with pytest.raises(AccordError) as caught:
        call()
    return caught.value


def test_sqlite_gives_rows(database: sqlite3.Connection, address: str) -> None:
    reading = read(address)
    assert reading.people == [f"p{row}" for row in range(60)]
    assert reading.table.labels.tolist() == [row % 2 for row in range(60)]


def test_postgresql_gives_the_same_rows(
    database: sqlite3.Connection, address: str, clinic: tuple[Postgres, str]
) -> None:
    """Strings with % and : reach the server as they were written."""
    query = EVERYTHING + " WHERE patient LIKE 'p%' AND patient <> ':p'"
    mine, theirs = read(address, query), read(clinic[1], query)
    assert theirs.people == mine.people
    assert (theirs.table.features == mine.table.features).all()


def test_the_mark_is_of_the_rows_and_not_of_their_order(
    database: sqlite3.Connection, address: str
) -> None:
    first = read(address).sha256
    assert read(address, EVERYTHING + " ORDER BY age DESC;", known=first).sha256 == first
    for change in (
        "UPDATE visits SET age = 99 WHERE age = 7",
        "UPDATE visits SET ill = 0.0 WHERE age = 0",
        "UPDATE visits SET patient = 7 WHERE age = 7",
        "DELETE FROM visits WHERE age = 7",
        "INSERT INTO visits SELECT * FROM visits WHERE age = 7",
    ):
        database.execute("DELETE FROM visits")
        database.executemany("INSERT INTO visits VALUES (?, ?, ?)", ROWS)
        database.execute(change)
        database.commit()
        assert refusal(lambda: read(address, known=first)).code == "dataset-changed", change


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE visits",
        "SELECT 1; DROP TABLE visits",
        "SELECT 1; -- more\nSELECT 2",
        "/* SELECT */ DELETE FROM visits",
        "INSERT INTO visits SELECT * FROM visits",
        "PRAGMA query_only = OFF",
        "selection",
        ";",
    ],
)
def test_anything_but_one_select_is_refused_before_a_connection(query: str) -> None:
    assert refusal(lambda: check_select(query)).code == "sql-not-select"


def test_a_semicolon_that_ends_nothing_is_allowed() -> None:
    check_select("-- all; of it\nSELECT ';' AS \"a;b\", $x$;$x$ /* ; */ FROM t ;\n")
    check_select("with a as (select 1) select * from a")


def test_sqlite_itself_refuses_to_write(
    database: sqlite3.Connection, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "check_select", lambda _: None)
    for query in ("DELETE FROM visits", "CREATE TABLE x (y)", "DELETE FROM visits RETURNING *"):
        assert refusal(partial(read, address, query)).code == "sql-not-readonly"
    assert refusal(lambda: read(address, "SELECT 1; DROP TABLE visits")).code == "sql-refused"
    assert database.execute("SELECT count(*) FROM visits").fetchone() == (60,)


def test_postgresql_itself_refuses_to_write(
    clinic: tuple[Postgres, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account may write here; the transaction may not, nor can a query leave it."""
    monkeypatch.setattr(sql, "check_select", lambda _: None)
    psql, url = clinic
    for query, code in {
        "DELETE FROM visits": "sql-refused",
        "WITH gone AS (DELETE FROM visits RETURNING *) SELECT * FROM gone": "sql-refused",
        "SELECT * FROM visits; COMMIT; DELETE FROM visits": "sql-refused",
        "SELECT *, set_config('transaction_read_only', 'off', false) FROM visits": "sql-refused",
        "SELECT * INTO other FROM visits": "sql-refused",
        "SELECT *, nextval('counter') FROM visits": "sql-not-readonly",
        "SELECT * FROM visits FOR UPDATE": "sql-not-readonly",
    }.items():
        assert refusal(partial(read, url, query)).code == code, query
    assert "60" in psql("SELECT count(*) FROM visits")


def test_a_session_that_may_write_is_refused_before_the_query(
    clinic: tuple[Postgres, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands between node and server may drop settings: either is enough, none is refused."""
    url = clinic[1] + "&options=-c%20search_path=public"
    with monkeypatch.context() as dropped:
        dropped.setattr(sql_connection, "_READ_ONLY_TRANSACTION", {})
        assert read(url).table.rows == 60
    monkeypatch.setattr(sql_connection, "_READ_ONLY_SESSION", "")
    assert read(url).table.rows == 60
    monkeypatch.setattr(sql_connection, "_READ_ONLY_TRANSACTION", {})
    assert refusal(lambda: read(url)).code == "sql-not-readonly"


def test_what_takes_too_long_is_stopped(
    database: sqlite3.Connection,
    address: str,
    clinic: tuple[Postgres, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sql_connection, "QUERY_TIMEOUT_S", 0.2)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    assert refusal(lambda: read(address, endless + "SELECT max(i) FROM n")).code == "sql-timeout"
    assert refusal(lambda: read(address, endless + "SELECT i FROM n")).code == "sql-timeout"
    slow = "SELECT pg_sleep(30), * FROM visits"
    assert refusal(lambda: read(clinic[1], slow)).code == "sql-timeout"


@pytest.fixture
def losing() -> Iterator[None]:
    """psycopg's cursors cannot be closed without a server, and warn of it when they go."""
    yield
    gc.collect()


@pytest.mark.usefixtures("losing")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_that_says_nothing_more_holds_up_nobody(
    clinic: tuple[Postgres, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped server still acknowledges packets, so no keepalive finds it."""
    monkeypatch.setattr(sql_connection, "QUERY_TIMEOUT_S", 1)
    monkeypatch.setattr(sql_connection, "_GRACE_S", 0.2)
    backends = "SELECT pid FROM pg_stat_activity WHERE usename = 'reader'"
    stopped: list[int] = []
    over = threading.Event()

    def stop() -> None:
        while not stopped and not over.is_set():
            stopped.extend(map(int, re.findall(r"^ *(\d+)$", clinic[0](backends), re.MULTILINE)))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        began = time.monotonic()
        slow = "SELECT pg_sleep(0.9), * FROM visits LIMIT 1"
        assert refusal(lambda: read(clinic[1], slow)).code == "sql-timeout"
        assert stopped and time.monotonic() - began < 10
    finally:
        over.set()
        stopper.join()
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("losing")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_the_database_failed_at_is_no_mistake_of_the_query(
    database: sqlite3.Connection,
    address: str,
    clinic: tuple[Postgres, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sql_connection, "CONNECT_TIMEOUT_S", 0.1)
    database.execute("BEGIN EXCLUSIVE")
    assert refusal(lambda: read(address)).code == "sql-unreachable"  # locked
    database.rollback()
    Path(address.removeprefix("sqlite:///")).write_bytes(b"no database" * 1000)
    assert refusal(lambda: read(address)).code == "sql-unreachable"
    gone = "SELECT pg_terminate_backend(pg_backend_pid()), * FROM visits"
    assert refusal(lambda: read(clinic[1], gone)).code == "sql-unreachable"


def test_a_number_of_a_thousand_digits_is_out_of_range(clinic: tuple[Postgres, str]) -> None:
    query = "SELECT patient, 10::numeric ^ 1000 AS age, ill FROM visits"
    assert refusal(lambda: read(clinic[1], query)).code == "out-of-range"


def test_more_than_memory_should_hold_is_refused(
    database: sqlite3.Connection, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "MOST_CELLS", 180)
    monkeypatch.setattr(sql, "_AT_ONCE", 7)
    assert read(address).table.rows == 60  # in nine parts
    assert refusal(lambda: read(address, EVERYTHING + " UNION ALL SELECT 'p', 1, 1")).code == (
        "sql-too-large"
    )


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELEC", "sql-not-select"),
        ("SELECT * FROM nowhere", "sql-refused"),
        ("SELECT *, 1 AS age FROM visits", "repeated-column"),
        ("SELECT patient, age, x'00' AS ill FROM visits", "sql-type"),
        ("SELECT patient, age FROM visits", "missing-column"),
        ("SELECT patient, NULL AS age, ill FROM visits", "missing-value"),
        ("SELECT * FROM visits WHERE age < 0", "too-few-rows"),
    ],
)
def test_a_wrong_query_is_refused_by_name(
    database: sqlite3.Connection, address: str, query: str, code: str
) -> None:
    assert refusal(lambda: read(address, query)).code == code


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://a:secret@h/d", "sql-password-in-url"),
        ("postgresql://a@h/d?password=secret", "sql-password-in-url"),
        ("mysql://h/d", "sql-dialect"),
        ("mssql+pyodbc://h/d", "sql-dialect"),
        ("clinic.db", "bad-sql-url"),
    ],
)
def test_an_address_is_refused_without_repeating_it(url: str, code: str) -> None:
    error = refusal(lambda: SqlSource.at(url, "SELECT 1"))
    assert (error.code, "secret" in str(error)) == (code, False)
    assert isinstance(error, UsageError)


def test_a_database_that_is_not_there_is_named(address: str) -> None:
    assert refusal(lambda: read(address)).code == "dataset-missing"
    assert not Path(address.removeprefix("sqlite:///")).exists()
    for nobody in ("postgresql://a@localhost:1/d", "postgresql://a@/d?host=/nowhere"):
        assert refusal(partial(read, nobody)).code == "sql-unreachable"


def test_a_password_is_read_from_where_only_its_owner_reads(
    clinic: tuple[Postgres, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse: 'battery'\n")
    secret.chmod(0o644)
    source = SqlSource.at(clinic[1], EVERYTHING, password_file=secret)
    assert refusal(lambda: source.read(SCHEMA)).code == "sql-password-exposed"
    secret.chmod(0o600)
    assert source.read(SCHEMA).table.rows == 60
    assert "battery" not in source.to_bytes().decode()
    secret.unlink()
    assert refusal(lambda: source.read(SCHEMA)).code == "sql-no-password"
    variable = SqlSource.at(clinic[1], EVERYTHING, password_variable="CLINIC_PASSWORD")
    assert refusal(lambda: variable.read(SCHEMA)).code == "sql-no-password"
    monkeypatch.setenv("CLINIC_PASSWORD", "x")
    assert variable.read(SCHEMA).table.rows == 60


@pytest.mark.parametrize(
    ("url", "sslmode"),
    [
        ("postgresql://a@db.hospital.org/d", "require"),
        ("postgresql://a@/d?host=db.hospital.org", "require"),
        ("postgresql://a@db.hospital.org/d?sslmode=verify-full", None),  # stays as it was written
        ("postgresql://a@localhost/d", None),
        ("postgresql://a@/d?host=/run/postgresql", None),
    ],
)
def test_rows_cross_a_network_under_tls(url: str, sslmode: str | None) -> None:
    assert sql_connection._settings(make_url(url)).get("sslmode") == sslmode


def test_two_queries_of_one_database_are_about_one_population(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "clinic.db")
    one, other = (
        SqlSource.at(f"sqlite:///{tmp_path}/{name}.db", query)
        for name, query in (("clinic", "SELECT 1"), ("link", "SELECT 2"))
    )
    assert one.identity == other.identity
    here = SqlSource.at("postgresql://a@h/d", "SELECT 1").identity
    assert here == SqlSource.at("postgresql+psycopg://b@h:5432/d", "SELECT 2").identity
    assert here != SqlSource.at("postgresql://a@h/e", "SELECT 1").identity


def test_a_relative_path_stays_the_same_file(
    database: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = SqlSource.at("sqlite:///clinic.db", EVERYTHING)
    os.chdir("/")
    assert SqlSource.from_bytes(source.to_bytes()).read(SCHEMA).table.rows == 60
    with pytest.raises(DataError, match="dataset-missing"):
        SqlSource.at("sqlite://", EVERYTHING).read(SCHEMA)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def cdm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "postgresql":
        psql, url = request.getfixturevalue("postgres")
        psql("CREATE SCHEMA cdm; SET search_path = cdm;" + statements())
        return f"{url}&options=-c%20search_path=cdm"
    path = tmp_path_factory.mktemp("omop") / "cdm.db"
    connection = sqlite3.connect(path)
    connection.executescript(statements())
    connection.close()
    return f"sqlite:///{path}"


def test_the_omop_example_registers_and_trains(cdm: str, tmp_path: Path) -> None:
    schema = schema_file.load(EXAMPLE / "kidney.yaml")
    datasets = Datasets(tmp_path / "datasets")
    dataset = datasets.prepare(
        SqlSource.at(cdm, (EXAMPLE / "kidney.sql").read_text()),
        schema,
        name="diabetes",
        size=250,
        unit="patient",
        policy="ask",
        population=None,
        validation="0.2",
    )
    datasets.store(dataset)
    assert dataset.mark.rows == PEOPLE - PEOPLE // 3
    rows = open_rows(datasets.find("diabetes"), frozenset({"1", "2", "3"}))
    assert rows.opted_out == 2 and rows.validation is not None  # 3 has no diabetes
    assert isinstance(schema, TableSchema)
    feature = dict(zip(schema.features, rows.train.features.T, strict=True))
    assert set(feature["bmi_known"]) == {1} and set(feature["hba1c_known"]) == {-1}
    assert set(feature["hba1c"]) == {0}
    # The newest of two values counts, and 500 mmHg is cut to the range's end.
    assert set(feature["systolic"].round(3)) <= {np.float32(-0.725), np.float32(5.75)}
    # Who was born before 1965 got kidney disease, by its own concept or a descendant.
    assert (rows.train.labels == (feature["age"] * 14 + 62 > 60)).all()

    task = load_task("tabular-binary")
    module = task.build("logistic-regression", {}, schema)
    plan = LocalPlan(60, "0.5", dataset.size, "1", "0.5", "2")
    start = initial_vector(module, 0)
    trained = start + train_round(task, module, start, rows.train, plan)
    weights = dict(zip(schema.features, trained, strict=False))
    assert weights["age"] > 0.5  # learnt, through the noise
