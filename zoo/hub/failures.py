"""What the Hub, its client and the network raise, as errors that say what to do."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub import constants, errors

from zoo.errors import HubError, ZooError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.hub.references import Reference

LOG_IN = "log in with 'hf auth login', or set HF_TOKEN"
LATER = "try again later"
_STATUSES = {
    400: "the Hub does not understand the request",
    401: f"the Hub refuses the token, which may have expired: {LOG_IN}",
    402: "the Hub wants to be paid for this: see the account's plan",
    403: f"the Hub does not allow this: {LOG_IN}, with a token that may write if something is written",
    404: "the Hub has no such thing: check the name",
    409: "there is something of this name already, or somebody else is at it right now: look, and try again",
    412: "others commit at the same time, faster than this does: look at what they have done, and push again",
    413: "the Hub finds it too large",
    429: f"the Hub has had too many requests from here: {LATER}, or {LOG_IN}",
}
_TRANSPORT = {  # by name, since the client has changed the library below it more than once
    "TimeoutException": f"{constants.ENDPOINT} does not answer in time: {LATER}, or raise HF_HUB_ETAG_TIMEOUT",
    "ConnectError": f"{constants.ENDPOINT} cannot be reached: check the network and HF_ENDPOINT",
    "TransportError": f"the connection to {constants.ENDPOINT} broke: try again",
}
_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk's quota is used up",
    errno.EFBIG: "a file is too large for this disk",
    errno.EACCES: "it may not be written",
    errno.EPERM: "it may not be written",
    errno.EROFS: "it is read-only",
}


@contextmanager
def explained(reference: Reference) -> Iterator[None]:
    """Whatever goes wrong with this repository becomes a HubError that names it and says what to do."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        raise HubError(f"{reference}: {_reason(error, reference)}") from error


def is_away(error: Exception) -> bool:
    """Whether the Hub could not be reached or is in trouble, so that what is in the cache is the best there is."""
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    return bool(_kinds(error) & _TRANSPORT.keys())


def status(error: Exception) -> int | None:
    """The status that the Hub answered with, if it did."""
    return error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None


def _reason(error: BaseException, reference: Reference) -> str:
    page = f"{constants.ENDPOINT}/{reference.repo}"
    if isinstance(error, errors.GatedRepoError):
        return f"the repository is gated: accept its conditions at {page}, and {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no such repository, or it is private: check the name, and {LOG_IN} if it is private"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no such revision: its branches and tags are at {page}/tree/main"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if isinstance(error.__cause__, Exception) and not isinstance(error.__cause__, errors.OfflineModeIsEnabled):
            return _reason(error.__cause__, reference)
        return _offline(reference)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return _offline(reference)
    if isinstance(error, errors.RemoteEntryNotFoundError):
        file = error.response.url.path.rpartition("/")[2]
        return f"there is no {file} in it: this is no stack of the zoo, or its owner has not pushed all of it"
    if isinstance(error, errors.HfHubHTTPError):
        return _http(error)
    for kind in _TRANSPORT:
        if kind in _kinds(error):
            return _TRANSPORT[kind]
    if isinstance(error, OSError) and error.errno in _DISK:
        where = error.filename or constants.HF_HUB_CACHE
        return f"{where}: {_DISK[error.errno]}. Make room there, or set HF_HOME to another folder."
    if isinstance(error, OSError) and "Consistency check" in str(error):
        return "a file came with another length than the Hub had said: try again"
    if error.__cause__ is not None:  # the client wraps what broke an upload
        return _reason(error.__cause__, reference)
    return f"{type(error).__name__}: {error}"


def _http(error: errors.HfHubHTTPError) -> str:
    number = error.response.status_code
    known = f"the Hub is in trouble: {LATER}" if number >= 500 else _STATUSES.get(number, "the Hub refuses")
    said = "".join(letter if letter.isprintable() else " " for letter in (error.server_message or "")[:300]).strip()
    return f"{known} (HTTP {number}{f': {said}' if said else ''})"


def _offline(reference: Reference) -> str:
    return (
        f"not all of it is in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: "
        f"without it, 'zoo pull {reference}' fetches the rest"
    )


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
