"""Claims of directories in a bucket, by the same class as those of directories on a disk."""

import json
import threading
import time

import pytest

from resjax.buckets import store as stores
from resjax.buckets.store import Store
from resjax.config.addresses import Address
from resjax.runs import claims
from resjax.runs.claim_objects import ClaimObject
from resjax.runs.claims import Claim, Claimed


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The clock of this machine, which stands still but for what a test adds."""
    now = [1000.0]
    monkeypatch.setattr(claims, "since_boot", lambda: now[0])
    monkeypatch.setattr(claims, "monotonic", lambda: now[0])
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.01)
    return now


@pytest.fixture
def claim(bucket, fresh):
    """A function that makes a claim as a process of another machine would."""
    address = Address.of(bucket.address(fresh))

    def make(token, machine=None):
        return Claim(ClaimObject(Store(address, patience=1.0)), token, machine or token)

    return make


def there(claim):
    return json.loads(claim.place.store.get("claim.json")[0])


def test_a_run_in_a_bucket_is_claimed_by_one_machine_until_it_gives_it_up(claim):
    ours, theirs = claim("ours"), claim("theirs")
    ours.take(locked=True)
    assert there(ours)["token"] == "ours"
    with pytest.raises(Claimed, match=r"is being run by process \d+ on \S+; wait for it or choose"):
        theirs.take(locked=True)
    assert ours.renew()
    with ours.kept():
        assert ours.holds_for(1.0)
    assert there(ours)["released"]
    assert not ours.holds_for(1.0)
    assert not ours.renew()
    assert there(ours)["released"]
    theirs.take(locked=True)
    assert there(theirs)["token"] == "theirs"


def test_a_claim_in_a_bucket_is_stale_if_it_is_seen_unchanged_for_long(claim, clock):
    """By the clock of the one who wants it, whatever that of others says."""
    ours, theirs = claim("ours"), claim("theirs")
    ours.take(locked=True)
    clock[0] += 1e6  # nobody has looked before
    with pytest.raises(Claimed):
        theirs.take(locked=True)
    clock[0] += claims.SECONDS_TO_STALE - 1
    assert ours.renew()
    with pytest.raises(Claimed):
        theirs.take(locked=True)
    clock[0] += claims.SECONDS_TO_STALE + 1
    theirs.take(locked=True)
    assert there(theirs)["token"] == "theirs"
    assert not ours.renew()
    assert ours.lost
    with ours.kept():
        pass
    assert "released" not in there(theirs)


def test_of_many_that_find_a_stale_claim_in_a_bucket_one_takes_it(claim, clock):
    claim("gone").take(locked=True)
    many = [claim(f"token{number}") for number in range(8)]
    for each in many:
        with pytest.raises(Claimed):
            each.take(locked=True)
    clock[0] += claims.SECONDS_TO_STALE + 1
    taken, start = [], threading.Barrier(8)

    def take(each):
        start.wait()
        try:
            each.take(locked=True)
            taken.append(each)
        except Claimed:
            pass

    threads = [threading.Thread(target=take, args=(each,)) for each in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    assert there(taken[0])["token"] == taken[0].token


def test_a_process_that_was_killed_is_followed_at_once_on_the_same_machine(claim):
    claim("killed", "this machine").take(locked=True)
    with pytest.raises(Claimed):
        claim("after", "this machine").take(locked=False)
    claim("after", "this machine").take(locked=True)


def test_answers_that_are_lost_lose_no_claim(claim, bucket):
    ours = claim("ours")
    bucket.faults.next.extend([None, "lose"])
    ours.take(locked=True)
    for _ in range(2):
        bucket.faults.next.append("lose")
        assert ours.renew()
    bucket.faults.next.append("lose")
    ours.place.release(ours.content)
    assert there(ours)["released"]


def test_a_claim_that_cannot_be_renewed_is_held_no_longer_than_others_respect_it(
    claim, bucket, clock
):
    ours = claim("ours")
    ours.take(locked=True)
    assert ours.holds_for(30.0)
    clock[0] += claims.SECONDS_TO_STALE - 20
    bucket.faults.down = True
    with pytest.raises(OSError, match="does not answer"):
        ours.renew()
    assert ours.holds_for(10.0)
    assert not ours.holds_for(30.0)
    bucket.faults.down = False
    assert ours.renew()
    assert ours.holds_for(30.0)


def test_a_renewal_whose_answer_is_lost_in_an_outage_loses_no_claim(claim, bucket):
    ours = claim("ours")
    ours.take(locked=True)
    bucket.faults.next.append("lose")
    bucket.faults.rates = {"drop": 1.0}
    with pytest.raises(OSError, match="does not answer"):
        ours.renew()
    bucket.faults.rates = {}
    assert ours.renew()
    assert not ours.lost
    assert there(ours)["token"] == "ours"


def test_a_claim_is_renewed_again_after_a_permission_was_withdrawn(claim, bucket, monkeypatch):
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_RENEWALS", 0.01)
    ours = claim("ours")
    ours.take(locked=True)
    with ours.kept():
        bucket.faults.rates = {"denied": 1.0}
        bucket.faults.seen.clear()
        for _ in range(500):
            if len(bucket.faults.seen) > 2:
                break
            time.sleep(0.01)
        bucket.faults.rates = {}
        before = there(ours)["renewals"]
        for _ in range(500):
            if there(ours)["renewals"] > before:
                break
            time.sleep(0.01)
        assert there(ours)["renewals"] > before


def test_a_damaged_claim_in_a_bucket_stands_until_it_is_stale(claim, clock):
    ours = claim("ours")
    ours.place.store.put("claim.json", b"not a claim")
    with pytest.raises(Claimed, match=r"by a process that its claim\.json does not tell"):
        ours.take(locked=True)
    clock[0] += claims.SECONDS_TO_STALE + 1
    ours.take(locked=True)
    assert there(ours)["token"] == "ours"
