"""docs/past_one_machine.md: its commands run on loopback, by the real launcher, balancer and clients.

Two "machines" are two launches of accelerate on this one; each runs this file as a script.
"""

import argparse
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import torch
import yaml
from accelerate import PartialState
from accelerate.commands import launch
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin, prepare_multi_gpu_env
from accelerate.utils.launch import prepare_deepspeed_cmd_env
from huggingface_hub import JobHardware
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import fake_endpoint
import remote_engine
from conftest import OFFLINE, ROOT, command, free_port
from fake_endpoint import CutOff, endpoint_server, streamed
from fake_hub import hub_server
from remote_engine import RemoteEngine, RemoteFailed
from test_build_dataset import build, small  # noqa: F401  (a fixture)
from test_scale import files


PAGE = (ROOT / "docs/past_one_machine.md").read_text(encoding="utf-8")
CONFIGS = ROOT / "train/recipes/accelerate"
SOON = 20.0  # seconds, on a machine that is busy
PERSON = [{"role": "user", "content": "My week was long."}]


def commands_of(start: str) -> list[list[str]]:
    """Return the page's commands that begin so, as a shell would split them."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]


# --- The corpus: a stand-in for sbatch runs each job of the array at once, with the environment that Slurm gives it.

SLURM = {
    "sbatch": 'for last; do :; done; n=$(sed -n "s/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p" "$last"); for i in $(seq 0 $n); '
    'do SLURM_ARRAY_TASK_ID=$i SLURM_NODELIST=one bash "$last" >&2 || exit 1; done; echo Submitted batch job 7',
    "srun": 'while [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done; exec "$@"',
    "scontrol": "echo one",
}


def test_slurm_jobs_prepare_what_the_plain_build_would(small, tmp_path):  # noqa: F811
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in SLURM.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
    (asked,) = commands_of(
        "python data/on_datatrove.py --recipe public --local DATA --output build/public --tasks 100 --slurm"
    )
    told = {"public": small / "small.yaml", "DATA": small, "build/public": tmp_path / "shared", "100": 2}
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    command(*(told.get(word, word) for word in asked[1:]), PATH=path)
    (work,) = (tmp_path / ".shared-work").iterdir()
    assert [file.name for file in work.iterdir()] == ["counsel-chat-000000.arrow"]
    build(small, tmp_path / "shared")
    build(small, tmp_path / "plain")
    assert files(tmp_path / "shared") == files(tmp_path / "plain")


# --- Training


def launched(name: str, monkeypatch) -> argparse.Namespace:
    """Give the page's command for two machines to accelerate's launcher; return what it would start, and its environment."""
    (asked,) = commands_of(f"accelerate launch --config_file train/recipes/accelerate/{name}.yaml --num_machines")
    told = {"RANK": "1", "HOST": "10.0.0.1"}
    caught = []
    for launcher in ("deepspeed_launcher", "multi_gpu_launcher"):  # what would start processes
        monkeypatch.setattr(launch, launcher, caught.append)
    launch.launch_command(launch.launch_command_parser().parse_args([told.get(word, word) for word in asked[2:]]))
    environment = prepare_multi_gpu_env(caught[0]) if name == "fsdp" else prepare_deepspeed_cmd_env(caught[0])[1]
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    return caught[0]


@pytest.mark.parametrize("name", ["fsdp", "deepspeed_zero3"])
def test_the_second_machine_starts_half_of_the_processes_and_asks_the_first(name, monkeypatch):
    started = launched(name, monkeypatch)
    assert (started.nproc_per_node, started.nnodes, started.node_rank) == ("8", "2", 1)
    assert (started.rdzv_endpoint, started.training_script) == ("10.0.0.1:29500", "train/sft.py")
    recipe = started.training_script_args[started.training_script_args.index("--config") + 1]
    assert (ROOT / recipe).is_file()


def test_fsdp_lays_whole_decoder_layers_in_parts_and_saves_them_whole(tiny, monkeypatch):
    launched("fsdp", monkeypatch)
    plugin = FullyShardedDataParallelPlugin()
    plugin.set_auto_wrap_policy(AutoModelForCausalLM.from_pretrained(tiny[1]))
    assert (plugin.fsdp_version, plugin.state_dict_type.name) == (2, "FULL_STATE_DICT")
    assert {layer.__name__ for layer in plugin.auto_wrap_policy.keywords["transformer_layer_cls"]} == {
        "LlamaDecoderLayer"
    }


def test_deepspeed_lays_weights_in_parts_and_gathers_them_to_save(monkeypatch):
    """Without DeepSpeed: its plugin is accelerate's."""
    launched("deepspeed_zero3", monkeypatch)
    config = DeepSpeedPlugin().deepspeed_config
    assert config["zero_optimization"]["stage"] == 3
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
    assert {config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]} == {
        "auto"
    }  # the recipe's


