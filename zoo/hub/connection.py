"""The Hub's own client, watched: whom it talks to, what it is told, and how much it takes."""

from __future__ import annotations

import ipaddress
import math
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, set_client_factory
from huggingface_hub.utils import _http
from huggingface_hub.utils.tqdm import tqdm

from zoo import files
from zoo.errors import HubError
from zoo.hub.references import Reference, is_commit

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARY = "stackzoo"
_ETAG = re.compile(r"(?:W/)?\"?[A-Za-z0-9_-]{1,128}\"?")
_TAGS = ("etag", "x-linked-etag")
_WAITS = ("connect", "read", "write", "pool")
_watching = threading.Lock()

PATIENCE = 3
"""A commit takes the Hub longer than a look at a file: how many times as long it may be silent."""


def api() -> HfApi:
    """The client for all that is not a download.

    Raises:
        HubError: the endpoint is not safe to talk to.
    """
    _watch()
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
    """Have every answer checked before the client makes paths of what it says, and no request wait for ever.

    That goes for all connections of the client from now on, in this process: it makes new ones when one breaks, and
    asks this factory for them. One that the user has set is kept.
    """
    with _watching:
        made = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)
        if not isinstance(made, _Watched):
            set_client_factory(_Watched(made))


@dataclass(frozen=True)
class _Watched:
    """Makes what ``made`` makes, watched."""

    made: Callable[[], Any]

    def __call__(self) -> Any:
        client = self.made()
        hooks = client.event_hooks
        client.event_hooks = {
            "request": [*hooks["request"], _bound],
            "response": [*hooks["response"], _check_answer],
        }
        return client


def _bound(request: Any) -> None:
    """Where the client itself would wait without end, as for most that is no download, wait for so long."""
    told = request.extensions.get("timeout", {})
    seconds = PATIENCE * max(constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)
    waits = {kind: seconds if told.get(kind) is None else told[kind] for kind in _WAITS}
    request.extensions = {**request.extensions, "timeout": waits}


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
