"""The registered model behind MLflow's own server: documented requests, malformed ones, and the page in a browser."""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from projects import REPOSITORY, clean_environment, free_port, isolate

from components.serving.onnx_classifier import OnnxClassifier
from flows.project.project import Project
from flows.tracking import registry
from flows.tracking.packaging import Package, write_package
from flows.tracking.runs import open_tracking
from flows.tracking.scoring_server import application, describe

GUIDE = (REPOSITORY / "docs" / "serving.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def packed(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_package(onnx_file, tmp_path_factory.mktemp("package") / "model")


@pytest.fixture(scope="module")
def package(packed: Package) -> Path:
    return packed.folder


@pytest.fixture(scope="module")
def server(onnx_file: Path) -> Iterator[str]:
    """The address of `darkroom serve`'s application under uvicorn."""
    import uvicorn

    model = OnnxClassifier(onnx_file)
    description = describe("models:/pets/3", ["champion"], model)
    port = free_port()
    running = uvicorn.Server(uvicorn.Config(application(model, description), port=port, log_level="warning"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(3)
    frames = [Image.fromarray(random.integers(0, 256, (40, 30, 3), np.uint8)) for _ in range(3)]
    frames[0].save(folder / "photo.jpg")
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (20_000, 10_000)).save(folder / "vast.png")
    return folder


def ask(server: str, body: Any, *, content_type: str = "application/json") -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": content_type} if content_type else {}
    request = Request(f"{server}/invocations", data, headers)
    if not content_type:
        request.add_unredirected_header("Content-type", "")
    try:
        with urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as problem:
        return problem.code, json.loads(problem.read())


SECRET = base64.b64encode(b"somebody's image, which no message repeats").decode()
SEND = 'send {"dataframe_split": {"columns": ["image"], "data": [["BASE64"]]}}'
ONE_COLUMN = f"should have one column, image, and nothing else; {SEND}"
NO_IMAGES = "the request has no images; send at least one in the column image"


def split(*images: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}}


def request_for(*contents: bytes, **params: Any) -> dict[str, Any]:
    texts = [base64.b64encode(content).decode() for content in contents]
    return split(*texts) | ({"params": params} if params else {})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_documented_command_is_answered(server: str, photos: Path, command: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace("http://127.0.0.1:8080", server)],
        cwd=photos,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if "bm8gaW1hZ2U=" in command:
        assert answer["message"] == "image 1: the content is no image that can be read"
    elif "/model" in command:
        assert (answer["name"], answer["aliases"], answer["task"]) == ("models:/pets/3", ["champion"], "single_label")
    else:
        assert len(answer["predictions"]) == command.count("base64")
        assert all(row["label"] in ("cat", "dog, big", "Ä/ö") for row in answer["predictions"])
        assert [row.get("note") for row in answer["predictions"]][1:] == [
            "only the first of several frames or pages was classified" for _ in range(command.count("moving.gif"))
        ]
        assert ("top_2" in answer["predictions"][0]) == ("top_k" in command)
        assert ("probability:Ä/ö" in answer["predictions"][0]) == ("probabilities" in command)


def test_many_images_are_answered_as_each_alone(server: str, images: Path) -> None:
    contents = [file.read_bytes() for file in sorted(images.glob("[0-9]*.png"))[:40]]
    status, together = ask(server, request_for(*contents))
    assert status == 200
    for content, row in list(zip(contents, together["predictions"], strict=True))[::13]:
        (alone,) = ask(server, request_for(content))[1]["predictions"]
        assert alone["label"] == row["label"]
        assert alone["probability"] == pytest.approx(row["probability"], abs=1e-5)


def cut_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG")
    return stream.getvalue()[:900]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (split("no base64!"), "image 1: is no base64; encode the content of the image file"),
        (split(""), "image 1: the file is empty (0 bytes)"),
        (request_for(b"text"), "image 1: the content is no image that can be read"),
        (split(), NO_IMAGES),
        ({"inputs": {"image": []}}, NO_IMAGES),
        ({"dataframe_records": []}, NO_IMAGES),
        ({"inputs": SECRET}, f"inputs {ONE_COLUMN}"),
        ({"inputs": {"image": SECRET}}, f"inputs {ONE_COLUMN}"),
        ({"inputs": [SECRET]}, f"inputs {ONE_COLUMN}"),
        ({"instances": [SECRET]}, f"instances {ONE_COLUMN}"),
        ({"dataframe_split": {"columns": ["picture"], "data": [[SECRET]]}}, f"dataframe_split {ONE_COLUMN}"),
        ({"dataframe_split": {"data": [[SECRET]]}}, f"dataframe_split {ONE_COLUMN}"),
        ({"dataframe_split": {"columns": ["image"], "data": [[SECRET, 1]]}}, f"dataframe_split {ONE_COLUMN}"),
        (
            {"dataframe_split": {"columns": ["image"], "index": [[1]], "data": [[SECRET]]}},
            "dataframe_split should have one column",
        ),
        (split(7), "image 1: is no base64; encode the content of the image file"),
        ({"dataframe_splt": {}}, "the request has an unknown field 'dataframe_splt'; did you mean"),
        ({"images": [SECRET]}, f"the request has an unknown field 'images'; {SEND}"),
        (split(SECRET) | {"top_k": 2}, "the request has an unknown field 'top_k'"),
        ({"params": {}}, "the request should have its images in exactly one of dataframe_split, dataframe_records, in"),
        (split(SECRET) | {"inputs": {"image": [SECRET]}}, "the request should have its images in exactly one of"),
        ([1], f"the request is no JSON object; {SEND}"),
        (b'{"dataframe_split"', f"the request is no JSON; {SEND}"),
        (b"\xff", f"the request is no JSON; {SEND}"),
        (b"[" * 20_000, f"the request is no JSON; {SEND}"),
        (split(SECRET) | {"params": 1}, 'params should be an object such as {"top_k": 2, "probabilities": true}'),
        (split(SECRET) | {"params": {"topk": 2}}, "params: there is no topk; did you mean top_k?"),
        (split(SECRET) | {"params": {"x": 2}}, "params: there is no x; there are top_k and probabilities"),
        *[
            (split(SECRET) | {"params": {"top_k": value}}, f"top_k is {json.dumps(value)}, should be a whole number")
            for value in (None, "2", 1.5, True, [2])
        ],
        (split(SECRET) | {"params": {"probabilities": 1}}, "probabilities is 1, should be true or false"),
    ],
)
def test_a_malformed_request_is_refused_in_one_sentence(server: str, body: Any, sentence: str) -> None:
    status, answer = ask(server, body)
    assert status == 400
    assert answer["message"].startswith(sentence)
    assert set(answer) == {"error_code", "message"}
    assert "\n" not in answer["message"]
    assert SECRET not in answer["message"]


