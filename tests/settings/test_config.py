"""Settings of the workflow: what is refused and how, and the files that follow from them."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from unetbio.batch.plan import found_items, select_part
from unetbio.errors import ModelError, UsageError
from unetbio.io.discover import part_of
from unetbio.models.model_file import read_info
from unetbio.pipelines.options import WORKFLOW_RUN, CompareOptions, MeasureOptions, SegmentOptions, TrainOptions
from unetbio.pipelines.settings import WorkflowConfig, input_names, input_stamps, load_config, workflow_schema
from unetbio.results.journal import Part
from unetbio.settings.options import options_of
from unetbio.settings.runs import RunOptions
from unetbio.settings.segmentation import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"imges": "x"}, "unknown key imges: did you mean images? known are images, table, output"),
        ({"images": "x", "segment": {"treshold": 0.5}}, "unknown key segment.treshold: did you mean threshold? known"),
        ({"images": "x", "segment": {"threshold": 2}}, "segment.threshold: Input should be less than 1 (given: 2)"),
        ({"images": "x", "segment": 3}, "segment: names with values are needed (given: 3)"),
        ({"images": "x", "segment": {"overlays": "some"}}, "or Input should be 'all' or 'none' (given: 'some')"),
        ({"images": "x", "segment": {"z": "min"}}, "segment.z: Input should be a valid integer"),
        ({"images": "x", "segment": {"normalize": "p1"}}, "segment.normalize: --normalize 'p1': auto, none, two"),
        (
            {"images": "x", "segment": {"axes": "ZZ"}},
            "segment: axes ZZ must be letters of TCZYX, each once and Y and X",
        ),
        ({"images": "x", "segment": {"link": 0.3}}, "segment: link 0.3 joins the cells of sections: give --z each too"),
        ({"images": "x", "segment": {"min_area": 9, "max_area": 4}}, "segment: max_area 4 is below min_area 9: no cel"),
        ({"images": "x", "segment": {"diameter": float("inf")}}, "segment.diameter: Input should be a finite number"),
        (
            {"images": "x", "segment": {"metadata_regex": "("}},
            "segment.metadata_regex: is no regular expression: mis",
        ),
        (
            {"images": "x", "segment": {"metadata_regex": "a"}},
            "segment.metadata_regex: names no group: write one for",
        ),
        (
            {"images": "x", "segment": {"metadata_regex": "(?P<label>a)"}},
            "segment.metadata_regex: names a group 'label', which the tables have",
        ),
        ({"images": [["x"]]}, "images.0: Input should be a valid string (given: ['x'])"),
        ({"images": "x", "images_per_job": 0}, "images_per_job: Input should be greater than or equal to 1"),
        ({"images": "x", "output": "a{b}"}, "output: Snakemake gives { } < > in the names of what it makes a meaning"),
        ({"images": "x", "output": "a<b>"}, "output: Snakemake gives { } < > in the names of what it makes a meaning"),
        ({"images": "x", "check": {"rnu": 1}}, "unknown key check.rnu: did you mean run? known are run, resources"),
        ({"images": "x", "output": "./"}, "output: a folder of its own is needed (given: './')"),
        (
            {"images": "x", "resources": {"memory": 1}},
            "unknown key resources.memory: known are threads, mem_mb, runtime",
        ),
        (
            {"images": "x", "segment": {"crf": "sharp"}},
            "segment.crf: there is no preset sharp of the CRF; there are: l",
        ),
        ({"images": "x", "network": "unot"}, "network: there is no network named 'unot'; there are: "),
        ({"images": "x", "network": "unet"}, "network: unet has to be trained: training needs images and masks"),
        ({"images": "x", "training": {"images": "y"}}, "training needs network: the name of what is trained, such as"),
        ({"images": "x", "compare": {"networks": "unet"}}, "compare: data and networks (or lessons) are needed: on wh"),
        ({"images": "x", "compare": {"data": "y"}}, "compare: data and networks (or lessons) are needed"),
        ({}, "one of 'images' and 'table' is needed, none is given"),
        ({"images": "x", "table": "y"}, "one of 'images' and 'table' is needed, both are given"),
        ({"images": "x", "model": "a", "models": ["b"]}, "models stands instead of model: name that one under models"),
        ({"images": "x", "models": ["a", "b/a.safetensors"]}, "models: two of them would be called a: give names"),
        ({"images": "x", "models": {"logs": "a"}}, "'logs' cannot name a folder of results: letters"),
        ({"images": "x", "models": {"a": {}}}, "models.a: one of 'model' and 'network' is needed"),
        ({"images": "x", "models": {"a": {"network": "unet"}}}, "network: unet has to be trained: training needs"),
        (
            {"images": "x", "models": {"a": {"model": "b", "training": {"images": "c"}}}},
            "models.a: training needs network: the name of what is trained",
        ),
        ({"images": "x", "models": {"a": {"modle": "b"}}}, "unknown key models.a.modle: did you mean model?"),
    ],
)
def test_refusals_are_one_line_that_names_the_key(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_config(settings)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_refused_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("images: x\nmodle: nuclei\n")
    with pytest.raises(UsageError, match=r"mine\.yaml: unknown key modle: did you mean model\?"):
        load_config(path)
    path.write_text("images: [x\n")
    with pytest.raises(UsageError, match=r"mine\.yaml cannot be read as YAML: .*line 2"):
        load_config(path)
    path.write_text("- images\n")
    with pytest.raises(UsageError, match=r"mine\.yaml holds list, settings are a mapping"):
        load_config(path)
    with pytest.raises(UsageError, match=r"missing\.yaml cannot be read as YAML: .*No such file"):
        load_config(tmp_path / "missing.yaml")


def test_a_section_whose_lines_are_comments_means_the_defaults() -> None:
    """YAML reads ``segment:`` with nothing below it as None."""
    assert load_config({"images": "x", "segment": None, "table": None}) == load_config({"images": ["x"]})


def test_options_become_arguments_of_the_command() -> None:
    options = SegmentOptions(channel="DAPI", z="max", min_area=12.5, exclude_border=True, overlays="all")  # type: ignore[arg-type]
    assert options.arguments() == [
        *("--channel", "DAPI", "--z", "max", "--min-area", "12.5", "--exclude-border"),
        *("--device", "auto", "--overlays", "all"),
    ]
    classes = SegmentOptions(classes=["dim", "bright"], crf="largefov", exact_tiles=True)  # type: ignore[arg-type]
    assert classes.arguments()[:5] == ["--classes", "dim,bright", "--crf", "largefov", "--exact-tiles"]
    assert MeasureOptions(expand=2).arguments() == ["--expand", "2.0"]
    stack = SegmentOptions(pixel_size=(2, 0.5), normalize="p1,p99")
    assert stack.arguments()[:4] == ["--pixel-size", "2.0,0.5", "--normalize", "p1,p99"]
    for kind in (TrainOptions, CompareOptions):
        read = kind(channel="DAPI", axes="ZYX", pixel_size=(2, 0.5))
        expected = ["--channel", "DAPI", "--axes", "ZYX", "--pixel-size", "2.0,0.5"]
        assert read.arguments()[:6] == expected
    assert TrainOptions(recipe="paper").arguments()[:2] == ["--recipe", "paper"]
    refined = SegmentOptions(crf="largefov", crf_settings="w1=10,iterations=10")
    assert refined.arguments()[:4] == ["--crf", "largefov", "--crf-settings", "w1=10,iterations=10"]
    several = SegmentOptions(channel=("DAPI", 2), series=0)
    assert several.arguments()[:6] == ["--channel", "DAPI", "--channel", "2", "--series", "0"]


def test_the_defaults_of_the_command_are_values_of_the_workflow() -> None:
    """Written out, as docs/settings.md lists them, they change nothing."""
    assert SegmentOptions(format="auto", precision="auto") == SegmentOptions()
    listed = [*options_of(Settings).values(), *(options_of(RunOptions)[name] for name in WORKFLOW_RUN)]
    SegmentOptions(**{option.key: option.unset for option in listed if option.unset})


def test_the_backend_is_a_key_that_old_jobs_do_without() -> None:
    assert "--backend" not in SegmentOptions().arguments()
    assert SegmentOptions(backend="onnx").arguments()[-2:] == ["--backend", "onnx"]
    with pytest.raises(UsageError, match=r"segment\.backend: there is no backend 'tpu': give one of .*torch"):
        load_config({"images": "x", "segment": {"backend": "tpu"}})


def test_the_check_looks_at_what_will_be_segmented() -> None:
    """With every model that is there already, and those options of segment that decide which part is the image."""
    segment = {"channel": "DAPI", "z": "each", "link": 0.3, "diameter": 20, "min_area": 9, "normalize": "0,4095"}
    training = {"images": "i", "masks": "m"}
    config = load_config({"images": "x", "segment": segment, "models": {"a": "nuclei", "b": "b.st"}})
    reading = ["--channel", "DAPI", "--z", "each", "--diameter", "20.0", "--normalize", "0,4095"]
    assert config.check_arguments() == ["--model", "nuclei", "--model", "b.st", *reading]
    later = load_config({"images": "x", "network": "unet", "training": training})
    assert later.check_arguments() == ["--no-model"]


@pytest.mark.parametrize(("given", "run", "threads"), [(False, False, 2), (True, True, 2), ({}, True, 2)])
def test_the_check_can_be_left_out(given: object, run: bool, threads: int) -> None:
    config = load_config({"images": "x", "check": given})
    assert (config.check.run, config.check.resources.threads) == (run, threads)
    config = load_config(
        {"images": "x", "check": {"resources": {"threads": 9}}, "measure": {"resources": {"mem_mb": 5}}}
    )
    assert (config.check.run, config.check.resources.threads, config.measure.resources.mem_mb) == (True, 9, 5)


@pytest.mark.parametrize("name", ["a{1}.tif", "a<b>.tif", "10\udcb5m.tif"])
def test_files_that_snakemake_cannot_name_are_no_inputs_but_parameters(tmp_path: Path, name: str) -> None:
    plain, braces = tmp_path / "a.tif", tmp_path / name
    try:
        for path in (plain, braces):
            path.write_bytes(b"1")
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    assert input_names([plain, str(braces)]) == [str(plain)]
    before = input_stamps([plain, str(braces)])
    assert input_stamps([str(plain), braces]) == before
    braces.write_bytes(b"12")
    assert input_stamps([plain, braces]) != before


def test_changes_that_make_no_input_newer_change_a_parameter(tmp_path: Path) -> None:
    """An older file in the place of another, two files swapped, files in folders and beside a file, a missing one."""
    a, b, folder, companion = (tmp_path / name for name in ("a.tif", "b.tif", "c.zarr", "x.companion.ome"))
    (folder / "0").mkdir(parents=True)
    companion.write_text('<OME><UUID FileName="piece.ome.tif"/></OME>')
    for number, path in enumerate((a, b, folder / "0" / "chunk", folder / "0" / "newest")):
        path.write_bytes(b"1")
        os.utime(path, (1000 + number, 1000 + number))
    stamps: list[str] = []

    def look() -> None:
        stamps.extend({input_stamps([a, b, folder, companion]) for _ in range(2)})

    look()
    os.utime(a, (900, 900))
    look()
    for one, other in ((a, "aside"), (b, "a.tif"), (tmp_path / "aside", "b.tif")):
        one.rename(tmp_path / other)
    look()
    os.utime(folder / "0" / "chunk", (900, 900))
    look()
    (tmp_path / "piece.ome.tif").write_bytes(b"")
    look()
    b.unlink()
    look()
    assert len(stamps) == len(set(stamps)) == 6


def test_the_source_is_a_table_or_images() -> None:
    assert load_config({"images": ["a", "b*.tif"]}).source_arguments() == ["a", "b*.tif"]
    assert load_config({"table": "list.csv"}).source_arguments() == ["--table", "list.csv"]


def test_a_model_is_a_file_or_a_name(tmp_path: Path) -> None:
    """A file is an input of the jobs, from the root: the prefix of a module is not for what is there already."""
    model = tmp_path / "mine.safetensors"
    model.touch()
    (mine,) = load_config({"images": "x", "model": str(model)}).uses()
    assert (mine.folder, mine.model, mine.file()) == ("results", str(model), str(model))
    (shipped,) = load_config({"images": "x"}).uses()
    # Another release may ship another model of this name, whose masks are others.
    assert (shipped.model, read_info(shipped.file()).name) == ("nuclei", "nuclei")
    (missing,) = load_config({"images": "x", "model": "nuclii"}).uses()
    with pytest.raises(ModelError, match="there is no model 'nuclii': give a"):
        missing.file()


def test_several_models_have_a_folder_each() -> None:
    """Names stand in the settings, or follow from the models."""
    training = {"images": "i", "masks": "m"}
    other = {"images": "j", "masks": "n", "start": "nuclei", "encoder": "vgg.safetensors", "trust_masks": True}
    models = {"a": "nuclei", "b": {"network": "fcn8s"}, "c": {"network": "unet", "training": other}}
    config = load_config({"images": "x", "output": "out", "models": models, "training": training})
    a, b, c = config.uses()
    assert [use.folder for use in (a, b, c)] == ["out/a", "out/b", "out/c"]
    assert (a.model, a.network) == ("nuclei", None)
    assert (b.model, b.network, b.training) == ("out/models/b.safetensors", "fcn8s", config.training)
    assert c.training is not None
    assert c.training.arguments()[:5] == ["--start", "nuclei", "--encoder", "vgg.safetensors", "--trust-masks"]
    listed = load_config({"images": "x", "models": ["nuclei", "sub/mine.safetensors"]})
    assert [(use.folder, use.model) for use in listed.uses()] == [
        ("results/nuclei", "nuclei"),
        ("results/mine", "sub/mine.safetensors"),
    ]
    one = load_config({"images": "x", "models": "nuclei"}).uses()
    assert [use.folder for use in one] == ["results/nuclei"]


def test_a_network_is_trained_on_what_the_settings_name(tmp_path: Path) -> None:
    for name in ("images/a.tif", "images/.hidden", "masks/sub/a.tif", "mine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images, masks, settings = (str(tmp_path / name) for name in ("images", "masks", "mine.yaml"))
    training = {"images": images, "masks": masks, "config": settings, "minutes": 5, "resources": {"threads": 9}}
    config = load_config({"images": "x", "output": "out", "network": "fcn8s", "training": training})
    (use,) = config.uses()
    assert (use.folder, use.model, use.file()) == ("out", "out/models/fcn8s.safetensors", use.model)
    assert config.training.inputs() == [images, masks]
    assert config.training.files() == [tmp_path / "images/a.tif", tmp_path / "masks/sub/a.tif", tmp_path / "mine.yaml"]
    assert config.training.arguments() == ["--config", settings, "--minutes", "5.0", "--device", "auto"]
    assert (config.training.resources.threads, config.training.resources.runtime) == (9, 1440)
    missing = load_config({"images": "x", "network": "unet", "training": {**training, "masks": "nowhere"}})
    with pytest.raises(UsageError, match="training: nowhere does not exist: give a file or folder, relative to where"):
        missing.training.files()


def test_a_comparison_is_what_the_command_takes(tmp_path: Path) -> None:
    compare = {"data": str(tmp_path), "networks": ["unet", "fcn8s+crf"], "lessons": ["skips", "crf"], "width": 0.25}
    options = load_config({"images": "x", "compare": compare}).compare
    assert (options.data, options.files()) == ((str(tmp_path),), [])
    named = ["--networks", "unet,fcn8s+crf", "--lesson", "skips", "--lesson", "crf"]
    assert options.arguments() == [*named, "--width", "0.25", "--device", "auto"]


def _batches(folder: Path, images_per_job: int, out: Path) -> tuple[int, dict[int, list[str]]]:
    settings = {"images": str(folder), "images_per_job": images_per_job, "output": str(out)}
    (batches,) = load_config(settings).batches().values()
    return batches


def test_batches_hold_every_image_once_and_stay_where_they_are(tmp_path: Path) -> None:
    """Ten more images may not move others to another job, or they would all be looked at again."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(40):
        (images / f"{number}.tif").touch()
    count, before = _batches(images, 10, out)
    assert count == 4
    assert sorted(Path(path).name for paths in before.values() for path in paths) == sorted(
        f"{n}.tif" for n in range(40)
    )
    added = [images / f"2{n}a.tif" for n in range(10)]
    for path in added:
        path.touch()
    # Without results nothing is lost by other jobs.
    assert _batches(images, 10, out)[0] == 8
    out.mkdir()
    (out / "run.1-of-4.jsonl").touch()
    same, after = _batches(images, 10, out)
    assert same == 4
    assert {part: set(paths) for part, paths in after.items()} == {
        part: set(paths) | {str(path) for path in added if part_of(path.name, 4) == part}
        for part, paths in before.items()
    }


