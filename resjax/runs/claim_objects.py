"""Claims of directories in a bucket: objects that are only written conditionally.

It is renewed by writing it anew, and its age is how long this process has seen the same one.
"""

import contextlib

from resjax.buckets.faults import Changed, NotThere, Refused, Unanswered
from resjax.buckets.objects import Version
from resjax.buckets.store import Store
from resjax.runs import claims, disk, files
from resjax.runs.claims import Claimed, Content, unchanged_for


class ClaimObject:
    """The claim of a directory in a bucket.

    It is released by writing that it is: objects cannot be deleted conditionally.

    Args:
      store: the objects of the run.
    """

    def __init__(self, store: Store):
        self.store = store
        self.version: Version | None = None
        self.found: Content | None = None  # the claim that was read last
        self.renewals = 0

    def __str__(self) -> str:
        return str(self.store.address)

    def read(self) -> Content | None:
        """The current claim, empty if it is damaged; None if there is none, or none any more."""
        self.version = self.found = None
        with contextlib.suppress(NotThere):
            text, self.version = self.store.get(files.CLAIM)
            self.found = {}
            with contextlib.suppress(ValueError):
                self.found = disk.opened(text)
        return self.found

    def create(self, claim: Content) -> None:
        """Writes a claim; raises FileExistsError if there is one that was not released."""
        there = self.read()
        if there is not None and not there.get("released"):
            raise FileExistsError(str(self))
        try:
            self._write(claim)
        except Changed:
            raise FileExistsError(str(self)) from None

    def replace(self, stale: Content, claim: Content) -> None:
        """Replaces a stale claim, if it is unchanged."""
        try:
            self._write(claim)
        except Changed:
            raise Claimed(f"{self} was taken over by another process") from None

    def renew(self, claim: Content) -> bool:
        """Rewrites the claim, if it is unchanged; returns whether it is."""
        try:
            self._write(claim)
        except Changed:
            return False
        return True

    def is_stale(self) -> bool:
        """Tells whether the claim has been unchanged for long since this process first read it.

        Every renewal has a number, so that no two are alike.
        """
        return (
            unchanged_for(str(self), self.version and self.version.e_tag) > claims.SECONDS_TO_STALE
        )

    def release(self, claim: Content) -> None:
        """Writes that the claim is released, unless another process has replaced it."""
        try:
            self._write({**claim, "released": True})
        except (Changed, Refused, Unanswered):  # it goes stale
            return

    def _write(self, claim: Content) -> None:
        """Writes the claim if the object is as this process last read or wrote it.

        It may be another one of its own, written by a request whose answer was lost.
        """
        while True:
            self.renewals += 1
            text = disk.sealed_text({**claim, "renewals": self.renewals}).encode()
            there = self.version
            try:
                self.version = self.store.put(
                    files.CLAIM, text, create=there is None, replacing=there
                )
                return
            except Changed:
                if (self.read() or {}).get("token") != claim["token"]:
                    raise
