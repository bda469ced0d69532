"""Faults of buckets: those that pass by themselves, and those that a person has to fix."""

import dataclasses
import re
from typing import Any

from resjax.config import ConfigError, message_of
from resjax.config.addresses import Address


class Changed(Exception):
    """The object was not written, because it exists already or has changed since it was read."""


class NotThere(Exception):
    """The object is not in the bucket."""


class Unanswered(OSError):
    """A bucket that gave no answer, or only transient faults, until the patience ran out."""


class Refused(ConfigError):
    """A bucket that does not exist, or that this process may not use."""


PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
"""HTTP status codes after which the same request may succeed."""

PASSING_CODES = {"ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed", "RequestTimeout"}
"""Error codes after which the same request may succeed, such as with a renewed token."""

CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}
"""Error codes of a conditional write that met another one; it is to be tried again."""

REMEDIES = {
    "gs": "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=FILE",
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or give the machine "
    "an identity",
}
"""Advice on credentials, by the kind of bucket."""

ROLES = {
    "gs": "roles/storage.objectUser",
    "s3": "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject",
    "az": "Storage Blob Data Contributor",
}
"""Permissions that a run needs, by the kind of bucket."""

_FETCHING_CREDENTIALS = re.compile(
    r"token request|/latest/(?:api|meta-data)|/metadata/identity|/computeMetadata|"
    r"Missing (?:AccessKeyId|SecretAccessKey)|MissingAccount|Account must be specified|"
    r"service account file|credential error"
)

_CUT_OFF = re.compile(
    r"error sending request|body error|connection (?:closed|reset|refused)|timed? ?out|"
    r"error decoding response",
    re.IGNORECASE,
)


_REDIRECTED = "redirect without LOCATION"
"""Text of `obstore` on status 301 of S3, which names the region and no address to go to."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault as the bucket reported it.

    Attributes:
      passes: whether it is transient: the same request may succeed later.
      reason: a few words, such as "503 Service Unavailable".
      error: the exception to raise if it is not transient, or is not waited for.
    """

    passes: bool
    reason: str
    error: Exception


def understood(error: Exception, address: Address) -> Fault:
    """Converts an exception of the library to a fault, transient or not."""
    text = message_of(error)
    text, _, debug = text.partition(" Debug source:")
    if _REDIRECTED in text:
        return Fault(passes=False, reason="redirected", error=_of_another_region(address))
    status = re.search(r"status code: (\d{3})((?: [A-Z][\w-]+)*)", text)
    number = int(status[1]) if status else 0
    code = re.search(r"<Code>([\w.]+)</Code>", text)
    word = code[1] if code else ""
    reason = f"{number}{status[2]}" if status else _cause(text, debug)
    if _FETCHING_CREDENTIALS.search(text + debug):
        passes, refusal = number in PASSING, _no_credentials(address, reason)
    elif status:
        passes, refusal = _passes(number, word), _refused(address, number, word, reason)
    else:
        passes, refusal = bool(_CUT_OFF.search(text)), Refused(f"{address} cannot be used: {text}")
    error = Unanswered(f"{address} does not answer: {reason}") if passes else refusal
    return Fault(passes, reason, error)


def _passes(number: int, word: str) -> bool:
    """Tells whether a refusal is transient, by its status and the code in its body.

    The answer to a HEAD has no body, so a 400 without a code may be of a token that has expired.
    """
    return number in PASSING or word in PASSING_CODES | CONFLICTS or (number == 400 and not word)


def is_conflict(error: Exception) -> bool:
    """Tells whether a conditional write failed only because another one was in progress."""
    return any(code in message_of(error) for code in CONFLICTS)


def _cause(text: str, debug: str) -> str:
    """The innermost message of an error that is not an answer of the bucket."""
    for words in re.findall(r'(?:message|error): "([^"]+)"', debug)[-1:]:
        return words[0].lower() + words[1:]
    return "timed out" if "TimedOut" in debug else text.rpartition(": ")[2] or "no reason given"


def _no_credentials(address: Address, reason: str) -> ConfigError:
    return Refused(f"no credentials for {address} ({reason}); {REMEDIES[address.kind]}")


def _refused(address: Address, number: int, word: str, reason: str) -> ConfigError:
    """The error for a refused request, by its status and the code in its body."""
    bucket = f"{address.kind}://{address.bucket}"
    if number in (301, 307) or word in ("AuthorizationHeaderMalformed", "PermanentRedirect"):
        return _of_another_region(address)
    if number == 404:
        return Refused(f"there is no bucket {bucket}; correct its name, or make it")
    if number == 401 or word in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"):
        return Refused(
            f"the credentials are not accepted by {bucket} ({word or reason}); "
            f"{REMEDIES[address.kind]}"
        )
    if "quota" in word.lower() or number == 507:
        return Refused(
            f"{bucket} is full ({word or reason}); remove objects from it, or have its quota raised"
        )
    if word.startswith("KMS."):
        return Refused(
            f"the key that {bucket} is encrypted with cannot be used ({word}); enable it"
        )
    if number == 501:
        return Refused(f"{address} cannot do what a run needs ({reason}); {_CONDITIONAL}")
    if number == 403:
        return Refused(
            f"no permission to use {address} ({word or reason}); grant {ROLES[address.kind]}"
        )
    return Refused(f"{address} refuses a request ({' '.join(filter(None, (reason, word)))})")


def _of_another_region(address: Address) -> ConfigError:
    return Refused(
        f"{address.kind}://{address.bucket} is in another region; set AWS_REGION to its own"
    )


_CONDITIONAL = "use a store with conditional writes"


def conditions_ignored(address: Address, said: Any) -> ConfigError:
    """The error for a store that ignores conditions: two machines could train one run."""
    return Refused(
        f"{address} writes an object that it was told to write only if {said}, so two machines "
        f"could train one run there; {_CONDITIONAL}"
    )