@pytest.mark.parametrize(
    ("images_per_job", "earlier", "count"),
    [
        (64, [], 1),
        (63, [], 2),
        (10, [], 8),
        (1, [], 64),
        (32, [1], 1),
        (31, [1], 4),
        (16, [16], 16),
        (16, [32], 4),
        (16, [3], 3),
        (16, [2, 8, 64], 8),
    ],
)
def test_the_number_of_batches_fits_and_stays(
    tmp_path: Path, images_per_job: int, earlier: list[int], count: int
) -> None:
    """64 images: a power of two, or what an earlier run had if its jobs are not above twice, nor below a quarter."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    out.mkdir()
    for number in range(64):
        (images / f"{number}.tif").touch()
    for number in earlier:
        (out / f".run.1-of-{number}.lock").touch()
    assert _batches(images, images_per_job, out)[0] == count


def test_a_name_that_is_no_utf_8_is_in_the_part_that_the_command_gives_it(tmp_path: Path) -> None:
    path = tmp_path / "images" / "10\udcb5m.tif"
    path.parent.mkdir()
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    (path.parent / "a.tif").touch()
    count, batches = _batches(path.parent, 1, tmp_path / "out")
    items = found_items([path.parent], Settings(), tmp_path / "out")
    for part, paths in batches.items():
        assert [str(item.source) for item in select_part(items, Part(part, count))] == paths


def test_a_part_without_images_is_no_job(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        (tmp_path / name).touch()
    count, parts = _batches(tmp_path, 1, tmp_path / "out")
    assert count == 4
    assert all(parts.values())
    assert sum(map(len, parts.values())) == 3


def test_batches_of_a_table_follow_its_names(tmp_path: Path) -> None:
    """A file that is missing is nobody's input, and still its part's to report."""
    table = tmp_path / "list.tsv"
    table.write_text("image\tdose\nsub/a.tif\t1\nsub/b.tif\t2\n", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.tif").touch()
    config = load_config({"table": str(table)})
    assert config.batches() == {"results": (1, {1: [str(tmp_path / "sub/a.tif")]})}
    assert config.source_files() == [str(table)]


def test_regions_stay_in_the_part_of_their_file(tmp_path: Path) -> None:
    """Only parts that hold a file are jobs, so a region of another part would never be segmented."""
    for name in ("a.tif", "b.tif", "c.tif"):
        (tmp_path / name).touch()
    regions = tuple(f"{x},0,8,8" for x in range(12))
    settings = {"images": str(tmp_path), "images_per_job": 1, "segment": {"region": regions}}
    ((count, parts),) = load_config({**settings, "output": str(tmp_path / "out")}).batches().values()
    items = found_items([tmp_path], Settings(region=regions), None)
    jobs = {part: select_part(items, Part(part, count)) for part in parts}
    assert sorted(item.path for job in jobs.values() for item in job) == sorted(item.path for item in items)
    assert {part: {str(item.source) for item in job} for part, job in jobs.items()} == {
        part: set(paths) for part, paths in parts.items()
    }


def test_models_of_an_ensemble_are_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute paths of those that exist, and the names of those that the workflow trains; any other is refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").touch()
    training = {"images": "images", "masks": "masks"}
    models = {"first": {"network": "unet", "training": training}, "second": "nuclei"}
    settings = {"images": "x", "models": models}
    ensemble = ["mine.safetensors", "results/models/first.safetensors"]
    config = load_config({**settings, "segment": {"ensemble": ensemble}})
    assert config.ensemble_files() == [str(tmp_path / "mine.safetensors"), "results/models/first.safetensors"]
    with pytest.raises(UsageError, match=r"gone\.safetensors"):
        load_config({**settings, "segment": {"ensemble": "gone.safetensors"}}).ensemble_files()


def test_files_of_regions_are_inputs(tmp_path: Path) -> None:
    for name in ("drawn.geojson", "other.geojson", "a.tif"):
        (tmp_path / name).touch()
    drawn, other, missing = (str(tmp_path / f"{name}.geojson") for name in ("drawn", "other", "missing"))
    config = load_config({"images": "x", "segment": {"region": [drawn, "0,0,8,8", missing]}})
    assert config.source_files() == [drawn]
    table = tmp_path / "list.csv"
    table.write_text('image,image_region\na.tif,other.geojson\na.tif,"drawn.geojson;1,2,3,4"\n')
    assert load_config({"table": str(table)}).source_files() == [str(table), other, drawn]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,dose\na.tif,1\n", "has no column 'image'; it has file, dose"),
        ("image,dose\n", "has a header but no rows"),
        ("image,dose\n,1\n", "line 2: the column 'image' is empty"),
    ],
)
def test_a_table_needs_a_file_in_every_row(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "list.csv"
    table.write_text(content)
    with pytest.raises(UsageError, match=rf"table: .*list\.csv,? {message}"):
        load_config({"table": str(table)}).batches()
    with pytest.raises(UsageError, match=r"table: .*none\.csv cannot be read: No such file"):
        load_config({"table": str(tmp_path / "none.csv")}).batches()


def test_the_schema_file_is_up_to_date() -> None:
    assert (ROOT / "config" / "schema.json").read_text(encoding="utf-8") == workflow_schema(), "run make docs"


def test_every_key_is_explained() -> None:
    """In the schema for editors, and in the README for people, with the default that holds."""
    readme = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    schema = json.loads(workflow_schema())
    for section in (schema, *schema["$defs"].values()):
        for key, field in section["properties"].items():
            assert field["description"], key
            row = next(line for line in readme.splitlines() if line.startswith("|") and f"`{key}`" in line)
            default = WorkflowConfig.model_fields.get(key)
            if default is not None and isinstance(default.default, str | int):
                assert f"`{str(default.default).lower()}`" in row


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml"])
def test_the_files_that_come_along_are_valid(name: str) -> None:
    text = (ROOT / "config" / name).read_text(encoding="utf-8")
    assert isinstance(load_config(ROOT / "config" / name), WorkflowConfig)
    # Lines that are commented out are settings that work, too.
    uncommented = re.sub(r"^# (\w+:|  \w+:)", r"\1", text, flags=re.MULTILINE)
    uncommented = re.sub(r"^  # (\w+:)", r"  \1", uncommented, flags=re.MULTILINE)
    settings = yaml.safe_load(uncommented)
    models = settings.pop("models", None)
    config = load_config(settings)
    assert bool(config.compare.data) == bool(config.network) == bool(models) == (name == "config.yaml")
    if models:
        without = {key: value for key, value in settings.items() if key not in ("model", "network", "training")}
        assert len(load_config({**without, "models": models}).uses()) == 2


def test_the_schema_takes_what_the_settings_take() -> None:
    """Editors judge by it: a string where a list may stand, and a model where its settings may."""
    properties = json.loads(workflow_schema())["properties"]
    assert {option["type"] for option in properties["images"]["anyOf"]} == {"string", "array"}
    assert {option["type"] for option in properties["models"]["anyOf"]} == {"string", "array", "object"}


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_profiles_name_options_that_snakemake_has(name: str) -> None:
    from snakemake.cli import get_argument_parser

    profile = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text(encoding="utf-8"))
    options = {option for action in get_argument_parser()._actions for option in action.option_strings}
    assert {f"--{key}" for key in profile} <= options
