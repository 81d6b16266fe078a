"""Containers and jobs from the forms that runtimes and schedulers are known to write."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpumon.agent.cgroup import TEXT_LIMIT, Place, place

A = "3f2a9c0d1e2f" + "0123456789abcdef" * 3 + "dead"
B = "b" * 64
UID = "7f9c2a10-5d4e-4c3b-9a8f-0123456789ab"
UID_ = UID.replace("-", "_")
STATIC = "5c0f8a3b2d1e4f60718293a4b5c6d7e8"
POD = f"kubernetes:pod-{UID}"

CONTAINERS = {
    # no container
    "0::/": None,
    "0::/init.scope": None,
    "0::/user.slice/user-1000.slice/session-3.scope": None,
    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope": None,
    "0::/system.slice/docker.service": None,
    "0::/system.slice/containerd.service": None,
    "1:name=systemd:/": None,
    # Docker
    f"0::/system.slice/docker-{A}.scope": "docker:3f2a9c0d1e2f",
    f"0::/docker/{A}": "docker:3f2a9c0d1e2f",
    f"12:devices:/docker/{A}": "docker:3f2a9c0d1e2f",
    f"1:name=systemd:/system.slice/docker-{A}.scope": "docker:3f2a9c0d1e2f",
    f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope": "docker:3f2a9c0d1e2f",
    f"0::/../docker-{A}.scope": "docker:3f2a9c0d1e2f",
    f"0::/system.slice/docker-{A}.scope/init": "docker:3f2a9c0d1e2f",
    f"0::/docker/{A}/docker/{B}": "docker:3f2a9c0d1e2f",
    f"0::/lab.slice/docker-{A}.scope (deleted)": "docker:3f2a9c0d1e2f",
    f"9:memory:/ecs/0f1e2d3c/{A}": "docker:3f2a9c0d1e2f",
    # Podman
    f"0::/machine.slice/libpod-{A}.scope/container": "podman:3f2a9c0d1e2f",
    f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope": "podman:3f2a9c0d1e2f",
    f"0::/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope/container": "podman:3f2a9c0d1e2f",
    f"9:memory:/libpod_parent/libpod-{A}": "podman:3f2a9c0d1e2f",
    f"0::/machine.slice/libpod-conmon-{A}.scope": None,
    # containerd and CRI-O by themselves
    f"0::/system.slice/nerdctl-{A}.scope": "containerd:3f2a9c0d1e2f",
    f"0::/k8s.io/{A}": "containerd:3f2a9c0d1e2f",
    f"0::/machine.slice/crio-{A}.scope": "crio:3f2a9c0d1e2f",
    f"0::/machine.slice/crio-conmon-{A}.scope": None,
    # LXC, LXD, Incus
    "0::/lxc.payload.train-box/system.slice/ssh.service": "lxc:train-box",
    # Kubernetes
    f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-{A}.scope": POD,
    f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/crio-{A}.scope": POD,
    f"0::/kubepods.slice/kubepods-pod{UID_}.slice/docker-{A}.scope": POD,
    f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/crio-{A}.scope": (
        f"kubernetes:pod-{STATIC}"
    ),
    f"11:cpu,cpuacct:/kubepods/burstable/pod{UID}/{A}": POD,
    f"11:cpu,cpuacct:/kubepods/pod{UID}/{A}": POD,
    f"11:cpu,cpuacct:/kubepods/besteffort/pod{UID}/crio-{A}": POD,
    f"3:devices:/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{A}": POD,
    f"0::/../../kubepods-burstable-pod{UID_}.slice/cri-containerd-{A}.scope": POD,
    f"0::/docker/{B}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{A}.scope": (
        POD
    ),
    # almost
    f"0::/docker/{A[:-1]}": None,
    f"0::/docker/{A.upper()}": None,
    f"0::/somewhere/{A}": None,
    f"0::/system.slice/pod{UID}.slice": None,
    f"0::/system.slice/docker-{A}x.scope": None,
    "0::/lxc.payload.<script>/x": None,
}

JOBS = {
    "0::/system.slice/slurmstepd.scope/job_123456/step_0/user/task_3": "slurm:123456.0",
    "0::/system.slice/slurmstepd.scope/job_123456/step_batch/user/task_special": "slurm:123456.batch",
    "0::/system.slice/slurmstepd.scope/job_123456/step_extern/user/task_special": "slurm:123456.extern",
    "0::/system.slice/slurmstepd.scope/job_123456/step_interactive/user/task_0": "slurm:123456.interactive",
    "0::/system.slice/slurmstepd.scope/job_123456": "slurm:123456",
    "0::/system.slice/gpu-node-7_slurmstepd.scope/job_9/step_1/user/task_0": "slurm:9.1",
    "8:memory:/slurm/uid_1000/job_123456/step_0/task_0": "slurm:123456.0",
    "8:memory:/slurm/uid_1000/job_123456/step_batch": "slurm:123456.batch",
    "8:memory:/slurm_node7/uid_1000/job_123456/step_2": "slurm:123456.2",
    "0::/system.slice/slurmd.service": None,
    "0::/system.slice/slurmstepd.scope/system": None,
    "0::/user.slice/job_7/step_0": None,
    "0::/user.slice/slurmish/job_7/step_0": None,
    "0::/system.slice/slurmstepd.scope/job_7x/step_0": None,
    "0::/system.slice/slurmstepd.scope/job_1234567890123/step_0": None,
}


@pytest.mark.parametrize(("line", "container"), CONTAINERS.items())
def test_a_container_is_known_by_its_line(line: str, container: str | None) -> None:
    assert place(line + "\n") == Place(container)


@pytest.mark.parametrize(("line", "job"), JOBS.items())
def test_a_job_is_known_by_its_line(line: str, job: str | None) -> None:
    assert place(line) == Place(None, job)


def test_a_container_within_a_job_is_both() -> None:
    line = f"0::/system.slice/slurmstepd.scope/job_7/step_0/user/libpod-{A}.scope/container"
    assert place(line) == Place("podman:3f2a9c0d1e2f", "slurm:7.0")


def test_of_many_hierarchies_any_may_tell() -> None:
    lines = [
        "11:hugetlb:/",
        "8:memory:/slurm/uid_1000/job_5/step_0",
        f"4:devices:/docker/{A}",
        "1:name=systemd:/user.slice/user-1000.slice/session-3.scope",
        "0::/user.slice/user-1000.slice/session-3.scope",
    ]
    assert place("\n".join(lines)) == Place("docker:3f2a9c0d1e2f", "slurm:5.0")


PIECES = [
    "/",
    ":",
    "\n",
    "_",
    "-",
    ".scope",
    ".slice",
    " (deleted)",
    "docker",
    "kubepods",
    "pod",
    "slurm",
    "slurmstepd",
]
ODD_PIECES = ["job_", "step_", "7", A, UID, UID_, "lxc.payload.", "libpod_parent", "..", "\x00", "\u202e", "名"]
pieces = st.sampled_from([*PIECES, *ODD_PIECES])


@given(st.text() | st.lists(pieces, max_size=60).map("".join))
@example("slurm" + "_" * 3 * TEXT_LIMIT)
@example("0::/kubepods/" + "a-" * TEXT_LIMIT + "pod")
@example("0::/" + "slurm/job_/" * TEXT_LIMIT)
def test_no_text_breaks_it_and_nothing_else_of_it_is_told(text: str) -> None:
    found = place(text)
    container, job = found.container or "", found.job or ""
    assert (container + job).isascii()
    assert (container + job).isprintable()
    assert len(container) <= 70
    assert len(job) <= 40
    for word in (container, job):
        kind, colon, name = word.partition(":")
        assert kind in ("", "docker", "podman", "containerd", "crio", "lxc", "kubernetes", "slurm")
        assert bool(kind) == bool(colon) == bool(name)


def test_what_lies_behind_the_limit_is_not_looked_at() -> None:
    padding = "1:x:/\n" * (TEXT_LIMIT // 6 + 1)
    assert place(f"{padding}0::/docker/{A}") == Place()
