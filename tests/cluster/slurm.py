"""A real Slurm on this machine alone: one node, a partition `cpu`, and a partition `urgent` whose jobs preempt its jobs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

CONFIGURATION = Path("/etc/slurm/slurm.conf")  # jobs do not see SLURM_CONF
MUNGE_FOLDERS = {Path("/run/munge"): 0o755, Path("/var/log/munge"): 0o700}
DAEMONS = ("munged", "slurmctld", "slurmd")
STARTING_SECONDS = 60
OURS = "# Written by a test of adaptsr, which removes it when it ends."


def why_not() -> str | None:
    """Say why there can be no Slurm here; None if there can."""
    if os.environ.get("ADAPTSR_TEST_SLURM") != "1":
        return "ADAPTSR_TEST_SLURM=1 is not set: it lets this test start a Slurm of its own, as root"
    if CONFIGURATION.exists() and not CONFIGURATION.read_text().startswith(OURS):  # a killed test leaves its own
        return f"{CONFIGURATION} exists: this machine belongs to a cluster"
    if os.getuid():
        return "not root"
    running = {process.info["name"] for process in psutil.process_iter(["name"])} & set(DAEMONS)
    if running:
        return f"{', '.join(sorted(running))} is running here"
    missing = [name for name in DAEMONS if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    return None if find_spec("snakemake_executor_plugin_slurm") else "needs the extra slurm"


@dataclass(frozen=True)
class Slurm:
    folder: Path
    cores: int

    def ask(self, *words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout

    def running(self, word: str) -> set[str]:
        """The numbers of running jobs that have a word in their comment, where the plugin writes rule and wildcards."""
        lines = self.ask("squeue", "--noheader", "--states=RUNNING", "--format=%A %k").splitlines()
        return {line.split()[0] for line in lines if word in line}

    def preempt(self) -> None:
        """Run an urgent job on one core more than are free, so that Slurm stops a job of `cpu`; only one at a time."""
        lines = self.ask("squeue", "--noheader", "--format=%P %t").splitlines()
        running = lines.count("cpu R")
        if running and not any(line.startswith("urgent") for line in lines):
            cores = f"--cpus-per-task={self.cores - running + 1}"
            self.ask("sbatch", "--partition=urgent", cores, "--mem=100", "--output=/dev/null", "--wrap=sleep 3")

    def release_requeued(self) -> None:
        """Let requeued jobs start now: Slurm holds them back for two minutes."""
        for number in self.ask("squeue", "--noheader", "--states=PENDING", "--format=%A").split():
            subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], capture_output=True)

    def ended(self, *states: str) -> set[str]:
        """The numbers of the jobs that ended in one of these states."""
        log = self.folder / "jobcomp.txt"
        lines = log.read_text().splitlines() if log.exists() else []
        fields = [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]
        return {found["JobId"] for found in fields if found["JobState"] in states}


@contextmanager
def started(folder: Path, cores: int = 4) -> Iterator[Slurm]:
    """Yield a Slurm whose state lies in `folder`, and end its daemons and remove its configuration afterwards."""
    with ExitStack() as stack:
        stack.callback(CONFIGURATION.unlink, missing_ok=True)
        CONFIGURATION.parent.mkdir(exist_ok=True)
        CONFIGURATION.write_text(configuration(folder, cores))
        for path, mode in MUNGE_FOLDERS.items():
            path.mkdir(exist_ok=True)
            shutil.chown(path, "munge", "munge")
            path.chmod(mode)
        with_state = [folder / "state", folder / "spool"]
        for path in with_state:
            path.mkdir(parents=True)
        commands = (
            ("munge", "munged", "--foreground", "--force"),
            ("root", "slurmctld", "-D"),
            ("root", "slurmd", "-D"),
        )
        for user, *command in commands:
            log = stack.enter_context((folder / f"{command[0]}.out").open("w"))
            daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, user=user, group=user)
            stack.callback(daemon.wait, 30)
            stack.callback(daemon.terminate)
            time.sleep(1)
        _wait_for_node()
        stack.callback(subprocess.run, ["scancel", "--user=root", "--signal=KILL"])
        yield Slurm(folder, cores)


def _wait_for_node() -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while subprocess.run(["srun", "--mem=100", "true"], capture_output=True, timeout=STARTING_SECONDS).returncode:
        assert time.monotonic() < deadline, "no job runs on this Slurm"
        time.sleep(1)


def configuration(folder: Path, cores: int) -> str:
    host = socket.gethostname().partition(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
    return f"""{OURS}
ClusterName=adaptsr
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
MinJobAge=300
KillWait=10
Waittime=0
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=5 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes={host} PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""
