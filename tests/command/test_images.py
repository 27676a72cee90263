"""Images from files, as a careless person has them, and a model of images."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import xpnet
from xpnet import evaluate, predict
from xpnet.data.images import Layout, Shades
from xpnet.inference import images

BYTES = Shades(0, 255, 0)


@pytest.fixture
def model(empty_folder):
    """Makes a model of images, untrained, and gives its path; its classes are told apart by the image's mean."""

    def make(shape=(8, 8), shades=BYTES):
        network = xpnet.MLP((int(np.prod(shape)), 2), init="zeros")
        network.parameters.w[0][:, 1] = 1 / np.prod(shape)
        network.task, network.classes = "classification", ("dark", "light")
        network.image_shape, network.image_shades = shape, shades
        return xpnet.save(network, "model.safetensors")

    return make


def read(path, shape=(8, 8), **options):
    return images.read_image(str(path), Layout.of(shape), **options)


# Their range


def test_digits_as_images_are_predicted_as_their_array(quiet_json, use):
    folder = quiet_json("--epochs", 10, "--no-plot", "--no-report").folder
    network, digits = xpnet.load(folder / "model.safetensors"), xpnet.data.load("digits")
    assert (network.image_shape, network.image_shades) == ((8, 8), Shades(0, 16, 0))
    names = [f"digit{i}.{'png' if i % 2 else 'PNG'}" for i in range(len(digits.x_test))]
    for name, sample in zip(names, digits.x_test, strict=True):
        Image.fromarray((sample.reshape(8, 8) * (255 / 16)).round().astype(np.uint8)).save(name)
    status, _, err = use(predict, folder, "--data", *names, "--out", "digits.csv")
    assert (status, err) == (0, "")
    frame = pd.read_csv("digits.csv")
    assert frame.file.tolist() == names
    assert frame.prediction.tolist() == network.predict(digits.x_test).tolist()
    np.testing.assert_allclose(frame.iloc[:, 2:], network.predict_proba(digits.x_test), atol=0.03)
    with open("SAMPLES.NPY", "wb") as file:
        np.save(file, digits.x_test)
    assert use(predict, folder, "--data", "SAMPLES.NPY", "--out", "samples.csv")[0] == 0
    assert pd.read_csv("samples.csv").prediction.tolist() == frame.prediction.tolist()
    scores = json.loads(use(evaluate, folder, "--data", "digits", "--json")[1])
    assert scores["samples"] == len(digits.x_test)
    assert scores["accuracy"] == np.mean(frame.prediction == digits.y_test)


@pytest.mark.parametrize("shades", [Shades(0, 1, 0), Shades(-1, 1, 0), Shades(0, 65535, 0), Shades(-0.5, 2.75, 0)])
def test_images_come_in_the_range_of_the_training(model, shades):
    Image.fromarray(np.array([[0, 51], [204, 255]], np.uint8)).save("four.png")
    network = xpnet.load(model((2, 2), shades))
    expected = np.array([[0, 0.2, 0.8, 1]]) * (shades.white - shades.black) + shades.black
    np.testing.assert_allclose(images.Reader(network)(["four.png"]), expected, rtol=1e-6)


def test_a_range_that_no_image_has_is_told_or_used(model, use):
    Image.new("L", (8, 8), 255).save("one.png")
    assert use(predict, model(shades=Shades(0, 5e-324, 0)), "--data", "one.png", "--out", "-")[0] == 0
    status, _, err = use(predict, model(shades=Shades(0, 1e300, 1e300)), "--data", "one.png", "--out", "-")
    assert (status, "X holds 1e+300 in row 0, column 0, too large for float32" in err) == (2, True)


def test_a_model_that_does_not_say_its_range_takes_bytes_and_tells(model, use):
    Image.new("L", (8, 8), 200).save("one.png")
    status, out, err = use(predict, model(shades=None), "--data", "one.png", "--out", "-")
    assert (status, len(err.splitlines())) == (0, 1)
    assert "does not say which numbers are black and white: 0 and 255 taken" in err
    assert out.splitlines()[1].startswith("one.png,light,")


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3, 1), (3, 2, 3), (2, 3, 3), (2, 3, 4), (2, 3)])
def test_pixels_lie_as_in_the_training(model, shape):
    layout = Layout.of(shape)
    pixels = np.arange(6 * layout.bands, dtype=np.uint8).reshape(2, 3, layout.bands) + 200
    Image.fromarray(pixels if layout.bands > 1 else pixels[..., 0]).save("all.png")
    expected = pixels.transpose(2, 0, 1) if layout.first else pixels
    sample = images.Reader(xpnet.load(model(shape)))(["all.png"])
    assert sample.tolist() == [expected.ravel().tolist()]


# What is in them


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(tmp_path, kind, orientation):
    upright = np.kron(np.array([[250, 120, 120], [10, 120, 120]], np.uint8), np.ones((8, 8), np.uint8))
    turned = {1: np.asarray, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud}
    turned |= {5: np.transpose, 6: np.rot90, 7: lambda a: np.rot90(a.T, 2), 8: lambda a: np.rot90(a, 3)}
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"photo.{kind}"
    Image.fromarray(np.ascontiguousarray(turned[orientation](upright))).save(path, exif=exif)
    np.testing.assert_allclose(read(path, (2, 3)), [[250, 120, 120], [10, 120, 120]], atol=45)


