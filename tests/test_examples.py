"""The commands of examples/ucf101.md, read from the page, on a made folder with the official names.

The lists are in the official format: classes counted from 1 in `classInd.txt`, labels in the training lists
alone; HMDB51's with their flags 0, 1, 2 and the blank at the end of each line. Groups are few, clips tiny.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import flowkit
import flowkit_cli
from flowkit.datasets import list_splits
from tests.make import clips

PAGE = (Path(__file__).resolve().parent.parent / "examples" / "ucf101.md").read_text()

# Replacements in every command of the page that is run here, and their reasons.
ALWAYS = {
    # Images of TSN's size would take minutes.
    "--size 340x256": "--size 64x64",
    # Starting processes is torch's part; what they run is ours.
    "torchrun --nproc-per-node 4 --no-python flowkit": "flowkit",
}
# All commands of training are planned with the page's own options; the fixture makes a file of weights.
PLANNED = {
    "--out runs/": "--dry-run --out runs/",
    # More readers than cores are a warning.
    "--workers 8": "--workers 0",
    "--workers 4": "--workers 0",
}
# One is trained, in seconds: a small network from a random start, for one epoch a stage.
TRAINED = {
    "--preset tsn": "--preset tiny --rgb-epochs 1 --flow-epochs 1 --gate-epochs 1",
    "--weights bn_inception-9f5701afb96c8044.pth": "--weights none",
    "--workers 8": "--workers 0 --threads 1",
    # Without a GPU it is the slower way.
    " --amp": "",
}
# 25 segments, the default, by ten crops of 24 clips would take a minute.
SCORED = {"--crops 10": "--crops 10 --segments 3"}
# Unpacking: the fixture makes the contents of the archives.
UNPACKING = ("unrar", "unzip", "mkdir", "for")

# Real classes with their official numbers. The files of the second spell it in another way than its folder.
UCF101 = {"ApplyEyeMakeup": 1, "HandstandPushups": 37, "YoYo": 101}
SPELT = {"HandstandPushups": "HandStandPushups"}
# Groups that each official list tests, of 1-7, 8-14 and 15-21; the last two are in training always.
TESTED = {1: (1, 2), 2: (8, 9), 3: (15, 16)}
GROUPS = (1, 2, 8, 9, 15, 16, 22, 23)

# Real names of files, by film, which its clips' flags in split 1 follow: three train, one test, one unused.
HMDB51: dict[str, dict[str, tuple[int, ...]]] = {
    "brush_hair": {
        "April_09_brush_hair_u_nm_np1_ba_goo_{}": (1, 1),
        "Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_le_goo_{}": (2, 2, 0),
        "Haarek_mmen_brush_hair_h_cm_np1_fr_goo_{}": (1, 1),
        "atempting_to_brush_my_hair_brush_hair_u_nm_np2_le_goo_{}": (1, 1),
        "brushing_hair_2_brush_hair_h_nm_np1_ba_med_{}": (1, 1),
        "brushing_raychel_s_hair_brush_hair_u_cm_np2_ri_goo_{}": (1, 1),
    },
    "catch": {
        "Ballfangen_catch_u_cm_np1_fr_goo_{}": (1, 1),
        "Goalkeeper_Training_Day_#_7_catch_f_cm_np1_ri_med_{}": (1, 1),
        "Torwarttraining_2_(_sterreich)_catch_f_cm_np1_ba_goo_{}": (1, 1),
        "Torwarttraining_catch_f_cm_np1_ba_bad_{}": (2, 2),
        "Torwarttraining_Arminia_Bielefeld_catch_f_cm_np1_ri_med_{}": (1, 1),
        "torwart_de-Camp_2009-_Training_hoher_B_lle_mit_Airbodies_catch_f_cm_np1_fr_bad_{}": (1, 1),
    },
}


def page_commands() -> list[str]:
    """Return each line of the page's shell blocks, without the remark behind it."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def words_of(line: str, replaced: Mapping[str, str]) -> list[str]:
    """Return the words behind `flowkit` of a line of the page, as they are run here."""
    for theirs, ours in replaced.items():
        line = line.replace(theirs, ours)
    name, *words = shlex.split(line)
    assert name == "flowkit", line
    return words


