from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from camera_files import tiff
from toy_bundle import GEOMETRY, photograph, toy_detector
from vqi.dataset.decoding import Decoding
from vqi.dataset.geometry import to_input
from vqi.dataset.images import decode_rgb
from vqi.deployment.bundle import read_sidecar, write_sidecar
from vqi.deployment.predictor import Prediction, Predictor, Unreadable, pixels_of
from vqi.deployment.sidecar import Boxes, DecodingEntry
from vqi.evaluation.pictures import boxes
from vqi.platform.errors import BadInput

BACKENDS = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plates")
    for number in range(10):
        Image.fromarray(photograph(40 + number, number % 3 == 2)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:900])
    (folder / "text.png").write_text("no image")
    return folder


@pytest.fixture(scope="module", params=BACKENDS)
def predictor(toy_bundle: Path, request: pytest.FixtureRequest) -> Predictor:
    return Predictor(toy_bundle, request.param, batch_size=4)


def test_predictions_are_the_detectors(predictor: Predictor, folder: Path) -> None:
    files = [folder / f"{number}.png" for number in range(10)]
    detector, predictions = toy_detector(), list(predictor.predict(files))
    for number, prediction in enumerate(predictions):
        assert isinstance(prediction, Prediction)
        with torch.inference_mode():
            expected = detector(
                torch.from_numpy(to_input(GEOMETRY.apply(photograph(40 + number, number % 3 == 2)))[None])
            )
        assert prediction.name == str(files[number])
        assert prediction.score == pytest.approx(float(expected.image[0]), rel=1e-4)
        assert prediction.decision == ("defect" if number % 3 == 2 else "good")
        np.testing.assert_allclose(
            prediction.map, GEOMETRY.invert_map(expected.map[0].numpy(), (80, 96)), rtol=1e-3, atol=1e-4
        )


def test_a_defect_is_boxed_where_it_lies_in_the_photograph(predictor: Predictor) -> None:
    (good, bad) = predictor.predict([photograph(71), photograph(72, defect=True)])
    assert isinstance(good, Prediction)
    assert isinstance(bad, Prediction)
    assert good.boxes == []
    x1, y1, x2, y2, _ = bad.boxes[0]
    assert x1 < 45 < 55 < x2
    assert y1 < 35 < 45 < y2
    # The crop leaves an edge of the photograph unseen.
    assert bad.map.shape == (80, 96)
    assert np.isnan(bad.map[:8]).all()


def test_a_bundle_names_the_rule_by_which_boxes_are_drawn(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))
    write_sidecar(bundle, read_sidecar(bundle).model_copy(update={"boxes": Boxes(rule="fraction", fraction=0.7)}))
    (good, bad) = Predictor(bundle, "onnxruntime").predict([photograph(71), photograph(72, defect=True)])
    assert isinstance(good, Prediction)
    assert isinstance(bad, Prediction)
    assert good.boxes == []
    assert bad.level == pytest.approx(0.7 * float(np.nanmax(bad.map)), rel=0.05)
    assert [box[:4] for box in bad.boxes] == [box[:4] for box in boxes(bad.map, bad.level)]
    x1, y1, x2, y2, _ = bad.boxes[0]
    assert 30 < x1 < 50 < x2 < 70
    assert 20 < y1 < 40 < y2 < 60


@pytest.mark.parametrize(
    "entry", [{"rule": "fraction"}, {"rule": "threshold", "fraction": 0.5}, {"rule": "fraction", "fraction": 1.5}]
)
def test_a_rule_for_boxes_that_makes_no_sense_is_refused(toy_bundle: Path, tmp_path: Path, entry: dict) -> None:
    bundle = Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))
    value = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(value | {"boxes": entry}))
    with pytest.raises(BadInput, match="malformed at boxes"):
        read_sidecar(bundle)


def test_a_bad_image_among_many_is_named_and_the_others_keep_their_order(predictor: Predictor, folder: Path) -> None:
    names = ["0.png", "broken.png", "absent.png", "1.png", "text.png", "2.png", "3.png"]
    results = list(predictor.predict(folder / name for name in names))
    assert [Path(result.name).name for result in results] == names
    assert [type(result) for result in results] == [
        Prediction,
        Unreadable,
        Unreadable,
        Prediction,
        Unreadable,
        Prediction,
        Prediction,
    ]
    assert "cannot be decoded" in results[1].reason  # type: ignore[union-attr]
    assert "is not a file" in results[2].reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.complex64),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8), np.int64),
        np.zeros(8, np.uint8),
    ],
)
def test_an_array_that_is_no_photograph_is_named(predictor: Predictor, array: np.ndarray) -> None:
    (result,) = predictor.predict([array])
    assert isinstance(result, Unreadable)
    assert result.reason.startswith("image 0 is ")