@pytest.mark.parametrize("ground", [0, 100, 255])
def test_what_is_transparent_shows_the_ground(tmp_path, ground):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (180, 180, 180, 255)
    Image.fromarray(pixels).save(tmp_path / "drawn.png")
    Image.fromarray(pixels).convert("LA").save(tmp_path / "grey.png")
    palette = Image.fromarray(np.array([[1, 0], [0, 0]], np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 180, 180, 180])
    palette.save(tmp_path / "palette.png", transparency=0)
    for name in ("drawn", "grey", "palette"):
        assert read(tmp_path / f"{name}.png", (2, 2), ground=ground).tolist() == [[180, ground], [ground, ground]]
    assert read(tmp_path / "drawn.png", (2, 2, 3), ground=ground)[1, 1].tolist() == [ground] * 3
    assert read(tmp_path / "drawn.png", (2, 2, 4))[1, 1].tolist() == [0] * 4


def test_a_drawing_in_the_shade_of_the_ground_is_refused(model, use):
    pixels = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(pixels).save("empty.png")
    pixels[2:5, 2:5, 3] = 255
    Image.fromarray(pixels).save("ink.png")
    assert use(predict, model(), "--data", "empty.png", "--out", "-")[0] == 0
    status, out, err = use(predict, model(), "--data", "ink.png", "--out", "-")
    assert (status, out) == (2, "")
    assert "ink.png is drawn in the shade of the model's own ground, 0 of 255, on a transparent one" in err
    status, out, _ = use(predict, model(shades=Shades(0, 255, 250)), "--data", "ink.png", "--out", "-")
    assert (status, out.splitlines()[1].split(",")[1]) == (0, "light")


@pytest.mark.filterwarnings("ignore:.*mode.*parameter:DeprecationWarning")
def test_images_of_16_bits_keep_their_shades(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read(tmp_path / "deep.png"), grey)


def test_images_of_one_bit_one_pixel_and_four_inks(tmp_path):
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read(tmp_path / "bits.png"), np.eye(8) * 255)
    Image.new("L", (1, 1), 77).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read(tmp_path / "one.png"), np.full((8, 8), 77))
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "inks.jpg")
    assert read(tmp_path / "inks.jpg").max() <= 2


def test_images_that_are_light_where_those_of_the_training_are_dark_are_told(model, use):
    for ground, kind in (0, "dark"), (255, "light"):
        image = Image.new("L", (8, 8), ground)
        image.paste(255 - ground, (2, 2, 6, 6))
        image.save(f"{kind}.png")
    for ground, (these, those) in (0, ("light", "dark")), (255, ("dark", "light")), (120, ("", "")):
        status, _, err = use(
            predict, model(shades=Shades(0, 255, ground)), "--data", "dark.png", "light.png", "--out", "-"
        )
        assert status == 0
        told = f"xpnet: 1 of 2 images are {these} at their edges, those of the training {those}: if they are drawn"
        assert err.startswith(told) if these else not err


# What is none


def test_images_that_are_none_are_told(model, use, empty_folder):
    Image.new("L", (8, 8), 3).save("whole.png")
    whole = (empty_folder / "whole.png").read_bytes()
    (empty_folder / "half.png").write_bytes(whole[:50])
    (empty_folder / "empty.jpg").write_bytes(b"")
    Image.new("1", (10_000, 9_000)).save("large.png")
    Image.new("1", (14_000, 13_000)).save("larger.png")
    for name, sentence in (
        ("half.png", "cannot be read as an image"),
        ("empty.jpg", "cannot be read as an image"),
        ("large.png", "has 10000 x 9000 pixels: make it smaller"),
        ("larger.png", "has more than 67,108,864 pixels: make it smaller"),
        ("none.png", "there is no such file"),
    ):
        status, out, err = use(predict, model(), "--data", "whole.png", name, "--out", "p.csv")
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert sentence in err
    assert not (empty_folder / "p.csv").exists()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere all names are text")
@pytest.mark.parametrize("out", ["p.csv", "p.parquet", "p.npz", "-"])
def test_names_that_are_no_text_are_written_as_far_as_they_are(model, use, out):
    name = os.fsdecode(b"b\xe4d.png")
    try:
        Image.new("L", (8, 8), 3).save(name)
    except OSError:
        pytest.skip("this file system takes text alone")
    assert use(predict, model(), "--data", name, "--out", out)[0] == 0
    if out == "p.csv":
        assert pd.read_csv(out).file.tolist() == ["b?d.png"]


def test_tables_and_files_that_are_not_there_are_told(model, use):
    Image.new("L", (8, 8), 3).save("moving.gif")
    for data, sentence in (
        (["new.csv"], "got the table new.csv for a model of samples of 64"),
        (["no.npy"], "no such file or"),
        (
            ["moving.gif"],
            "moving.gif is of no accepted kind: give samples as .npy, .npz or IDX (.gz or not), or images",
        ),
        (["moving.gif", "whole.png"], "got 2 files, expected one file of samples, or images (.png, .jpg) alone"),
    ):
        status, _, err = use(predict, model(), "--data", *data, "--out", "p.csv")
        assert (status, sentence in err) == (2, True)
    status, _, err = use(evaluate, model(), "--data", "new.csv")
    assert (status, "got the table new.csv for a model of samples of 64" in err) == (2, True)


def test_no_data_and_data_from_standard_input_are_told(model, use):
    for data, sentence in ((), "data: got no file"), (("-",), "data: got - for a model that was not trained on a"):
        status, _, err = use(predict, model(), "--data", *data, "--out", "p.csv")
        assert (status, sentence in err) == (2, True)


def test_images_for_a_model_of_other_samples_are_told(model, use):
    Image.new("L", (8, 8), 3).save("whole.png")
    status, _, err = use(predict, model((5, 7, 2)), "--data", "whole.png", "--out", "p.csv")
    assert status == 2
    assert "got images for a model of samples of shape 5 x 7 x 2: give these, as .npy or .npz" in err
