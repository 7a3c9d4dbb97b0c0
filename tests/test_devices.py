"""Which GPU a process takes, with devices that are only names."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from adaptsr import devices
from adaptsr.config import schema
from adaptsr.devices import Gpu, Listed, choose, parse_listing, take_slot
from adaptsr.errors import UserError
from adaptsr.progress import say_once
from adaptsr.runs.provenance import provenance

CARDS = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-7ae5ee9a-0000-2b2c-524d-9e3d8d2b8a77)
"""
TWO = [Listed("GPU-aaaa-1111"), Listed("GPU-bbbb-2222")]

# A process that claims a slot, says which one, and keeps it until its standard input ends.
HOLDER = """
import os, sys
from pathlib import Path
from adaptsr import devices
devices.LOCKS = Path(sys.argv[1])
devices.POLL_SECONDS = 0.05
devices.DEVICE_FILES = ("null",)
assert "torch" not in sys.modules
devices.claim_gpu(int(sys.argv[2]), lambda line: print("waiting:", line, flush=True))
assert devices.claim_gpu(int(sys.argv[2]), print)
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""

Start = Callable[..., "Holder"]


class Holder:
    """A process that holds a slot or waits for one."""

    def __init__(self, folder: Path, jobs_per_gpu: int, visible: str | None, search: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != devices.VISIBLE}
        environment["PATH"] = search
        if visible is not None:
            environment[devices.VISIBLE] = visible
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), str(jobs_per_gpu)],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def line(self) -> str:
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        assert ready, "nothing was said for 30 s"
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that see the GPUs of a value of CUDA_VISIBLE_DEVICES, or those that a false nvidia-smi lists."""
    with ExitStack() as stack:

        def holder(visible: str | None = None, jobs_per_gpu: int = 1, search: str = "/nowhere") -> Holder:
            started = Holder(tmp_path / "locks", jobs_per_gpu, visible, search)
            stack.callback(started.process.communicate)
            stack.callback(started.kill)
            return started

        yield holder


def test_processes_take_different_gpus_and_a_killed_one_leaves_its_own(start: Start) -> None:
    """Two processes on two GPUs; the third says that it waits, and gets the GPU of the one that is killed with -9."""
    first, second = start("0,1"), start("0,1")
    taken = {first.line(): first, second.line(): second}
    assert set(taken) == {"0", "1"}
    third = start("0,1")
    said = third.line()
    assert said.startswith("waiting: all slots of 2 GPUs are taken (1 per GPU); waiting for one")
    taken["1"].kill()
    assert third.line() == "1"


def test_jobs_that_share_spread_before_they_share(start: Start) -> None:
    """With two jobs a GPU, four processes fit on two GPUs, two each, and a fifth waits."""
    visible = []
    holders = []
    for _ in range(4):
        holders.append(start("0,1", 2))
        visible.append(holders[-1].line())
    assert visible == ["0", "1", "0", "1"]
    assert start("0,1", 2).line().startswith("waiting: all slots of 2 GPUs are taken (2 per GPU)")


def test_only_the_visible_gpus_are_shared_out(start: Start) -> None:
    """What a user or a cluster has set is what there is; the others stay free."""
    assert start("1").line() == "1"
    assert start("1").line().startswith("waiting: all slots of 1 GPU are taken")
    assert start("0").line() == "0"