@pytest.mark.parametrize("content_type", ["", "text/csv", "application/json; charset=latin-1"])
def test_a_request_of_another_content_type_is_refused_in_one_sentence(server: str, content_type: str) -> None:
    status, answer = ask(server, split(SECRET), content_type=content_type)
    assert status == 415
    assert answer["message"].endswith("; send application/json")


def test_every_format_of_a_request_is_answered_alike(server: str, photos: Path) -> None:
    text = base64.b64encode((photos / "photo.jpg").read_bytes()).decode()
    row = {"image": text}
    forms = [split(text), {"dataframe_records": [row]}, {"inputs": {"image": [text]}}, {"instances": [row]}]
    forms += [split(text) | {"params": None}, {"dataframe_split": split(text)["dataframe_split"] | {"index": [7]}}]
    answers = [ask(server, form, content_type="application/json; charset=UTF-8") for form in forms]
    assert [answer == answers[0] for answer in answers] == [True] * len(forms)
    assert answers[0][0] == 200


def test_mlflow_alone_says_what_is_wrong_with_a_parameter_in_one_sentence(package: Path) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model(str(package))
    with pytest.raises(mlflow.MlflowException) as refused:
        model.predict({"image": ["x"]}, params={"top_k": None})
    assert refused.value.message == "top_k is null, should be a whole number"
    assert json.loads(refused.value.serialize_as_json()).keys() == {"error_code", "message"}


def test_one_bad_image_among_good_ones_is_named(server: str, photos: Path) -> None:
    good = (photos / "photo.jpg").read_bytes()
    status, answer = ask(server, request_for(good, good, b"bad"))
    assert (status, answer["message"]) == (400, "image 3: the content is no image that can be read")


def test_a_200_megapixel_image_is_refused_before_it_is_decoded(server: str, photos: Path) -> None:
    status, answer = ask(server, request_for((photos / "vast.png").read_bytes()))
    assert (status, answer["message"]) == (400, "image 1: more than 1 megapixels")


def test_more_classes_than_there_are_are_refused(server: str, photos: Path) -> None:
    status, answer = ask(server, request_for((photos / "photo.jpg").read_bytes(), top_k=4))
    assert (status, answer["message"]) == (400, "top_k is 4, should be between 0 and 3, the model's number of classes")


def test_a_request_that_is_too_large_is_not_read(server: str) -> None:
    request = Request(f"{server}/invocations", b"{}", {"Content-Type": "application/json"})
    request.add_unredirected_header("Content-length", str(2**30))
    with pytest.raises(HTTPError) as refused:
        urlopen(request)
    assert refused.value.code == 413
    assert "send fewer images" in json.loads(refused.value.read())["message"]


def test_the_page_may_run_its_own_script_and_nothing_else(server: str) -> None:
    with urlopen(server) as answer:
        policy, html = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)


