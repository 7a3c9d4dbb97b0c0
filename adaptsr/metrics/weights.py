"""Locate and fetch the network weights of metrics and losses, and build their networks offline.

Files and folders are those that pyiqa 0.1.16 and torchvision use: `$TORCH_HOME/hub/checkpoints` and
`$TORCH_HOME/hub/pyiqa` (`$TORCH_HOME` is `~/.cache/torch` by default). Most names end in the first eight digits of the
file's SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config.schema import Objective, Scoring
from adaptsr.errors import UserError, one_line
from adaptsr.files import atomic_write
from adaptsr.metrics.conventions import PERCEPTUAL, Convention, conventions, loss_conventions

if TYPE_CHECKING:
    import torch

_TIMEOUT_SECONDS = 20
_PROBE_SECONDS = 3
_CHUNK_BYTES = 1 << 20
_TORCHVISION_URL = "https://download.pytorch.org/models"
_PYIQA_REPOSITORY = "chaofengc/IQA-PyTorch-Weights/resolve/main"
_BACKBONES = {
    "alex": ("AlexNet", "alexnet-owt-7be5be79.pth"),
    "vgg": ("VGG16", "vgg16-397923af.pth"),
    "squeeze": ("SqueezeNet", "squeezenet1_1-b8a52dc0.pth"),
    "vgg19": ("VGG19", "vgg19-dcbb9e9d.pth"),
}
_WITHOUT_WEIGHTS = (
    *("PSNR", "SSIM", "MS_SSIM", "CW_SSIM", "FSIM", "VIF", "GMSD", "NLPD", "VSI", "MAD"),
    *("PIQE", "Entropy"),
)
_KNOWN = ("LPIPS", "DISTS", PERCEPTUAL, "NIQE", "ILNIQE", "BRISQUE")
"""Architectures whose files are all known beforehand. Others may build on a network that only building them names."""


class WeightFile(NamedTuple):
    """A file that a metric needs: its column, a title, its URL and its path on this machine."""

    metric: str
    title: str
    url: str
    path: Path


class WeightsMissing(Exception):
    """A metric cannot be built because its weights are not on this machine."""


class _DownloadWanted(Exception):
    def __init__(self, url: str, path: str) -> None:
        super().__init__(url)
        self.file = WeightFile("", "network", url, Path(path))


class _NetworkWanted(Exception):
    pass


def weight_files(scoring: Scoring, objectives: Iterable[Objective] = ()) -> list[WeightFile]:
    """Return the weight files of columns and losses, present or not; some networks name theirs only when they are built."""
    losses = [convention for objective in objectives for convention in loss_conventions(objective)]
    return [file for convention in (*conventions(scoring), *losses) for file in _files(convention)]


def missing_weights(convention: Convention) -> str | None:
    """Return why this metric cannot be built, or None; checks only the files known beforehand."""
    missing = [file for file in _files(convention) if not file.path.is_file()]
    return _missing_reason(missing) if missing else None


def fetch_weights(scoring: Scoring) -> dict[str, str]:
    """Download missing weights; return the reason for each column whose weights stay unavailable.

    Raises `UserError` instead if the profile has `missing_weights: error`. Does not ask an unresponsive host twice.
    """
    problems = fetch_all(conventions(scoring))
    if problems and scoring.missing_weights == "error":
        raise missing_weights_error(*next(iter(problems.items())))
    return problems


def fetch_all(wanted: Iterable[Convention]) -> dict[str, str]:
    """Download missing weights; return the reason by column where they stay unavailable."""
    unreachable: dict[str, str] = {}
    problems = {convention.column: _fetch(convention, unreachable) for convention in wanted}
    return {column: problem for column, problem in problems.items() if problem}


def next_attempt(scoring: Scoring, objectives: Iterable[Objective], last: Mapping[str, Any]) -> int:
    """Return the number of the next attempt to fetch weights: one more than the last only if that failed and may succeed now.

    last: what the last attempt wrote (`attempt_record`), empty if there was none.
    """
    number = int(last.get("attempt", 0))
    missing = last.get("missing", {})
    return number + 1 if missing and last.get("signs", []) != _signs(scoring, objectives, missing) else number


def attempt_record(
    scoring: Scoring, objectives: Iterable[Objective], missing: Mapping[str, str], number: int
) -> dict[str, Any]:
    """Return what an attempt writes: what is missing, its number, and what there was to build on when it failed."""
    signs = {"signs": _signs(scoring, objectives, missing)} if missing else {}
    return {"missing": dict(missing), **signs, **({"attempt": number} if number else {})}


def loss_column(name: str) -> str:
    """Name a loss among the columns whose weights are missing."""
    return f"the loss {name}"


def _signs(scoring: Scoring, objectives: Iterable[Objective], missing: Collection[str]) -> list[str]:
    """List the files of these columns that are on this machine, and the addresses that have one of the others."""
    wanted = {convention.column: convention for convention in conventions(scoring)}
    wanted |= {loss_column(loss.column): loss for objective in objectives for loss in loss_conventions(objective)}
    files = {file.path: file for column in missing if column in wanted for file in _files(wanted[column])}
    silent: set[str] = set()
    return sorted(
        path.name if path.is_file() else f.url
        for path, f in files.items()
        if path.is_file() or _is_offered(f.url, silent)
    )


def _is_offered(url: str, silent: set[str]) -> bool:
    """Ask, for a few seconds, whether an address has a file; a host that does not answer is asked once."""
    host = urllib.parse.urlsplit(url).netloc
    if host in silent:
        return False
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "adaptsr"})
    try:
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return False
    except (OSError, ValueError):  # URLError and timeouts are OSErrors
        silent.add(host)
        return False


def missing_weights_error(column: str, reason: str) -> UserError:
    return UserError(f"scoring.metrics.{column}: {reason}; or set scoring.missing_weights to `dash`")


def build_network(convention: Convention, device: str) -> torch.nn.Module:
    """Build pyiqa's network of this metric, or basicsr's of this loss, in eval mode, offline and without printing.

    Loads weights as plain tensors only and keeps the global random state. Raises `WeightsMissing` with a one-line
    reason if weights are not on this machine.
    """
    if reason := missing_weights(convention):
        raise WeightsMissing(reason)
    try:
        return _build(convention, device)
    except _DownloadWanted as wanted:
        raise WeightsMissing(_missing_reason([wanted.file])) from None
    except (_NetworkWanted, OSError):  # model hubs raise OSError if their cache lacks a file
        raise WeightsMissing(
            f"{convention.name} weights not available in their model hub's cache; "
            "fetch them on a machine with a network connection"
        ) from None


def _files(convention: Convention) -> list[WeightFile]:
    backbones = {"LPIPS": convention.options.get("net"), "DISTS": "vgg", PERCEPTUAL: "vgg19"}
    net = backbones.get(convention.architecture)
    own = [_pyiqa_file(convention, convention.architecture, convention.weights)] if convention.weights else []
    return [*([_backbone_file(convention, net)] if net else []), *own]


def _backbone_file(convention: Convention, net: str) -> WeightFile:
    title, name = _BACKBONES[net]
    return WeightFile(convention.column, title, f"{_TORCHVISION_URL}/{name}", _hub() / "checkpoints" / name)


def _pyiqa_file(convention: Convention, title: str, name: str) -> WeightFile:
    name = urllib.parse.quote(name)  # pyiqa keeps `CLIPIQA+` under the name that its address has
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return WeightFile(convention.column, title, f"{endpoint}/{_PYIQA_REPOSITORY}/{name}", _hub() / "pyiqa" / name)


def _hub() -> Path:
    """Return torch.hub's folder by torch's own rules, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))).expanduser() / "hub"