def test_without_the_variable_the_gpus_are_those_that_nvidia_smi_lists(start: Start, tmp_path: Path) -> None:
    """And an index means the same GPU as its UUID."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: One (UUID: GPU-aaaa-1111)'\necho 'GPU 1: Two (UUID: GPU-bbbb-2222)'\n")
    tool.chmod(0o755)
    search = f"{tmp_path}:/usr/bin:/bin"
    assert start("1", search=search).line() == "1"
    assert start(search=search).line() == "GPU-aaaa-1111"
    assert start("GPU-bbbb", search=search).line().startswith("waiting: ")


def test_a_gpu_to_itself_is_shared_with_nobody(tmp_path: Path) -> None:
    """A process of a profile with one job a GPU does not join processes of another profile, nor they it."""
    gpus = [Gpu("0", "0")]
    refused: list[str] = []

    class Refused(Exception):
        pass

    def waiting(line: str) -> None:
        refused.append(line)
        raise Refused

    shared = take_slot(gpus, 2, waiting, tmp_path)
    with pytest.raises(Refused):
        take_slot(gpus, 1, waiting, tmp_path)
    shared.release()
    alone = take_slot(gpus, 1, waiting, tmp_path)
    with pytest.raises(Refused):
        take_slot(gpus, 2, waiting, tmp_path)
    alone.release()
    assert take_slot(gpus, 2, waiting, tmp_path).gpu == gpus[0]
    assert len(refused) == 2


def test_cards_are_listed_with_their_parts_which_are_shared_out() -> None:
    first, second = parse_listing(CARDS)
    assert first.uuid == "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
    assert [part[:12] for part in first.parts] == ["MIG-c6d4f1ef", "MIG-cba663e8"]
    assert second.parts == ()
    assert parse_listing("No devices found.\n") == []
    assert [gpu.entry[:7] for gpu in choose(None, parse_listing(CARDS))] == ["MIG-c6d", "MIG-cba", "GPU-7ae"]


@pytest.mark.parametrize(
    ("visible", "listed", "entries", "names"),
    [
        (None, [], [], []),
        ("", TWO, [], []),
        ("-1", TWO, [], []),
        ("NoDevFiles", TWO, [], []),
        ("1, 0", TWO, ["1", "0"], ["GPU-bbbb-2222", "GPU-aaaa-1111"]),
        ("1,-1,0", TWO, ["1"], ["GPU-bbbb-2222"]),
        ("0,7", TWO, ["0"], ["GPU-aaaa-1111"]),
        ("0,GPU-aaaa", TWO, ["0"], ["GPU-aaaa-1111"]),
        ("GPU-bbbb", TWO, ["GPU-bbbb"], ["GPU-bbbb-2222"]),
        ("3,4", [], ["3", "4"], ["3", "4"]),
        ("GPU-cccc,MIG-GPU-dddd/7/0", [], *2 * [["GPU-cccc", "MIG-GPU-dddd/7/0"]]),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(
    visible: str | None, listed: list[Listed], entries: list[str], names: list[str]
) -> None:
    """Up to the first entry that is no device; one device named twice is one."""
    gpus = choose(visible, listed)
    assert [gpu.entry for gpu in gpus] == entries
    assert [gpu.name for gpu in gpus] == names


def test_a_machine_without_gpus_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is started where no device file is there, so that a CPU profile's jobs start as fast as before."""

    def never(*words: object, **more: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(devices, "DEVICE_FILES", ("no-such-device*",))
    monkeypatch.setattr(subprocess, "run", never)
    assert devices.shared_gpus() == []
    assert devices.claim_gpu(1, never) is None


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of the locks is known to everybody, so that somebody else may have made it."""
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(UserError, match="belongs to another user"):
        take_slot([Gpu("0", "0")], 1, print, tmp_path)


def test_nothing_asks_cuda_before_a_slot_is_taken() -> None:
    """CUDA reads the variable once: what a job imports before it takes its slot may not make it do so."""
    script = """
import torch
def never(*words):
    raise AssertionError("CUDA was asked")
torch._C._cuda_getDeviceCount = torch.cuda.is_available = torch.cuda.device_count = never
import adaptsr.scoring.score_runs, adaptsr.training.pretraining, adaptsr.training.train_runs
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not devices.shared_gpus(), reason="needs a GPU")
def test_the_gpu_that_torch_uses_is_the_one_that_is_held(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import torch
from adaptsr import devices
devices.LOCKS = Path(sys.argv[1])
slot = devices.claim_gpu(1, print)
assert torch.cuda.device_count() == 1
used = str(torch.cuda.get_device_properties(0).uuid)
assert used in slot.gpu.name, (used, slot.gpu.name)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_no_product_is_rounded_to_tf32() -> None:
    """Training and scoring prepare their device alike, and the record says so."""
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    for flag in flags:
        flag.allow_tf32 = True
    devices.prepare_device(schema.Compute(device="cpu"))
    assert [flag.allow_tf32 for flag in flags] == [False, False]
    assert provenance().tf32 is False


@pytest.mark.skipif(sys.platform != "linux", reason="sets options of glibc's malloc")
def test_freed_memory_is_used_again_without_fresh_pages() -> None:
    """A step frees and asks for the same sizes again; each page given back costs a fault."""
    script = """
import resource
import torch
from adaptsr.config.schema import Compute
from adaptsr.devices import prepare_device
prepare_device(Compute(device="cpu"))
def step():
    return sum(torch.ones(megabytes, 1 << 18).sum() for megabytes in (1, 2, 4, 8, 24))
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) < 1000  # the 39 MB of one step are 9,984 pages


def test_a_gpu_that_torch_cannot_use_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older driver: weeks on the CPU should not come as a surprise."""

    say_once.cache_clear()
    monkeypatch.setattr(devices, "claim_gpu", lambda jobs, waiting: "a slot")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    for _ in range(2):
        assert devices.prepare_device(schema.Compute(device="auto")).type == "cpu"
    assert capsys.readouterr().err.count("found a GPU, but torch cannot use it") == 1
    with pytest.raises(UserError, match="`cuda` is set, but torch cannot use a GPU"):
        devices.prepare_device(schema.Compute(device="cuda"))


def test_apples_gpus_are_used_when_asked_for_and_said_to_be_untested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say_once.cache_clear()
    with pytest.raises(UserError, match="`mps` is set, but torch cannot use a GPU here"):
        devices.usable("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.usable("mps").type == "mps"
    assert "untested" in capsys.readouterr().err
    assert devices.usable("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_limit_of_a_job_inside_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of Slurm, whose control group lies deep inside the one that is mounted."""
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    monkeypatch.setattr(devices, "OWN_GROUP", tmp_path / "self")
    job = tmp_path / "system.slice/job_7/step_0"
    job.mkdir(parents=True)
    (tmp_path / "self").write_text("0::/system.slice/job_7/step_0\n")
    free = devices.free_memory(torch.device("cpu"))
    assert free > 2**20
    for folder, limit in ((job.parent, 3 * 2**20), (tmp_path, 2**60)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{2**20}\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 512\n")
    assert devices.free_memory(torch.device("cpu")) == 2 * 2**20 + 512
