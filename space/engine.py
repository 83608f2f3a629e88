"""Where replies come from: OpenVINO or transformers on this machine, or an endpoint elsewhere."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

from base_model import EMBEDDED, BaseUnavailable, cores
from gguf_model import folder_of_file, folder_of_model, local
from settings import Settings


ZERO_GPU = bool(os.environ.get("SPACES_ZERO_GPU"))  # set by the Hub where a GPU is lent for one reply at a time
if ZERO_GPU:
    import spaces  # noqa: F401 - now, before anything imports torch, which it changes

MAX_NEW_TOKENS = 160  # about 120 words: replies are meant to be short
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
TOP_K = 50  # what `generate` takes where nothing is said, and so what our scores were measured with
SILENCE = 30.0  # seconds without a new piece after which a reply counts as failed

GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's driver, the same under WSL, AMD's

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Yields pieces of a reply to a conversation, to many people at once; closing the iterator ends the work on it."""

    description: str

    def stream(self, messages: list[dict]) -> Iterator[str]: ...


class NoTimeLeft(Exception):
    """The GPU is a lent one, and for now none is to be had."""


class TooLong(ValueError):
    """The last message alone is more than the model reads."""


class Loaded(NamedTuple):
    """What came of loading: an engine, or the sentence that says what is missing."""

    engine: Engine | None
    reason: str = ""


def load(settings: Settings) -> Loaded:
    """Load the engine that is asked for; never raises.

    The reason is written for the page: it names what is missing, never where on this machine it was looked for.
    """
    try:
        return Loaded(chosen(settings))
    except BaseUnavailable as problem:
        return Loaded(None, str(problem))
    except Exception as problem:  # whatever breaks, the page must open and show where help is
        return Loaded(None, f"the model could not be loaded ({type(problem).__name__})")


def chosen(settings: Settings) -> Engine:
    """Return the endpoint's engine where there is one; else OpenVINO's on a CPU, if it can be had; else transformers'.

    An endpoint that fails is stood in for by the model on this machine, where the settings name one too.
    """
    if settings.engine == "remote" or (settings.engine == "auto" and settings.endpoint):
        from remote_engine import RemoteEngine

        remote = RemoteEngine(settings.endpoint, settings.endpoint_model, settings.endpoint_key)
        if settings.engine == "auto" and (settings.adapter or settings.base or settings.gguf):
            remote.fallback, reason = load(settings._replace(endpoint=""))
            if reason:
                log.warning("Nothing stands in for the endpoint: %s.", reason)
        return remote
    adapter = adapter_folder(settings)
    base = base_of(adapter, settings.base)
    if settings.engine == "openvino":
        return on_openvino(base, adapter, settings)
    if settings.engine == "auto" and suits_openvino(settings):
        try:
            return on_openvino(base, adapter, settings)
        except Exception as problem:
            log.warning("OpenVINO cannot be used (%s): transformers is.", type(problem).__name__)
    return on_transformers(base, adapter, settings)


def adapter_folder(settings: Settings) -> Path | None:
    if not settings.adapter:
        return None
    try:
        return local(settings.adapter, settings.revision)
    except (ValueError, OSError) as error:
        raise BaseUnavailable(no_adapter(settings.adapter)) from error


def base_of(adapter: Path | None, base: str) -> str:
    """Return the base an adapter needs; raises `BaseUnavailable` when it has none or `base` names another one."""
    if not adapter:
        return base or EMBEDDED
    try:
        needed = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, OSError, KeyError) as error:
        raise BaseUnavailable(no_adapter(adapter)) from error
    if base and base != needed:
        raise BaseUnavailable(f"the adapter was trained on {needed}, not on {base}; leave THERAGEN_BASE empty")
    return needed


def no_adapter(name: str | Path) -> str:
    return f"there is no adapter named {Path(name).name} here; check THERAGEN_ADAPTER and THERAGEN_REVISION"


def suits_openvino(settings: Settings) -> bool:
    """Whether this is a CPU with OpenVINO's package, and nothing is asked for that only transformers has.

    A lent GPU need not be there yet: it comes for a reply and goes with it.
    """
    if ZERO_GPU or settings.four_bit or not find_spec("openvino_genai"):
        return False
    return not has_gpu()


def has_gpu() -> bool:
    """Ask torch, but not where no driver is: importing it takes seconds and memory that OpenVINO does without."""
    if not (any(Path(device).exists() for device in GPUS) or shutil.which("nvidia-smi")) or not find_spec("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def on_openvino(base: str, adapter: Path | None, settings: Settings) -> Engine:
    from openvino_engine import OpenVINOEngine

    if settings.gguf:
        folder, name = folder_of_file(settings.gguf), Path(settings.gguf).stem
    else:
        folder, name = folder_of_model(base, adapter, settings.revision), described(base, adapter)
    return OpenVINOEngine(folder, f"{name}; OpenVINO", settings.people, cores())


def on_transformers(base: str, adapter: Path | None, settings: Settings) -> Engine:
    from transformers_engine import TransformersEngine

    return TransformersEngine(base, adapter, settings, f"{described(base, adapter)}; transformers")


def described(base: str, adapter: Path | None) -> str:
    tiny = "; a very small demonstration model, which often makes no sense" if base == EMBEDDED else ""
    return f"{base.split('/')[-1]}{' with adapter' if adapter else ', no adapter'}{tiny}"