@contextlib.contextmanager
def browser_page() -> Iterator[Any]:
    """A page of a headless Chromium, Debian's own."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("no Chromium here to look at the page with; apt-get install chromium")
    with sync_playwright() as playwright:
        # root, as which containers run, has no sandbox to offer.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield browser.new_page()
        finally:
            browser.close()


def test_a_person_drops_an_image_and_sees_the_prediction(server: str, photos: Path) -> None:
    (expected,) = ask(server, request_for((photos / "photo.jpg").read_bytes(), top_k=3))[1]["predictions"]
    complaints: list[str] = []
    requested: list[str] = []
    with browser_page() as page:
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(server)
        page.get_by_text("models:/pets/3 @champion").wait_for()
        drop(page, photos / "photo.jpg", "image/jpeg")
        page.get_by_text("Probability").wait_for()
        assert page.locator("#label").inner_text() == expected["answer"]
        assert page.get_by_role("meter").count() == 3
        assert page.locator("#top li b").all_inner_texts() == [expected[f"top_{rank}"] for rank in (1, 2, 3)]
        assert page.get_by_role("img", name="photo.jpg").evaluate("image => image.naturalWidth") == 30
        assert expected["model"] in page.locator("#origin").inner_text()
        # A file chosen by keyboard or mouse does the same; for an animation the page says which frame was classified.
        page.get_by_label("Drop an image here").set_input_files(str(photos / "moving.gif"))
        page.get_by_text("Only the first of several frames or pages was classified.").wait_for()
        # A file that is no image shows the server's sentence.
        drop(page, Path(__file__), "text/plain")
        page.get_by_role("alert").get_by_text("image 1: the content is no image that can be read").wait_for()
        assert not page.locator("#shown").is_visible()
    assert [text for text in complaints if "400" not in text] == []
    assert all(url.startswith((server, "blob:", "data:")) for url in requested)


def test_the_page_says_in_words_what_the_model_is_not_sure_of(server: str) -> None:
    row = {"label": "cat", "probability": 0.6, "ood_score": 7.126, "model": "m", "out_of_distribution": False}
    not_sure = row | {"answer": "not sure: cat or dog, big", "sure": False}
    unlike = not_sure | {"answer": "unlike the photos it learned from, perhaps cat", "out_of_distribution": True}
    promised = "For photos like those it learned from, the right class is among those that it names 90% of the time."
    warned = (
        "This image is unlike the photos it learned from, and probably shows none of its classes: 95% of photos like "
        "those have an OOD score below 5.00. Its own score is 7.13. Don't rely on the label."
    )
    with browser_page() as page:
        page.goto(server)
        page.get_by_text("models:/pets/3 @champion").wait_for()

        def shown(of_row: dict[str, Any]) -> list[str]:
            page.evaluate("row => { show(row, { name: 'photo' }); $('shown').hidden = false; }", of_row)
            texts: list[str] = page.locator("#ood:visible, #label, #confidence").all_inner_texts()
            return texts

        assert shown(row | {"answer": "cat", "sure": True}) == ["cat", f"Probability: 60.0 %. {promised}"]
        assert shown(not_sure) == ["not sure: cat or dog, big", f"Probability of cat: 60.0 %. {promised}"]
        # Before the label, and without a promise that doesn't hold there.
        assert shown(unlike) == [warned, "perhaps cat", "Probability of cat: 60.0 %."]
        # A file of an earlier release makes no prediction sets.
        assert shown({**row, "ood_score": -7.0}) == ["cat", f"Probability: 60.0 %. {promised}"]


def drop(page: Any, file: Path, media_type: str) -> None:
    content = base64.b64encode(file.read_bytes()).decode()
    page.evaluate(
        """([content, name, type]) => {
            const bytes = Uint8Array.from(atob(content), sign => sign.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, { type }));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [content, file.name, media_type],
    )


def test_mlflow_serves_the_champion_as_documented(
    packed: Package, photos: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch)
    tracking = open_tracking(Project(tmp_path, tmp_path / ".darkroom"), "pets")
    run_id = tracking.client.create_run(tracking.experiment_id).info.run_id
    registry.register(tracking, "pets", run_id=run_id, package=packed, tags={}, description="")
    tracking.client.set_registered_model_alias("pets", "champion", "1")
    port = free_port()
    (command,) = re.findall(r"`(MLFLOW_TRACKING_URI=\S+) (mlflow models serve .*?)`", GUIDE)
    line = f"{command[0]} exec {command[1]}".replace("NAME", "pets").replace("8080", str(port))
    # As in an environment that is activated.
    environment = clean_environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    body = request_for((photos / "photo.jpg").read_bytes())
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(["bash", "-c", line], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        answer = None
        deadline = time.monotonic() + 90
        while answer is None and time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                answer = ask(f"http://127.0.0.1:{port}", body)
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(30)
    assert answer == ask(server, body), (tmp_path / "log").read_text()
    assert not (tmp_path / "mlflow.db").exists()