def test_no_images_give_no_predictions(predictor: Predictor) -> None:
    assert list(predictor.predict([])) == []


def test_images_are_taken_as_they_are_needed(predictor: Predictor) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield photograph(taken)

    results = predictor.predict(endless())
    for _ in range(9):
        next(results)
    results.close()
    assert taken <= 8 + 3 * predictor.batch_size


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 64, 64), np.float32),
        np.zeros((3, *GEOMETRY.input_size), np.float32),
        np.zeros((1, 3, *GEOMETRY.input_size), np.uint8),
        np.zeros((0, 3, *GEOMETRY.input_size), np.float32),
    ],
)
def test_images_the_graph_does_not_take_are_refused_in_one_sentence(predictor: Predictor, images: np.ndarray) -> None:
    with pytest.raises(BadInput) as refused:
        predictor.graph.run(images)
    assert str(refused.value) == (
        f"The images are {images.dtype} of shape {list(images.shape)}; this graph takes float32, [images, 3, 48, 56]."
    )


def test_the_score_does_not_depend_on_the_batch(toy_bundle: Path, folder: Path) -> None:
    files = [folder / f"{number}.png" for number in range(10)]
    one, many = ([r.score for r in Predictor(toy_bundle, batch_size=size).predict(files)] for size in (1, 8))  # type: ignore[union-attr]
    np.testing.assert_allclose(one, many, rtol=1e-5)


def test_a_score_that_is_no_number_is_never_good(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        predictor.graph,
        "run",
        lambda images: (np.full(len(images), np.nan, np.float32), np.zeros((len(images), 48, 56), np.float32)),
    )
    (result,) = predictor.predict([photograph(1)])
    assert isinstance(result, Unreadable)
    assert "decides nothing" in result.reason