def run(line: str, replaced: Mapping[str, str] = ALWAYS) -> Result:
    done = CliRunner().invoke(flowkit_cli.group, words_of(line, replaced), standalone_mode=False)
    if done.exception:
        raise done.exception
    assert not done.return_value, done.output
    return done


def commands_of(name: str, store: str) -> list[str]:
    return [line for line in page_commands() if re.search(rf"\b{name} ", line) and store in line]


def make_clip(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    clips.mpeg4_avi(path, clips.moving_texture(7, seed=seed))


def make_ucf101(folder: Path) -> None:
    """Make the contents of UCF101.rar and its lists."""
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    lines = [f"{number} {label}\n" for label, number in UCF101.items()]
    (lists / "classInd.txt").write_text("".join(lines))
    names = {(k, g): f"{k}/v_{SPELT.get(k, k)}_g{g:02d}_c01.avi" for k in UCF101 for g in GROUPS}
    for seed, name in enumerate(names.values()):
        make_clip(folder / "UCF-101" / name, seed)
    for number, tested in TESTED.items():
        train = [f"{name} {UCF101[label]}\n" for (label, g), name in names.items() if g not in tested]
        (lists / f"trainlist{number:02d}.txt").write_text("".join(train))
        test = [f"{name}\n" for (_, g), name in names.items() if g in tested]
        (lists / f"testlist{number:02d}.txt").write_text("".join(test))


def make_hmdb51(folder: Path) -> None:
    """Make the contents of hmdb51_org.rar and test_train_splits.rar; the three splits are alike here."""
    lists = folder / "testTrainMulti_7030_splits"
    lists.mkdir()
    for label, films in HMDB51.items():
        flags = {film.format(k): flag for film, own in films.items() for k, flag in enumerate(own)}
        for seed, name in enumerate(flags):
            make_clip(folder / "hmdb51" / label / f"{name}.avi", seed)
        for number in (1, 2, 3):
            lines = [f"{name}.avi {flag} \n" for name, flag in flags.items()]
            (lists / f"{label}_test_split{number}.txt").write_text("".join(lines))


def make_weights(folder: Path) -> None:
    """Make a file with the names and shapes of tsn-pytorch's BN-Inception, where torch is installed."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    from gating.models.backbones import build_backbone

    tensors = build_backbone("bn_inception").state_dict()
    torch.save(tensors, folder / "bn_inception-9f5701afb96c8044.pth")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the unpacked archives, with both stores that the page's commands make of it."""
    folder = tmp_path_factory.mktemp("examples")
    make_ucf101(folder)
    make_hmdb51(folder)
    make_weights(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in commands_of("extract", ".h5"):
            run(line)
    return folder


@pytest.fixture
def there(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(unpacked)
    return unpacked


def test_every_line_of_the_page_is_looked_at() -> None:
    lines = [line for line in page_commands() if not line.startswith(UNPACKING)]
    called = {words_of(line, ALWAYS)[0] for line in lines}
    assert called == {"extract", "info", "verify", "train", "eval", "report"}
    assert called <= set(flowkit_cli.COMMANDS)
    assert [theirs for theirs in (*ALWAYS, *PLANNED, *TRAINED, *SCORED) if theirs not in PAGE] == []


def test_extract_takes_the_size_of_the_page(there: Path, tmp_path: Path) -> None:
    for line in commands_of("extract", ".h5"):
        output = run(re.sub(r" (\w+\.h5) ", rf" {tmp_path}/\1 --dry-run ", line), {}).output
        assert re.search(r"height\W+256\W.*linear\W.*width\W+340\W", output)
    assert not list(tmp_path.iterdir())


def test_extract_makes_the_ids_that_the_lists_name(there: Path) -> None:
    with flowkit.open("ucf101.h5") as store:
        assert len(store) == len(UCF101) * len(GROUPS)
        assert store["HandstandPushups/v_HandStandPushups_g01_c01"].label == "HandstandPushups"
        assert (store.options.flow_codec, store.options.bound_px) == ("jpeg", 20)
        assert store.options.fields[0].tvl1_preset == "tsn"
    with flowkit.open("hmdb51.h5") as store:
        assert store.labels == tuple(HMDB51)
        assert len(store) == sum(len(flags) for films in HMDB51.values() for flags in films.values())


@pytest.mark.parametrize("name", ["info", "verify"])
def test_the_store_is_shown_and_sound(name: str, there: Path) -> None:
    (line,) = commands_of(name, "ucf101.h5")
    assert str(len(UCF101) * len(GROUPS)) in run(line).output


def test_train_finds_the_three_splits_and_divides_no_group(there: Path) -> None:
    pytest.importorskip("torch")
    lines = commands_of("train", "ucf101.h5")
    assert len(lines) == 4
    for line in lines:
        output = run(line, ALWAYS | PLANNED).output
        for number in TESTED:
            assert f"split ucf101-{number}, test" in output
        assert output.count(" 6 are tested; 8 groups") == len(TESTED)
        assert "effective batch 128" in output
        assert "WARNING" not in output
        assert ("the same clips (their scores" in output) == ("zhu2018" in line)
    assert list_splits("ucf101.h5") == ()  # a dry run leaves nothing
    assert not Path("runs").exists()


def test_train_groups_hmdb51_by_film(there: Path) -> None:
    pytest.importorskip("torch")
    (line,) = commands_of("train", "hmdb51.h5")
    output = run(line, ALWAYS | PLANNED).output
    films = sum(len(films) for films in HMDB51.values())
    assert output.count(f" 4 are tested; {films} groups") == 3
    assert "rgb: 89 epochs" in output
    assert "flow: 250 epochs" in output


def test_the_page_goes_to_the_table_of_three_splits(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    for name in ("ucf101.h5", "ucfTrainTestlist"):
        (tmp_path / name).symlink_to(there / name)
    monkeypatch.chdir(tmp_path)
    line = next(line for line in commands_of("train", "ucf101.h5") if "--dry-run" not in line)
    assert "trials 3, tested parts 3, seeds 1" in run(line, ALWAYS | TRAINED).output
    results = json.loads(Path("runs/ucf101/results.json").read_text())
    assert results["fusions"]["gating"].keys() >= {"top1", "mean_class", "interval"}
    for name in ("eval", "report"):
        (line,) = commands_of(name, "runs/ucf101")
        run(line, ALWAYS | SCORED)


def test_a_wrong_option_or_name_in_the_page_would_fail(there: Path) -> None:
    pytest.importorskip("torch")
    (line,) = (line for line in commands_of("train", "ucf101.h5") if "--dry-run" in line)
    for right, wrong in {"--ucf101": "--ucf", "ucfTrainTestlist": "lists", "1,2,3": "1,2,4"}.items():
        with pytest.raises(Exception, match=r"No such option|does not exist|cannot be read"):
            run(line.replace(right, wrong, 1))


def test_epochs_follow_from_tsn_s_steps() -> None:
    pytest.importorskip("torch")
    from gating.train_config import train_preset

    rows = re.findall(r"\| (\w+ (?:rgb|flow)) \| (.+) \| (.+) \| (\d+) \| (\d+) \| (.+) \| (.+) \|", PAGE)
    assert len(rows) == 4
    table = {}
    for name, steps, falls, count, per_epoch, epochs, epoch_falls in rows:
        assert int(per_epoch) == math.ceil(int(count) / 128)
        ours = [round(int(step) / int(per_epoch), 1) for step in (steps, *falls.split(", "))]
        assert ours == [float(epoch) for epoch in (epochs, *epoch_falls.split(", "))]
        table[name] = ours
    preset = train_preset("tsn")
    for stage in ("rgb", "flow"):
        schedule = preset.schedule(stage)
        rounded = [round(epoch) for epoch in table[f"UCF101 {stage}"]]
        assert [schedule.epochs, *schedule.milestones] == rounded
        assert schedule.batch == 128
