"""Requests to this machine's own servers, which no proxy can reach; those to the outside still go through it.

Clients read a proxy, and whom it is not for, from the environment: requests, httpx (Prefect's client), websockets and
urllib, each in its own way. Of `no_proxy` and `NO_PROXY` most prefer the first, and none joins them.
"""

import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener, urlopen

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ADDRESSES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
_SPELLINGS = ("no_proxy", "NO_PROXY")
_EVERYTHING = "*"
_SETTING = "_proxy"


def bypass_proxies() -> None:
    """Completes NO_PROXY with this machine, for this process and its children; what stands there stays.

    Call it before any client is made. Without a proxy in the environment it changes nothing: where NO_PROXY is set,
    Python doesn't ask macOS for the proxies of its settings.
    """
    if not any(value and _names_a_proxy(name) for name, value in os.environ.items()):
        return
    own = dict.fromkeys([*_LOOPBACK, *filter(None, map(_loopback_host, map(os.environ.get, _ADDRESSES)))])
    given = {name: os.environ.get(name, "") for name in _SPELLINGS}
    for name, text in given.items():
        text = text or next(filter(None, given.values()), "")
        known = [host.strip() for host in text.split(",")]
        missing = [host for host in own if host not in known]
        # With a name beside it, urllib would take the star for a name too.
        if known != [_EVERYTHING] and missing:
            text = ",".join([*filter(None, [text.strip().rstrip(",")]), *missing])
        os.environ[name] = text


def request(address: str | Request, *, timeout: float) -> Any:
    """What urlopen answers; a server on this machine is asked directly, whatever the environment says."""
    url = address if isinstance(address, str) else address.full_url
    opened = build_opener(ProxyHandler({})).open if _loopback_host(url) is not None else urlopen
    return opened(address, timeout=timeout)


def _names_a_proxy(variable: str) -> bool:
    name = variable.lower()
    return name.endswith(_SETTING) and name not in _SPELLINGS


def _loopback_host(address: str | None) -> str | None:
    """The host of the address where it is this machine; None where it is another, or there is no address."""
    try:
        host = urlsplit(address or "").hostname
    except ValueError:
        return None
    if host is None:
        return None
    try:
        place = ipaddress.ip_address(host)
    except ValueError:
        return host if host == "localhost" or host.endswith(".localhost") else None
    return host if place.is_loopback or place.is_unspecified else None