def test_two_machines_with_weights_in_parts_learn_what_one_process_learns(tiny, tmp_path):
    """The launch command of the page, once for each machine, by the config for FSDP; the tiny base over gloo."""
    (asked,) = commands_of("accelerate launch --config_file train/recipes/accelerate/fsdp.yaml --num_machines")
    told = {"16": "2", "RANK": "", "HOST": "127.0.0.1", "29500": str(free_port())}
    steps = [*tiny, "--max_steps", "2", "--save_strategy", "no"]
    end = asked.index("train/sft.py")
    plain = [*steps, "--per_device_train_batch_size", "2", "--output_dir", str(tmp_path / "one")]
    command("train/sft.py", *plain)
    processes = []
    for rank in ("0", "1"):
        launch = [told.get(word, word) or rank for word in asked[2:end]]
        worker = [__file__, *steps, "--per_device_train_batch_size", "1", "--output_dir", str(tmp_path / "two")]
        processes.append(start_launch([*launch, *worker]))
    for process in processes:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said[-3000:]
        assert "weights in parts: FSDP 2, 2 processes" in said
    found, wanted = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("two", "one"))
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-4)


def start_launch(arguments: list[str]) -> subprocess.Popen:
    path = os.pathsep.join(str(ROOT / name) for name in ("space", "data", "train", "tests"))
    return subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", *arguments],
        cwd=ROOT,
        env={**os.environ, **OFFLINE, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train_in_parts() -> None:
    """Run train/sft.py; accelerate keeps FSDP from a CPU by its word for the kind of device, so that is another one."""

    def set_device(state: PartialState) -> None:
        state.device, state.distributed_type = torch.device("cpu"), DistributedType.MULTI_GPU

    PartialState.set_device = set_device
    torch.set_num_threads(1)
    sys.argv[0] = "train/sft.py"
    runpy.run_path(str(ROOT / "train/sft.py"), run_name="__main__")
    from accelerate.state import AcceleratorState

    state = AcceleratorState()
    version = state.fsdp_plugin.fsdp_version if state.distributed_type == DistributedType.FSDP else None
    print(f"weights in parts: FSDP {version}, {state.num_processes} processes")


# --- Jobs and Inference Endpoints: the real `hf`, and a server that writes down what it is asked.


@contextmanager
def recorder(answer: dict):
    """Serve `answer` to every POST; give the address and the list of (path, token, body)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["Authorization"], body))
            raw = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


# The endpoints' address is a constant of the client, not a variable.
HF = (
    "import os; from huggingface_hub import constants as c; c.INFERENCE_ENDPOINTS_ENDPOINT = os.environ['HF_ENDPOINT'] + '/v2'; "
    "from huggingface_hub.cli.hf import main; main()"
)
JOB = {"id": "1", "owner": {"id": "1", "name": "ORG", "type": "org"}, "status": {"stage": "SCHEDULING"}}
ENDPOINT = {
    "name": "theragen",
    "model": {"repository": "ORG/adapter", "framework": "custom", "revision": None, "task": None},
    "status": {
        "state": "pending",
        "message": "",
        "createdAt": "2026-11-30T00:00:00Z",
        "updatedAt": "2026-11-30T00:00:00Z",
        "url": None,
    },
    "type": "authenticated",
    "healthRoute": "/health",
}


def run_hf(asked: list[str], url: str, home: Path) -> str:
    own = {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HF, *asked[1:]],
        env={**os.environ, **own, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_of_the_operator"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def request_of(asked: list[str], answer: dict, home: Path) -> tuple[str, str, dict]:
    """Run a command of the page by the real client and return the one request that it made."""
    with recorder(answer) as (url, requests):
        run_hf(asked, url, home)
    (request,) = requests
    return request


def test_code_goes_to_the_hub_and_a_repository_comes_back(tmp_path):
    (tmp_path / "code/train").mkdir(parents=True)
    (tmp_path / "code/train/sft.py").write_text("pass\n")
    (upload,) = commands_of("hf upload")
    download, _ = commands_of("hf download")
    told = {"build/code": str(tmp_path / "code"), "v0.1.0": "main", "adapters/theragen": str(tmp_path / "back")}
    told["ORG/theragen-adapter"] = "ORG/theragen-code"
    with hub_server() as hub:
        said = run_hf([told.get(word, word) for word in upload], hub.url, tmp_path / "home")
        assert hub.sha("ORG/theragen-code") in said.splitlines()[-1] and hub.private["ORG/theragen-code"]
        run_hf([told.get(word, word) for word in download], hub.url, tmp_path / "home")
    assert (tmp_path / "back/train/sft.py").read_text() == "pass\n"


@pytest.mark.parametrize("number, gpu, script", [(0, False, "data/build_dataset.py"), (1, True, "train/sft.py")])
def test_a_job_has_its_machine_its_limit_its_folders_and_the_token_as_a_secret_alone(number, gpu, script, tmp_path):
    asked = commands_of("hf jobs run")[number]
    path, token, body = request_of(asked, JOB, tmp_path)
    assert (path, token) == ("/api/jobs/ORG", "Bearer hf_of_the_operator")
    assert body["flavor"] in list(JobHardware) and body["flavor"].startswith("cpu-") != gpu
    assert 3600 <= body["timeoutSeconds"] <= 24 * 3600
    assert body["secrets"] == {"HF_TOKEN": "hf_of_the_operator"} and body["environment"] == {}
    mounts = {volume["mountPath"]: volume for volume in body["volumes"]}
    assert (mounts["/code"]["type"], mounts["/code"]["revision"]) == ("model", "COMMIT")
    assert (mounts["/build"]["type"], mounts["/build"].get("readOnly", False)) == ("bucket", False)
    shell, option, script_text = body["command"]
    assert (shell, option) == ("bash", "-c")
    subprocess.run(["bash", "-n", "-c", script_text], check=True)
    assert f"python {script}" in script_text and (ROOT / script).is_file()
    for recipe in re.findall(r"--(?:config|recipe) (\S+)", script_text):
        assert (ROOT / recipe).is_file() or (ROOT / f"data/recipes/{recipe}.yaml").is_file()


def test_an_inference_endpoint_is_vllm_with_the_adapter_and_scales_with_waiting_requests(tmp_path):
    (asked,) = commands_of("hf endpoints deploy")
    path, _, body = request_of(asked, ENDPOINT, tmp_path)
    assert (path, body["name"], body["type"]) == ("/v2/endpoint/ORG", "theragen", "authenticated")
    scaling = body["compute"]["scaling"]
    assert scaling["minReplica"] == 1 and scaling["maxReplica"] > 1 and list(scaling["measure"]) == ["pendingRequests"]
    model = body["model"]
    (image,) = model["image"].values()
    assert image["url"].startswith("vllm/vllm-openai:v") and image["healthRoute"] == "/health"
    assert re.fullmatch(r"v\d+\.\d+\.\d+", model["revision"]) and "secrets" not in model
    given = model["args"]
    assert given[given.index("--lora-modules") + 1] == "theragen=/repository"
    assert given[given.index("--chat-template") + 1] == "/repository/chat_template.jinja"
    assert given[given.index("--port") + 1] == str(image["port"])
    check_ranks(given)


# --- Serving


def check_ranks(arguments: list[str]) -> None:
    """vLLM refuses an adapter of a higher rank than it was started for, and knows these ranks alone (0.32)."""
    rank = int(arguments[arguments.index("--max-lora-rank") + 1])
    recipes = [yaml.safe_load(file.read_text()) for file in (ROOT / "train/recipes").glob("*.yaml")]
    assert rank in (1, 8, 16, 32, 64, 128, 256, 320, 512)
    assert rank >= max(recipe.get("lora_r", 0) for recipe in recipes)


def test_vllm_is_told_all_adapters_and_room_for_them_in_one_batch():
    (asked,) = commands_of("vllm serve")
    start = asked.index("--lora-modules") + 1
    named = [word for word in asked[start:] if re.fullmatch(r"\w+=\S+", word)]
    assert len(named) > 1 and int(asked[asked.index("--max-loras") + 1]) >= len(named) and "--enable-lora" in asked
    check_ranks(asked)
    downloaded = [words[words.index("--local-dir") + 1] for words in commands_of("hf download")]
    assert sorted(downloaded) == sorted(name.split("=")[1] for name in named)
    assert all("--revision" in words for words in commands_of("hf download"))
    models = re.findall(r"THERAGEN_ENDPOINT_MODEL=(\w+)", PAGE)
    assert models and set(models) <= {name.split("=")[0] for name in named}


def test_the_spaces_own_line_for_vllm_fits_what_the_space_asks_for():
    said = (ROOT / "space/README.md").read_text(encoding="utf-8")
    asked = shlex.split(next(line for line in said.splitlines() if line.startswith("vllm serve")))
    name = asked[asked.index("--lora-modules") + 1].split("=")[0]
    assert "--enable-lora" in asked and f"THERAGEN_ENDPOINT_MODEL={name} " in said
    assert (ROOT / "space" / asked[asked.index("--chat-template") + 1]).is_file()
    check_ranks(asked)


HAPROXY = shutil.which("haproxy", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
balanced = pytest.mark.skipif(not HAPROXY, reason="HAProxy is not installed: apt-get install haproxy")


class Replica(fake_endpoint.Server):
    """A server that also says how it is, and whose connections end with it as those of a killed process do."""

    sick = frozenset()  # ports

    def __init__(self, address, handler):
        class Healthy(handler):
            def do_GET(self):
                if self.path == "/health":
                    self.send(503 if self.server.server_address[1] in Replica.sick else 200, b"")
                else:
                    super().do_GET()

        super().__init__(address, Healthy)
        self.accepted = []

    def get_request(self):
        connection, address = super().get_request()
        self.accepted.append(connection)
        return connection, address

    def handle_error(self, request, client_address):
        pass

    def server_close(self):
        super().server_close()
        for connection in self.accepted:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@pytest.fixture
def replicas(monkeypatch):
    """Give a function that starts two servers of an answer each behind HAProxy; the Space's client does not try twice."""
    monkeypatch.setattr(fake_endpoint, "Server", Replica)
    monkeypatch.setattr(remote_engine, "WAITS", ())
    with ExitStack() as opened:

        def start(*answers):
            stacks = [opened.enter_context(ExitStack()) for _ in answers]
            served = [
                stack.enter_context(endpoint_server(answer, ("base", "theragen", "next")))
                for stack, answer in zip(stacks, answers, strict=True)
            ]
            url = opened.enter_context(balancer(*(server.url for server in served)))
            return url, served, stacks

        yield start


@contextmanager
def balancer(one: str, two: str):
    port = free_port()
    places = {"BALANCER": f"127.0.0.1:{port}", "REPLICA_1": one.split("//")[1], "REPLICA_2": two.split("//")[1]}
    process = subprocess.Popen([HAPROXY, "-f", ROOT / "hub/deploy/haproxy.cfg"], env={**os.environ, **places})
    try:
        end = time.monotonic() + SOON
        while time.monotonic() < end and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def reply(url: str, model: str = "theragen") -> str:
    return "".join(RemoteEngine(url, model, "sk").stream(PERSON))


def asked_slowly(url: str) -> str:
    """Send a request whose body comes after its head, as a client over a slow line does, and return all that comes back."""
    body = json.dumps({"model": "theragen", "messages": PERSON, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), SOON) as line:
        line.sendall(head.encode())
        time.sleep(0.2)
        line.sendall(body)
        return b"".join(iter(lambda: line.recv(65536), b"")).decode()


def chats(served) -> int:
    return sum(request["path"] == "/v1/chat/completions" for request in served.requests)


@balanced
def test_a_stream_arrives_as_it_is_written_by_the_adapter_that_was_named(replicas):
    go_on = threading.Event()

    def answer(body):
        said = iter(streamed(f"{body['model']} ", "says"))
        yield next(said)
        yield next(said)
        assert go_on.wait(SOON)
        yield from said

    url, served, _ = replicas(answer, answer)
    pieces = RemoteEngine(url, "next", "sk").stream(PERSON)
    assert next(filter(None, pieces)) == "next "
    go_on.set()
    assert "".join(pieces) == "says"
    assert reply(url) == "theragen says"
    headers = [httpx.Headers(request["headers"]) for server in served for request in server.requests]
    assert [each["authorization"] for each in headers] == ["Bearer sk"] * 2
    assert httpx.get(f"{url}/v1/models").json()["data"][2]["id"] == "next"
    assert httpx.get(f"{url}/metrics").status_code == httpx.post(f"{url}/v1/load_lora_adapter").status_code == 403


@balanced
def test_who_is_busy_gets_no_more(replicas):
    go_on = threading.Event()

    def slow(body):
        yield from list(streamed("wait "))[:2]
        go_on.wait(SOON)

    def answers(mine):
        return lambda body: slow(body) if body["model"] == "slow" else streamed(mine)

    url, served, _ = replicas(answers("one"), answers("two"))
    held = RemoteEngine(url, "slow", "sk").stream(PERSON)
    assert next(filter(None, held)) == "wait "
    free = "two" if chats(served[0]) else "one"
    assert [reply(url) for _ in range(4)] == [free] * 4
    go_on.set()
    held.close()


@balanced
def test_a_killed_server_costs_nobody_a_reply(replicas):
    url, _, stacks = replicas(lambda body: streamed("one"), lambda body: streamed("two"))
    assert {reply(url) for _ in range(4)} == {"one", "two"}
    stacks[0].close()
    assert [reply(url) for _ in range(4)] == ["two"] * 4


@balanced
def test_only_what_ended_before_the_first_byte_is_asked_again(replicas):
    deaths = []

    def dies_once(body):
        if not deaths:
            deaths.append(body)
            raise ConnectionAbortedError
        return streamed("whole")

    url, served, _ = replicas(dies_once, dies_once)
    assert "whole" in asked_slowly(url)
    assert [chats(server) for server in served] == [1, 1]

    def dies_midway(body):
        yield from list(streamed("half "))[:2]
        raise CutOff

    url, served, _ = replicas(dies_midway, dies_midway)
    pieces, said = RemoteEngine(url, "m", "sk").stream(PERSON), []
    with pytest.raises(RemoteFailed):
        said.extend(pieces)
    assert "".join(said) == "half "
    assert sum(map(chats, served)) == 1


@balanced
def test_who_leaves_is_not_written_for(replicas):
    left = threading.Event()

    def endless(body):
        try:
            while True:
                yield from list(streamed("on and on "))[:2]
                time.sleep(0.05)
        finally:
            left.set()

    url, _, _ = replicas(endless, endless)
    pieces = RemoteEngine(url, "m", "sk").stream(PERSON)
    next(filter(None, pieces))
    pieces.close()
    assert left.wait(SOON)


@balanced
def test_a_server_that_says_it_is_ill_is_left_alone_until_it_is_well(replicas, monkeypatch):
    url, served, _ = replicas(lambda body: streamed("one"), lambda body: streamed("two"))
    monkeypatch.setattr(Replica, "sick", {int(served[0].url.rsplit(":", 1)[1])})
    assert until(lambda: {reply(url) for _ in range(4)} == {"two"})
    monkeypatch.setattr(Replica, "sick", frozenset())
    assert until(lambda: {reply(url) for _ in range(4)} == {"one", "two"})


def until(true) -> bool:
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    train_in_parts()
