"""The Hub's own client, watched: whom it talks to, what it is told, and how much it takes."""

from __future__ import annotations

import ipaddress
import math
import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_session, hf_hub_download, hf_hub_url
from huggingface_hub.utils.tqdm import tqdm

from zoo import files
from zoo.errors import HubError
from zoo.hub.references import Reference, is_commit

LIBRARY = "stackzoo"
_ETAG = re.compile(r"(?:W/)?\"?[A-Za-z0-9_-]{1,128}\"?")
_TAGS = ("etag", "x-linked-etag")


def api() -> HfApi:
    """The client for all that is not a download.

    Raises:
        HubError: the endpoint is not safe to talk to.
    """
    return HfApi(endpoint=endpoint(), library_name=LIBRARY, library_version=files.zoo_version())


def endpoint() -> str:
    """Where the Hub is: $HF_ENDPOINT, or the public one.

    Raises:
        HubError: it is neither https nor on this machine.
    """
    parts = urlsplit(constants.ENDPOINT)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname))):
        raise HubError(
            f"HF_ENDPOINT={constants.ENDPOINT}: only https:// endpoints are used. Elsewhere than on this machine, "
            "anybody on the way could read the token and exchange the files."
        )
    return constants.ENDPOINT


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids all requests."""
    return constants.is_offline_mode()


def look(reference: Reference, file: str) -> None:
    """Ask for a file without fetching it: fails at once where a download would try again for half a minute."""
    _watch()
    get_hf_file_metadata(
        hf_hub_url(reference.repo, file, revision=reference.revision, endpoint=endpoint()),
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
        library_name=LIBRARY,
        library_version=files.zoo_version(),
        endpoint=endpoint(),
    )


def fetch(reference: Reference, file: str, *, largest: int, local: bool = False) -> Path:
    """A file in the cache, fetched if it is not there.

    Args:
        reference: the file's repository and revision.
        file: its name.
        largest: bytes; whatever the Hub said before, more are not taken.
        local: without any request.
    """
    _watch()
    return Path(
        hf_hub_download(
            reference.repo,
            file,
            revision=reference.revision,
            endpoint=endpoint(),
            local_files_only=local or offline(),
            tqdm_class=_bar(f"{reference}: {file}", largest),
            library_name=LIBRARY,
            library_version=files.zoo_version(),
        )
    )


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _watch() -> None:
    """Have every answer checked, before the client makes paths of what it says."""
    hooks = get_session().event_hooks
    answers = hooks["response"]
    if _check_answer not in answers:
        get_session().event_hooks = {**hooks, "response": [*answers, _check_answer]}


def _check_answer(response: Any) -> None:
    """The client names files of its cache after these headers, and would follow a '../' out of it."""
    commit = response.headers.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT)
    if commit is not None and not is_commit(commit):
        raise HubError(f"{response.url.host} answers with a commit that is none: {commit[:80]!a}")
    for tag in _TAGS:
        value = response.headers.get(tag)
        if commit is not None and value is not None and not _ETAG.fullmatch(value):
            raise HubError(f"{response.url.host} answers with a file's hash that is none: {value[:80]!a}")


def _bar(about: str, largest: int) -> Any:
    """The client's progress bar, which also counts: the client itself looks at the length only when all is written."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
            # Xet's bars, which have a format, count what travels; it checks what it writes itself
            self.room = math.inf if "bar_format" in kwargs else largest

        def update(self, n: float | None = 1) -> bool | None:
            self.room -= n or 0  # it is negative when the client begins anew
            if self.room < 0:
                raise HubError(f"{about}: the Hub sends more than the {largest} bytes that this file may have")
            return cast("bool | None", super().update(n))  # type: ignore[misc]

    return Bar
