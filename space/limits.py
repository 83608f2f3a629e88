"""How much one client may ask for: a token bucket each, kept under a name that says nothing about the address."""

import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

from starlette.datastructures import Headers


DAY = 86_400  # seconds after which clients get new names
MOST_CLIENTS = 20_000  # remembered at once, about 4 MB; beyond that the longest unseen are forgotten


def bucket(
    amount: int, seconds: float, most: int = MOST_CLIENTS, clock: Callable[[], float] = time.monotonic
) -> Callable[[bytes], bool]:
    """Return a function that says whether a client may ask once more: `amount` at once, refilled evenly over `seconds`.

    It may be called from any thread.
    """
    left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # tokens at a time, the longest unseen first
    lock = threading.Lock()

    def may(client: bytes) -> bool:
        now = clock()
        with lock:
            tokens, then = left.pop(client, (float(amount), now))
            tokens = min(amount, tokens + (now - then) * amount / seconds)
            left[client] = (tokens - 1 if tokens >= 1 else tokens, now)
            # A bucket that has been full again for a while is as good as a new one.
            while len(left) > most or next(iter(left.values()))[1] < now - seconds:
                left.popitem(last=False)
        return tokens >= 1

    return may


def client_of(scope: dict) -> bytes:
    """Name the client of an ASGI request; the name can't be turned back, and is another one tomorrow.

    With Gradio's request it is `client_of(request.request.scope)`.
    """
    peer = (scope.get("client") or ("", 0))[0]
    hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
    return blake2b(network(address(peer, hops)).encode(), key=salt(int(time.time() // DAY)), digest_size=8).digest()


def address(peer: str, hops: list[str]) -> str:
    """Walk back from the peer through what proxies noted, as long as each hop is a proxy on a private network.

    The first public address is the client's. What stands further left was sent by the client itself and may be forged.
    """
    found = peer
    for hop in [peer, *reversed(hops)]:
        ip = parsed(hop)
        if ip is None:
            break
        found = str(ip)
        if ip.is_global:
            break
    return found


def parsed(hop: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(hop.strip())
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def network(found: str) -> str:
    """One household has a whole /64 of IPv6 addresses."""
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if ":" in found else found


@lru_cache(maxsize=1)  # the salt of yesterday is forgotten with the first client of today
def salt(day: int) -> bytes:
    return secrets.token_bytes(32)
