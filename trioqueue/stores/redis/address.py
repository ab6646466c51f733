"""Where a Redis is: `redis://`, `rediss://` and `unix://` URLs, read as redis-py reads them.

Stricter than redis-py in one way: what it would ignore without a word (a misspelt option, a database that is no
number, a host in front of a socket's path) is a `BadUrl` here.  No text of an error quotes any part of the URL that
could hold a password, and neither `str` nor `repr` of an `Address` shows one.
"""

import ssl
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit

import attrs
import redis
from redis.connection import parse_url  # pyright: ignore[reportUnknownVariableType]

from trioqueue._errors import BadUrl

VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
"""What `ssl_cert_reqs` may say, as in redis-py."""

_parse_url = cast("Callable[[str], dict[str, Any]]", parse_url)

Scheme: TypeAlias = Literal["redis", "rediss", "unix"]

_SCHEMES: dict[str, Scheme] = {"redis": "redis", "rediss": "rediss", "unix": "unix"}

_COMMON_OPTIONS = frozenset({"db", "username", "password"})


@attrs.frozen
class Tls:
    """How to speak TLS, under redis-py's names without their `ssl_`; what is None is Python's default."""

    ca_certs: str | None = None
    ca_path: str | None = None
    ca_data: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    cert_reqs: str = "required"
    check_hostname: bool = True
    min_version: int | None = None
    ciphers: str | None = None

    def context(self) -> ssl.SSLContext:
        """Builds the context for a connection; reads the files it names.

        Raises:
            OSError, ValueError: a file is missing or isn't what it should be (`ssl.SSLError` is an OSError).
        """
        context = ssl.create_default_context()
        # In this order: a context that checks host names refuses CERT_NONE.
        context.check_hostname = self.check_hostname and self.cert_reqs != "none"
        context.verify_mode = VERIFY_MODES[self.cert_reqs]
        if self.certfile or self.keyfile:
            context.load_cert_chain(self.certfile or "", self.keyfile, self.password)
        if self.ca_certs or self.ca_path or self.ca_data:
            context.load_verify_locations(self.ca_certs, self.ca_path, self.ca_data)
        if self.min_version is not None:
            context.minimum_version = ssl.TLSVersion(self.min_version)
        if self.ciphers:
            context.set_ciphers(self.ciphers)
        return context


_TLS_OPTIONS = frozenset(f"ssl_{field.name}" for field in attrs.fields(Tls))


@attrs.frozen
class Address:
    """One Redis server and database, and who we are there.  Made by `parse_address`.

    Its `str` names the place alone, for logs and errors: `redis://localhost:6379/0`.
    """

    scheme: Scheme
    host: str
    """Empty for a unix socket."""
    port: int
    """0 for a unix socket."""
    path: str
    """The unix socket; empty otherwise."""
    db: int
    username: str | None
    password: str | None = attrs.field(repr=False)
    tls: Tls | None
    """Set if and only if the scheme is `rediss`."""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.db}"

    def sync_client(self, **options: Any) -> redis.Redis:
        """Makes a redis-py client for this address, for a plain thread; it connects with its first command.

        Args:
            options: more keyword arguments of `redis.Redis`, such as `socket_timeout`.
        """
        known: dict[str, Any] = {"db": self.db, "username": self.username, "password": self.password}
        if self.scheme == "unix":
            known["unix_socket_path"] = self.path
        else:
            known |= {"host": self.host, "port": self.port}
        if self.tls is not None:
            known["ssl"] = True
            known |= {f"ssl_{name}": value for name, value in attrs.asdict(self.tls).items()}
        return redis.Redis(**(known | options))


