"""The upload of a run to a bucket during its training.

A thread looks at the directory of the run every second, and uploads what is new there: the files of
a checkpoint before its `checkpoint.json`, which has their digests, and everything else before
`result.json`. So no reader sees a reference to something that is missing. A checkpoint is held by
links while it is uploaded, so the run may remove it; the next that is uploaded is the newest by
then. What the run has removed is removed in the bucket once the newest checkpoint is there.

Nothing is written but while the claim in the bucket surely stands, and everything that is ever
written anew is replaced only if it is what this process has seen there last.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resjax import interruption
from resjax.buckets.connection import SECONDS_OF_A_REQUEST
from resjax.buckets.faults import Changed, NotThere, Unanswered
from resjax.buckets.fetching import show_notice
from resjax.buckets.objects import Version
from resjax.buckets.store import PART, Store, at_once
from resjax.config import ConfigError, message_of
from resjax.files import link
from resjax.runs import checkpoint, disk, files, scratch
from resjax.runs.claims import Claim, Content

SECONDS_BETWEEN_CHECKS = 1.0

SECONDS_BETWEEN_UPLOADS = {files.PROGRESS: 30.0, files.EVENTS: 30.0}
"""Minimum seconds between two uploads of a file during the run, by the prefix of its name.

Lines of an evaluation are read by those who follow a run, so that ten seconds are enough for them.
"""

SECONDS_BETWEEN_OTHER_UPLOADS = 10.0

SECONDS_OF_A_TRY = 10.0
"""Seconds to wait for a bucket that does not answer, until the next check tries again."""

SECONDS_BEFORE_A_WRITE = SECONDS_OF_A_REQUEST + 5.0
"""Seconds for which a claim must remain valid when a write is requested."""

SECONDS_AT_THE_END = 300.0
"""Maximum seconds that a run which has ended waits for a bucket that does not answer."""

SECONDS_AFTER_A_REFUSAL = 30.0
"""Maximum seconds that it waits for a bucket that refuses it, as without a permission."""

SECONDS_AT_A_SIGNAL = 25.0
"""Maximum seconds of the last upload after a signal: Google ends a preempted VM after 30 s."""


class NotUploaded(Unanswered):
    """Something that a run promised is on this machine but not in the bucket."""


class _Lost(Exception):
    """Another process has taken over the run."""


class Upload:
    """The upload of a run during its training.

    Args:
      directory: directory of the run.
      store: the objects of the run.
      claim: the claim of them, which this process has.
      before: the claim that was there before it, empty if there was none.
    """

    def __init__(self, directory: Path, store: Store, claim: Claim, before: Content):
        self.directory, self.store, self.claim = directory, store, claim
        entries = store.list()
        if scratch.is_owned(directory, {entry.name for entry in entries}, lambda: before):
            self.mirror = scratch.Mirror(store, directory)
        else:
            ended = any(entry.name == files.RESULT for entry in entries)
            self.mirror = scratch.mirror_bucket(directory, store, entries, large=not ended)
        disk.write_json(directory / files.LANDED, {"token": claim.token})
        self.there = {entry.name: entry.e_tag for entry in entries}
        self.over = files.RESULT in self.there and self._has(files.RESULT)
        self.versions: dict[str, Version] = {}
        self.uploaded_at: dict[str, float] = {}
        self.passing, self.leaving = threading.Lock(), threading.Lock()
        self.ended = threading.Event()
        self.hurried, self.reason = False, "its upload takes longer"
        store.patience = SECONDS_OF_A_TRY  # from now on it is tried again and again

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Uploads on a thread inside the block, and everything that is left at its end."""
        thread = threading.Thread(target=self._keep_uploading, daemon=True)
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            self.leave()
            raise
        except BaseException:
            self.finish(SECONDS_AT_THE_END, show_notice)
            raise
        else:
            self.finish(SECONDS_AT_THE_END, show_notice)

    def leave(self) -> None:
        """Uploads the last state of a run that was asked to end, releases it, and says so."""
        began = time.monotonic()
        with self.leaving:
            if self.over:
                return
            seconds: list[float] = []

            def upload() -> None:
                with contextlib.suppress(NotUploaded):
                    self.finish(SECONDS_AT_A_SIGNAL)
                    seconds.append(time.monotonic() - began)
                self.claim.give_up()

            # On a thread, which the end of the process cuts off, as a request may take long.
            thread = threading.Thread(target=upload, daemon=True)
            thread.start()
            thread.join(SECONDS_AT_A_SIGNAL)
            self.over = True
            line = str(self._not_uploaded())
            if seconds:
                line = f"the last state was uploaded to {self.store.address} in {seconds[0]:.1f} s"
            interruption.tell_at_the_end(f"\n{line}")

    def finish(self, patience: float, tell: Callable[[str], None] = lambda line: None) -> None:
        """Uploads everything that is not in the bucket yet.

        Args:
          patience: seconds to wait for a bucket that does not answer, or less if it refuses.
          tell: called with a line when it has to wait.

        Raises:
          NotUploaded: if not everything was uploaded in that time.
        """
        self.ended.set()  # nobody else uploads from now on
        began, self.hurried, told = time.monotonic(), True, False
        while not self.claim.lost:
            longest = patience
            try:
                if self.upload_changes():
                    return
                self.reason = "it is written all the time"
            except _Lost:
                return
            except (OSError, ConfigError) as error:
                self.reason, refused = message_of(error), isinstance(error, ConfigError)
                longest = min(patience, SECONDS_AFTER_A_REFUSAL) if refused else patience
                if not told:
                    tell(f"{self.reason}; the last upload is tried again for {longest:.0f} s")
                told = True
            if time.monotonic() > began + longest:
                raise self._not_uploaded()
            time.sleep(SECONDS_BETWEEN_CHECKS)

    def _not_uploaded(self) -> NotUploaded:
        return NotUploaded(
            f"{self.store.address} lacks what the run wrote last ({self.reason}); it is kept in "
            f"{self.directory}, and the same command uploads it"
        )

    def _keep_uploading(self) -> None:
        """Uploads until the run ends; reports a refusal once, as the store does faults."""
        reported = False
        while not self.ended.wait(SECONDS_BETWEEN_CHECKS):
            try:
                self.upload_changes()
                reported = False
            except _Lost:
                return
            except ConfigError as error:  # a permission that was withdrawn may be given back
                if not reported:
                    show_notice(f"{message_of(error)}; the run goes on")
                reported = True
                self.ended.wait(SECONDS_BETWEEN_OTHER_UPLOADS)
            except OSError:  # the store has told of it
                continue

    # ------------------------------------------------------------------------- what has changed

    def upload_changes(self) -> bool:
        """Uploads what is new in the directory; returns whether everything is in the bucket.

        Raises:
          Unanswered: if the bucket does not answer; what was uploaded until then stays.
        """
        with self.passing:
            if self.over:
                return True
            end = next((name for name in scratch.ENDS.values() if self._is_file(name)), None)
            names = self._files()  # after the end, which is of files that are whole by then
            gone = [name for name in self.mirror.copies if not self._is_file(name)]
            self._delete([name for name in gone if not name.startswith(files.CHECKPOINTS)])
            due = [name for name in names if not self._has(name) and self._is_due(name)]
            before = dict(self.mirror.copies)
            try:
                if files.CONFIG in due:  # it makes the directory that of a run
                    due.remove(files.CONFIG)
                    self._upload(files.CONFIG)
                list(at_once(self._upload, due))
                newest = self._upload_checkpoints()
                whole = newest and all(self._has(name) for name in names)
                if end and whole and not self._has(end):
                    self._upload(end)
            finally:
                if self.mirror.copies != before:
                    self.mirror.save()
            return bool(whole and (end is None or self._has(end)))

    def _files(self) -> list[str]:
        """Names of the files of the run, except checkpoints and marks of its end."""
        names = []
        for above, directories, inside in os.walk(self.directory):
            directories[:] = [
                each for each in directories if not each.startswith((".", files.CHECKPOINTS))
            ]
            names += [self._name(Path(above, file)) for file in inside if not file.startswith(".")]
        return sorted(set(names) - {files.CLAIM, *scratch.ENDS.values()})

    def _is_file(self, name: str) -> bool:
        return (self.directory / name).is_file()

    def _has(self, name: str) -> bool:
        """Tells whether the bucket has the current version of a file."""
        e_tag = self.mirror.e_tag(name)
        return e_tag is not None and self.there.get(name) == e_tag

    def _is_due(self, name: str) -> bool:
        """Tells whether a changed file is to be uploaded now rather than later."""
        least = (s for start, s in SECONDS_BETWEEN_UPLOADS.items() if name.startswith(start))
        since = time.monotonic() - self.uploaded_at.get(name, -1e9)
        return self.hurried or since > next(least, SECONDS_BETWEEN_OTHER_UPLOADS)

    def _upload(self, name: str) -> None:
        """Uploads the current version of a file, if it still exists."""
        written = self.mirror.written(name)
        path = self.directory / name
        if written is None:
            return
        content: bytes | Path = path
        if written[0] <= PART:
            content = path.read_bytes()
            if name.endswith(".jsonl"):  # a line may be half written
                content = content[: content.rfind(b"\n") + 1]
        self._write(name, content)
        self.mirror.note(name, self.there[name], written)
        self.uploaded_at[name] = time.monotonic()

    def _write(self, name: str, content: bytes | Path) -> None:
        """Replaces the object that this process last saw at a place."""
        if isinstance(content, Path):  # large, and in parts, of which the last makes it seen
            self._make_sure()
            self.there[name] = self.store.put(name, content).e_tag
            return
        while True:
            self._make_sure()
            if name in self.there and name not in self.versions:
                with contextlib.suppress(NotThere):
                    self.versions[name] = self.store.head(name)[1]
            before = self.versions.pop(name, None)
            try:
                version = self.store.put(name, content, create=before is None, replacing=before)
            except Changed:  # by one whose claim this process has taken over, or that has taken it
                if not self.claim.renew():
                    raise _Lost from None
                self.there[name] = None
                continue
            self.versions[name], self.there[name] = version, version.e_tag
            return

    def _make_sure(self) -> None:
        """Raises _Lost unless the claim remains valid for as long as a write may take."""
        if not self.claim.holds_for(SECONDS_BEFORE_A_WRITE) and not self.claim.renew():
            raise _Lost

    def _delete(self, names: list[str]) -> None:
        """Deletes objects whose files the run has removed."""
        if names := [name for name in names if name != files.CLAIM]:
            self._make_sure()
            self.store.delete(names)
        for name in names:
            self.there.pop(name, None)
            self.versions.pop(name, None)
            self.mirror.forget(name)

    # ----------------------------------------------------------------------------- checkpoints

    def _upload_checkpoints(self) -> bool:
        """Uploads the checkpoints, the newest first, and deletes those that are gone.

        Returns:
          Whether all that are here are in the bucket; if a newer one was made meanwhile, that is
          first, at the next check.
        """
        whole = checkpoint.completed(self.directory)
        for path in whole:
            if not self._has(self._name(path / files.FACTS)):
                self._upload_checkpoint(path)
                newest = next(iter(checkpoint.completed(self.directory)), None)
                if newest not in whole:
                    return False
        kept = {path.name for path in whole}
        gone = [
            name
            for name in self.there
            if name.startswith(f"{files.CHECKPOINTS}/") and name.split("/")[1] not in kept
        ]
        self._delete([name for name in gone if name.endswith(f"/{files.FACTS}")])
        self._delete([name for name in gone if not name.endswith(f"/{files.FACTS}")])
        return True

    def _name(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()

    def _upload_checkpoint(self, path: Path) -> None:
        """Uploads a checkpoint, its seal last, unless the run removes it first."""
        held = self.directory / files.UPLOADING / path.name
        shutil.rmtree(held, ignore_errors=True)
        seal = held / files.FACTS
        try:
            shutil.copytree(path, held, copy_function=link, ignore=lambda *_: [files.FACTS])
            link(path / files.FACTS, seal)
        except (FileNotFoundError, shutil.Error):  # it is being removed
            shutil.rmtree(held, ignore_errors=True)
            return
        others = [file for file in held.rglob("*") if file.is_file() and file != seal]

        def upload(file: Path) -> None:
            self._make_sure()
            name = f"{self._name(path)}/{file.relative_to(held).as_posix()}"
            self.there[name] = self.store.put(name, file).e_tag

        list(at_once(upload, others))
        name = self._name(path / files.FACTS)
        self._write(name, seal.read_bytes())
        self.mirror.note(name, self.there[name])
        shutil.rmtree(self.directory / files.UPLOADING, ignore_errors=True)
