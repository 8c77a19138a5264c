"""A real Slurm on this machine, for as long as a test session lasts: munged, slurmctld, two slurmd, and fake GPUs."""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REQUIRED = "BENCHMARK_CI" in os.environ  # a Slurm that can be had is no reason to skip there
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
GPUS = 2
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={controller}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,requeue_delay=1,bf_interval=1
JobRequeue=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=20
MinJobAge=5
ReturnToService=2
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs={cpus} RealMemory=1000 \\
    Gres=gpu:{gpus} State=UNKNOWN
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP GraceTime=60 PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
PartitionName=pair Nodes={host},localhost MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=OFF
"""


def submitit():
    """The package; without it a test is skipped."""
    if not REQUIRED:
        return pytest.importorskip("submitit")
    import submitit

    return submitit


def lacking() -> str:
    """Why no Slurm can be started here; "" where one can."""
    if absent := [name for name in PROGRAMS if not _program(name)]:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "starting one needs root"


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a Slurm in `folder`; yields the environment in which its commands work.

    Its nodes are names of this machine, to which both resolve: one with GPUS fake GPUs, of the partitions main and
    urgent, whose jobs preempt those of main after a period of grace, and "localhost", of the partition pair of both.

    Raises:
        OSError: the kernel refuses to make a device file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(GPUS):
        os.mknod(folder / f"gpu{i}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # as /dev/null
    host = socket.gethostname().partition(".")[0]
    cpus = os.cpu_count()
    ports = dict(zip(("controller", "first", "second"), _free_ports(3)))
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, cpus=cpus, gpus=GPUS, **ports))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    for name in ("state", f"spool-{host}", "spool-localhost"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(conf)}
    munge = ["--key-file", key, "--socket", folder / "munge.socket", "--pid-file", folder / "munge.pid"]
    munge += ["--log-file", folder / "munge.log", "--seed-file", folder / "munge.seed", "--num-threads", "2"]
    daemons = []
    try:
        daemons.append(subprocess.Popen([_program("munged"), "--foreground", "--force", *map(str, munge)]))
        _wait(lambda: (folder / "munge.socket").exists(), daemons, folder)
        for name, *words in (["slurmctld"], ["slurmd", "-N", host], ["slurmd", "-N", "localhost"]):
            line = [_program(name), "-D", "-f", str(conf), *words]
            output = (folder / f"{'-'.join([name, *words[1:]])}.out").open("w")
            daemons.append(subprocess.Popen(line, env=environment, stdout=output, stderr=output))
        _wait(lambda: _state(environment) == "idle", daemons, folder)
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()


def _state(environment) -> str:
    line = ["sinfo", "-h", "-o", "%t"]
    return subprocess.run(line, env=environment, capture_output=True, text=True).stdout.strip()


def _wait(ready, daemons: list, folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end or any(daemon.poll() is not None for daemon in daemons):
            logs = "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in folder.glob("*.log"))
            raise RuntimeError(f"Slurm does not start:\n{logs}")
        time.sleep(0.1)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
