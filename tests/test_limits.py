"""The token bucket, and whose it is."""

import threading
from collections import Counter

import limits
from limits import address, bucket, client_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_served_then_one_for_each_share_of_time():
    clock = Clock()
    may = bucket(30, 300, clock=clock)
    assert [may(b"a") for _ in range(31)] == [True] * 30 + [False]
    clock.now = 9.9
    assert not may(b"a")
    clock.now = 20
    assert [may(b"a") for _ in range(3)] == [True, True, False]
    clock.now = 1e6
    assert sum(may(b"a") for _ in range(100)) == 30  # never more than a full bucket


def test_clients_do_not_share():
    may = bucket(1, 60)
    assert may(b"a") and may(b"b") and not may(b"a")


def test_old_clients_are_forgotten_and_memory_is_bounded():
    clock = Clock()
    may = bucket(1, 60, most=100, clock=clock)
    remembered = may.__closure__[[*may.__code__.co_freevars].index("left")].cell_contents
    for number in range(1000):
        may(b"%d" % number)
    assert len(remembered) == 100
    clock.now = 61
    may(b"new")
    assert list(remembered) == [b"new"]


def test_threads_get_no_more_than_there_is():
    may, served = bucket(50, 3600), []
    threads = [threading.Thread(target=lambda: served.extend(may(b"a") for _ in range(20))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert Counter(served) == {True: 50, False: 270}


def scope(peer: str, *forwarded: str) -> dict:
    return {
        "type": "http",
        "client": (peer, 1),
        "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded],
    }


def test_the_address_is_what_our_own_proxies_saw():
    assert address("8.8.8.8", ["1.1.1.1"]) == "8.8.8.8"  # no proxy of ours: what it says is not asked
    assert address("10.16.3.80", ["8.8.8.8"]) == "8.8.8.8"
    assert address("10.16.3.80", ["1.1.1.1", " 8.8.8.8", " 10.0.0.2"]) == "8.8.8.8"  # 1.1.1.1 was forged
    assert address("::ffff:10.0.0.1", ["8.8.8.8"]) == "8.8.8.8"
    assert address("10.16.3.80", ["8.8.8.8", "nonsense"]) == "10.16.3.80"
    assert address("10.16.3.80", [""]) == "10.16.3.80"
    assert address("", []) == ""


def test_forged_headers_do_not_make_another_client():
    one = client_of(scope("10.0.0.1", "8.8.8.8"))
    assert client_of(scope("10.0.0.1", "1.2.3.4, 8.8.8.8")) == one
    assert client_of(scope("10.0.0.1", "1.2.3.4", "8.8.8.8")) == one
    assert client_of(scope("10.0.0.1", "8.8.4.4")) != one


def test_one_household_is_one_client():
    one = client_of(scope("2001:4860:4860::8888"))
    assert client_of(scope("2001:4860:4860:0:ffff::1")) == one
    assert client_of(scope("2001:4860:4861::8888")) != one


def test_a_name_says_nothing_and_is_another_tomorrow(monkeypatch):
    today = client_of(scope("8.8.8.8"))
    assert b"8.8.8.8" not in today and len(today) == 8
    day = limits.time.time() + limits.DAY
    monkeypatch.setattr(limits.time, "time", lambda: day)
    assert client_of(scope("8.8.8.8")) != today
    assert limits.salt.cache_info().currsize == 1  # the old salt is gone: nobody can work out yesterday's names
