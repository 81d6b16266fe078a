"""Which container and which batch job a process belongs to, from the text of ``/proc/PID/cgroup``.

What is told has one of these forms:

==============================  =================================================================
``docker:3f2a9c0d1e2f``         a container, by its runtime's name for it and the first 12 digits of
                                its id: ``docker``, ``podman``, ``containerd``, ``crio``
``lxc:NAME``                    a system container of LXC, LXD or Incus
``kubernetes:pod-UID``          a pod; its UID is written with dashes, as in ``kubectl get pod -o yaml``
``slurm:123456``                a job of Slurm
``slurm:123456.0``              a step of it: a number, ``batch``, ``extern`` or ``interactive``
==============================  =================================================================

Version 1 has a line for each hierarchy, version 2 one line; all are of the form ``number:controllers:path``,
and all but a few of version 1 name the same place. Where containers lie within each other, the outermost is
told, for that is the one that the machine's own runtime knows; but a pod goes before its containers.

The text is not trusted: whoever owns a part of the tree names what lies under it. Only parts that are wholly
as expected count, so whatever else a name holds is never told.
"""

import re
from dataclasses import dataclass

TEXT_LIMIT = 16 * 1024
SHORT_ID = 12

RUNTIMES = {
    "docker": "docker",
    "libpod": "podman",
    "crio": "crio",
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
}
PARENTS = {"docker": "docker", "ecs": "docker", "libpod_parent": "podman", "k8s.io": "containerd"}
"""Under what a bare id is a container's: the version 1 form, in which nothing else tells the runtime."""

ID = re.compile(r"[0-9a-f]{64}")
PREFIXED_ID = re.compile(rf"({'|'.join(RUNTIMES)})-([0-9a-f]{{64}})(?:\.scope)?")
LXC = re.compile(r"lxc\.payload\.([A-Za-z0-9][A-Za-z0-9-]{0,62})")
# A static pod, which no API server has named, has a hash for its UID.
POD = re.compile(r"(?:[a-z-]{0,64}-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?")
SLURM = re.compile(r"slurm(?:_[A-Za-z0-9._-]{1,64})?|(?:[A-Za-z0-9._-]{1,64}_)?slurmstepd\.scope")
JOB = re.compile(r"job_([0-9]{1,12})")
STEP = re.compile(r"step_([0-9]{1,12}|batch|extern|interactive)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs, in the forms of the table above. Null: in no container, in no job, as far as told."""

    container: str | None = None
    job: str | None = None


def place(text: str) -> Place:
    """What the text of a process's ``cgroup`` file tells, whatever it is."""
    container = job = None
    for line in text[:TEXT_LIMIT].splitlines():
        path = line.split(":", 2)[-1].removesuffix(" (deleted)")
        # A runtime that was told of the wrong manager joins the parts by colons.
        parts = path.replace(":", "/").split("/")
        container = container or _container(parts)
        job = job or _job(parts)
    return Place(container, job)


def _container(parts: list[str]) -> str | None:
    found = None
    runtime = None  # of a bare id that may come
    is_kubernetes = False
    for part in parts:
        is_kubernetes = is_kubernetes or "kubepods" in part
        if is_kubernetes and (pod := POD.fullmatch(part)):
            return f"kubernetes:pod-{pod[1].replace('_', '-')}"
        runtime = PARENTS.get(part) or RUNTIMES.get(part) or runtime
        if found is not None:
            continue
        if prefixed := PREFIXED_ID.fullmatch(part):
            found = f"{RUNTIMES[prefixed[1]]}:{prefixed[2][:SHORT_ID]}"
        elif runtime is not None and ID.fullmatch(part):
            found = f"{runtime}:{part[:SHORT_ID]}"
        elif lxc := LXC.fullmatch(part):
            found = f"lxc:{lxc[1]}"
    return found


def _job(parts: list[str]) -> str | None:
    rest = iter(parts)
    if not any(SLURM.fullmatch(part) for part in rest):
        return None
    for part in rest:
        if job := JOB.fullmatch(part):
            step = STEP.fullmatch(next(rest, ""))
            return f"slurm:{job[1]}.{step[1]}" if step else f"slurm:{job[1]}"
    return None