def parse_address(url: str) -> Address:
    """Reads a URL of a Redis server as redis-py does.

    `redis://[user:password@]host[:port][/db]`, the same with `rediss://` for TLS, and
    `unix://[user:password@]/path/of/the/socket`; options are `db`, `username`, `password` and, for `rediss`, those of
    redis-py that begin with `ssl_`.

    Raises:
        BadUrl: it is none of these; the sentence never quotes a part that could hold a password.

    Example:
        >>> str(parse_address("redis://:secret@localhost"))
        'redis://localhost:6379/0'
    """
    first, separator, _ = url.partition("://")
    scheme = _SCHEMES.get(first) if separator else None
    if scheme is None:
        named = f"the scheme {first!r} is" if separator else "a URL without a scheme is"
        raise BadUrl(f"{named} not one of Redis, so write redis://host:port/db, rediss://… or unix:///path")
    try:
        parts = urlsplit(url)
        names = [
            name
            for name, _ in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        ]
        port = parts.port
        if "@" in parts.query:
            raise ValueError("the password went on into the query")
    except ValueError:
        # From None: the standard library's text quotes the piece it stumbled over, which may be part of a password.
        raise BadUrl(
            "its port or options can't be read; the port is a number from 1 to 65535, and the characters :/?#[]@ in a"
            " user name or password are written percent-encoded (@ as %40)"
        ) from None
    _check_parts(scheme, parts.fragment, parts.path, parts.hostname, port)
    _check_options(scheme, names)
    try:
        given = _parse_url(url)
    except ValueError as error:
        raise BadUrl(f"{str(error).rstrip('.')}, so write it as redis-py documents it") from None
    db = cast("int", given.get("db", 0))
    if db < 0:
        raise BadUrl(f"the database {db} is negative, and they are numbered from 0")
    if scheme == "unix":
        host, port = "", 0
    else:
        host, port = cast("str", given.get("host", "localhost")), port or 6379
    return Address(
        scheme=scheme,
        host=host,
        port=port,
        path=cast("str", given.get("path", "")),
        db=db,
        username=cast("str | None", given.get("username")),
        password=cast("str | None", given.get("password")),
        tls=_tls(given) if scheme == "rediss" else None,
    )


def _check_parts(scheme: str, fragment: str, path: str, hostname: str | None, port: int | None) -> None:
    if fragment:
        raise BadUrl("it has a fragment, so write a # in a user name or password as %23")
    if scheme == "unix":
        if hostname or not path.strip("/"):
            raise BadUrl(
                "a unix URL needs three slashes and the socket's whole path, as in unix:///run/redis.sock"
            )
        return
    if port == 0:
        raise BadUrl("nothing can listen on port 0; the port is a number from 1 to 65535")
    db = path.removeprefix("/").removesuffix("/")
    if db and not (db.isascii() and db.isdigit()):
        raise BadUrl("what follows the host is no database number, so write redis://host:port/0")


def _check_options(scheme: str, names: list[str]) -> None:
    allowed = _COMMON_OPTIONS | _TLS_OPTIONS if scheme == "rediss" else _COMMON_OPTIONS
    for name in names:
        if name not in allowed:
            if name in _TLS_OPTIONS:
                raise BadUrl(
                    f"the option {name!r} is only for TLS, so begin the URL with rediss:// or leave it out"
                )
            known = ", ".join(sorted(allowed))
            raise BadUrl(f"the option {name!r} is unknown here, so leave it out or write one of {known}")
        if names.count(name) > 1:
            raise BadUrl(f"the option {name!r} is given twice, so keep one")


def _tls(given: dict[str, Any]) -> Tls:
    options = {name.removeprefix("ssl_"): value for name, value in given.items() if name in _TLS_OPTIONS}
    if (verify := options.get("cert_reqs", "required")) not in VERIFY_MODES:
        raise BadUrl(f"ssl_cert_reqs says {verify!r}, so write none, optional or required")
    if (version := options.get("min_version")) is not None and version not in list(ssl.TLSVersion):
        raise BadUrl(f"ssl_min_version says {version}, and TLS 1.2 would be {ssl.TLSVersion.TLSv1_2.value}")
    return Tls(**options)