def test_a_batch_out_of_range_is_refused(toy_bundle: Path) -> None:
    with pytest.raises(BadInput, match="The batch is -1"):
        Predictor(toy_bundle, batch_size=-1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_prediction_works_where_torch_cannot_be_imported(toy_bundle: Path, folder: Path, backend: str) -> None:
    program = f"""
import sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "sklearn", "matplotlib"), None))
from vqi.deployment.predictor import Predictor
predictor = Predictor({str(toy_bundle)!r}, {backend!r})
print([p.decision for p in predictor.predict([{str(folder / "1.png")!r}, {str(folder / "2.png")!r}])])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "['good', 'defect']\n", ended.stderr


def test_a_frame_in_memory_scores_what_its_file_scores(predictor: Predictor, tmp_path: Path) -> None:
    """Grey of every shape and depth, and RGB of 16 bits: the pixels of the file that holds the same values."""
    plate = photograph(3)
    deep = plate[..., 1].astype(np.uint16) * 257
    frames = [plate[..., 0], plate[..., :1], deep, deep[..., None], plate[..., 0] > 118, plate[:, ::-1], plate]
    files = []
    for number, frame in enumerate(frames):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(np.ascontiguousarray(frame.squeeze())).save(files[-1])
    for of_file, of_frame in zip(predictor.predict(files), predictor.predict(frames), strict=True):
        assert isinstance(of_file, Prediction)
        assert isinstance(of_frame, Prediction)
        assert of_frame.score == pytest.approx(of_file.score, rel=1e-6)
        assert (of_frame.decision, bool(of_frame.implausible)) == (of_file.decision, bool(of_file.implausible))


def test_what_is_neither_a_path_nor_an_array_is_named(predictor: Predictor) -> None:
    first, second = predictor.predict([None, photograph(1)])  # type: ignore[list-item]
    assert isinstance(first, Unreadable)
    assert first.reason == (
        "image 0 is a NoneType; give the path or the bytes of a file, an array, or a name and one of the last two."
    )
    assert isinstance(second, Prediction)


def test_a_frame_of_floats_is_what_a_file_of_the_same_values_is() -> None:
    frame = np.random.default_rng(0).random((4, 6, 3)).astype(np.float32)
    decoding = Decoding(float_black=0.1, float_white=0.9)
    file = tiff(frame, photometric="rgb")
    assert np.array_equal(pixels_of(frame, "frame", decoding), decode_rgb(file, "a.tif", decoding))
    with pytest.raises(BadInput, match=r"frame holds floating-point values.*image\.range"):
        pixels_of(frame, "frame")


def test_the_bytes_of_a_file_are_predicted_as_the_file(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    Image.fromarray(photograph(1, defect=True)).save(path)
    by_path, by_bytes, broken = predictor.predict([path, ("sent", path.read_bytes()), ("cut", path.read_bytes()[:99])])
    assert isinstance(by_path, Prediction)
    assert isinstance(by_bytes, Prediction)
    assert (by_bytes.name, by_bytes.score) == ("sent", by_path.score)
    assert isinstance(broken, Unreadable)
    assert broken.reason.startswith("cut ")


def test_16_bits_are_scaled_by_the_white_level_of_the_set() -> None:
    frame = np.array([[0, 2048, 4095, 5000]], np.uint16)
    assert pixels_of(frame, "frame", Decoding(white_level=4095))[0, :, 0].tolist() == [0, 127, 255, 255]
    assert pixels_of(frame, "frame")[0, :, 0].tolist() == [0, 7, 15, 19]
    assert pixels_of(np.repeat(frame[..., None], 3, axis=2), "frame", Decoding(white_level=4095)).shape == (1, 4, 3)


def test_files_are_decoded_as_the_set_was(toy_bundle: Path, tmp_path: Path) -> None:
    """A 12-bit camera's file: with the white level of the set the same score as the 8-bit file; with another nearly
    black, hence implausible.
    """
    plate = photograph(3)[..., 0]
    Image.fromarray(plate.astype(np.uint16) * 16).save(tmp_path / "12bit.png")
    bundle = Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))
    sidecar = read_sidecar(bundle)
    white = DecodingEntry(white_level=255 * 16)
    write_sidecar(
        bundle,
        sidecar.model_copy(update={"preprocessing": sidecar.preprocessing.model_copy(update={"decoding": white})}),
    )
    expected, right = Predictor(bundle, "onnxruntime").predict([plate, tmp_path / "12bit.png"])
    (wrong,) = Predictor(toy_bundle, "onnxruntime").predict([tmp_path / "12bit.png"])
    assert right.score == pytest.approx(expected.score)  # type: ignore[union-attr]
    assert wrong.decision == "implausible"  # type: ignore[union-attr]
    assert "its mean brightness is 7" in wrong.implausible  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "change",
    [
        np.zeros_like,
        lambda plate: np.full_like(plate, 255),
        lambda plate: plate[::2, ::2],
        lambda plate: np.rot90(plate),
    ],
)
def test_a_frame_that_is_no_plate_is_implausible_and_never_good(predictor: Predictor, change) -> None:
    (result,) = predictor.predict([("left camera", change(photograph(3)))])
    assert isinstance(result, Prediction)
    assert result.decision == "implausible"
    assert result.implausible.startswith("left camera is not a plausible photograph of this set: its ")


def test_one_frame_is_predicted_before_the_next_arrives(predictor: Predictor) -> None:
    for number in range(3):
        result, expected = predictor.predict_one(photograph(number)), next(predictor.predict([photograph(number)]))
        assert isinstance(result, Prediction)
        assert isinstance(expected, Prediction)
        assert result.score == pytest.approx(expected.score)
    assert isinstance(predictor.predict_one("absent.png"), Unreadable)


def test_another_threshold_moves_decision_boxes_and_promise_together(toy_bundle: Path) -> None:
    """The toy's image score is the maximum of the map before it is scaled up, so that both thresholds move alike."""
    plain = Predictor(toy_bundle, "onnxruntime")
    calibration = plain.sidecar.calibration
    scores, maxima = (
        sorted(entry.score for entry in calibration.scores),
        sorted(entry.map_max for entry in calibration.scores),
    )
    middle = Predictor(toy_bundle, "onnxruntime", threshold=scores[3])
    assert (middle.sidecar.thresholds.image, middle.sidecar.thresholds.pixel) == (scores[3], maxima[3])
    assert middle.sidecar.calibration.false_reject_rate == pytest.approx(5 / 9)
    rate = Predictor(toy_bundle, "onnxruntime", false_reject_rate=5 / 9)
    assert rate.sidecar.thresholds.image == scores[3]
    high = Predictor(toy_bundle, "onnxruntime", threshold=10.0)
    (defect,) = high.predict([photograph(72, defect=True)])
    assert isinstance(defect, Prediction)
    assert (defect.decision, defect.boxes, bool(defect.mask.any())) == ("good", [], False)
    with pytest.raises(BadInput, match="refuse or score"):
        Predictor(toy_bundle, implausible="ignore")  # type: ignore[arg-type]