def _missing_reason(files: list[WeightFile]) -> str:
    titles = " and ".join(file.title for file in files)
    places = ", ".join(f"{file.url} at {_shown(file.path)}" for file in files)
    return f"{titles} weights not available: put {places}, or fetch them on a machine with a network connection"


def _shown(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _fetch(convention: Convention, unreachable: dict[str, str]) -> str | None:
    if convention.architecture in _WITHOUT_WEIGHTS:
        return None
    try:
        for file in _files(convention):
            if not file.path.is_file():
                _download(file, unreachable)
        if convention.architecture not in _KNOWN:
            _fetch_by_building(convention, unreachable)
    except Exception as error:  # third-party downloads raise almost anything; the other metrics must go on
        return one_line(error, 300)
    return None


def _fetch_by_building(convention: Convention, unreachable: dict[str, str]) -> None:
    """Fetch each file that building asks for; allow the network to a metric that downloads in its own way."""
    while True:
        try:
            _build(convention, "cpu")
            return
        except _DownloadWanted as wanted:
            _download(wanted.file, unreachable)
        except Exception:  # libraries raise their own errors when offline
            _build(convention, "cpu", offline=False)
            return


def _download(file: WeightFile, unreachable: dict[str, str]) -> None:
    host = urllib.parse.urlsplit(file.url).netloc
    if host in unreachable:
        raise OSError(f"{_missing_reason([file])} ({host}: {unreachable[host]})")
    try:
        _save(file)
    except urllib.error.HTTPError as error:
        raise OSError(f"{_missing_reason([file])} ({host}: {error.code} {error.reason})") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        unreachable[host] = one_line(getattr(error, "reason", error), 300)
        raise OSError(f"{_missing_reason([file])} ({host}: {unreachable[host]})") from None


def _save(file: WeightFile) -> None:
    from tqdm import tqdm

    request = urllib.request.Request(file.url, headers={"User-Agent": "adaptsr"})
    sha256 = hashlib.sha256()
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response, atomic_write(file.path) as temporary:
        length = int(response.headers.get("Content-Length") or 0)
        progress = tqdm(total=length or None, unit="B", unit_scale=True, desc=file.path.name, disable=None)
        with temporary.open("wb") as target, progress:
            while chunk := response.read(_CHUNK_BYTES):
                target.write(chunk)
                sha256.update(chunk)
                progress.update(len(chunk))
        expected = re.search(r"-([0-9a-f]{8})\.pth$", file.path.name)
        if length and temporary.stat().st_size != length:
            raise ValueError(f"{file.url}: the download was interrupted; try again")
        if expected and not sha256.hexdigest().startswith(expected[1]):
            raise ValueError(
                f"{file.url}: SHA-256 begins {sha256.hexdigest()[:8]}, expected {expected[1]}; the file was discarded, try again"
            )


def _build(convention: Convention, device: str, *, offline: bool = True) -> torch.nn.Module:
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(_environment("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1"))
        import torch
        from pyiqa.models.inference_model import InferenceModel

        stack.enter_context(torch.random.fork_rng(devices=[]))
        if convention.architecture == PERCEPTUAL:
            return _perceptual(convention).to(device).eval().requires_grad_(False)
        stack.enter_context(_pyiqa_cache(offline=offline))
        network: torch.nn.Module = InferenceModel(convention.name, device=device, **convention.options).net
        return network.eval().requires_grad_(False)


def _perceptual(convention: Convention) -> torch.nn.Module:
    """Build basicsr's perceptual loss from our copy of VGG19, wherever the process runs."""
    vgg: Any = basicsr_module("archs.vgg_arch")
    elsewhere, vgg.VGG_PRETRAIN_PATH = vgg.VGG_PRETRAIN_PATH, str(_files(convention)[0].path)
    try:
        loss: torch.nn.Module = basicsr_module("losses.basic_loss").PerceptualLoss(**convention.options)
    finally:
        vgg.VGG_PRETRAIN_PATH = elsewhere
    return loss


@contextlib.contextmanager
def _pyiqa_cache(*, offline: bool) -> Iterator[None]:
    """Point pyiqa's cache at `_hub`; if `offline`, make every access to the network raise at once."""
    import socket

    import huggingface_hub.constants
    import pyiqa.utils.download_util as downloads
    import torch.hub

    replacements: list[tuple[Any, str, Any]] = [(downloads, "DEFAULT_CACHE_DIR", str(_hub() / "pyiqa"))]
    if offline:
        replacements += [
            (downloads, "download_url_to_file", _refuse_download),
            (torch.hub, "download_url_to_file", _refuse_download),
            (huggingface_hub.constants, "HF_HUB_OFFLINE", True),
            (socket, "getaddrinfo", _refuse_network),
            (socket, "create_connection", _refuse_network),
        ]
    originals = [(module, name, getattr(module, name)) for module, name, _ in replacements]
    try:
        for module, name, value in replacements:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in originals:
            setattr(module, name, value)


def _refuse_download(url: str, dst: str, *_: Any, **__: Any) -> NoReturn:
    raise _DownloadWanted(url, dst)


def _refuse_network(*_: Any, **__: Any) -> NoReturn:
    raise _NetworkWanted


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
