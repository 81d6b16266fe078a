"""The images, compose and the Kubernetes pods, built and run by podman: GPUs, page, health, rights, a clean stop.

    python -m tests.long.containers                          5 minutes

What stands in for what is not to be had without a registry, a GPU and a cluster:

- the base image is a Debian with the same Python (mmdebstrap), under the base image's name;
- the driver is the fake one, brought in by the name that NVIDIA's container toolkit uses (CDI: nvidia.com/gpu=all);
- ``podman kube play`` takes the place of a cluster. It knows no DaemonSet, no node names and no hostPID, so the two pod
  templates run as pods, the agent is given its node's name and the driver as files, and probes their ports by number.

It needs root, mmdebstrap, podman (with runc, netavark and aardvark-dns) and the network. Containers, images and volumes
lie in a store of their own, and their network is a namespace; only ``/run/cdi`` is the machine's.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tarfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests import fakenvml
from tests.long.harness import ROOT, Run, script, wait_for

BASE = "docker.io/library/python:3.13-slim-bookworm"
SUITE = "trixie"
"""The Debian that has this Python."""
CONTAINERFILE, COMPOSE, KUBERNETES = "packaging/oci/Containerfile", "examples/compose.yaml", "examples/kubernetes.yaml"
CDI = Path("/run/cdi/gpumon-test.json")
IN_CONTAINER = {"libnvidia-ml.so.1": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "scenario": "/run/scenario"}
SCENARIO = ("FAKE_NVML_SCENARIO", IN_CONTAINER["scenario"])
IDENTITY = "65532:65532"
TOKEN = "/var/lib/gpumon/join-token"
STOP_SECONDS = 5.0
Object = dict[str, Any]


class Podman:
    """podman with a store and a network of its own."""

    def __init__(self, run: Run) -> None:
        self.run = run
        store, settings = run.folder / "storage.conf", run.folder / "containers.conf"
        store.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{run.folder}/store"\nrunroot = "{run.folder}/running"\n'
        )
        # podman asks for more than a machine may allow that is itself a guest.
        limits = '["nofile=1024:1024", "nproc=4096:4096"]'
        runtime = 'runtime = "runc"\n' if shutil.which("runc") else ""
        settings.write_text(
            f"[containers]\ndefault_ulimits = {limits}\n"
            f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n{runtime}'
            f'[network]\nnetwork_config_dir = "{run.folder}/networks"\n'
        )
        self.environment = {"CONTAINERS_STORAGE_CONF": str(store), "CONTAINERS_CONF": str(settings)}
        network = run.start("unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep infinity")
        here, there = Path("/proc/self/ns/net"), Path(f"/proc/{network.pid}/ns/net")
        wait_for(lambda: there.readlink() != here.readlink(), "a network of its own")
        self.apart = ["nsenter", f"--net={there}"]

    def tried(self, *command: str | Path, apart: bool = True) -> "subprocess.CompletedProcess[str]":
        """A program's end; ``apart`` it runs in the containers' network, otherwise in the machine's."""
        return subprocess.run(
            [*(self.apart if apart else []), *map(str, command)],
            cwd=ROOT,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def __call__(self, *words: str | Path, apart: bool = True) -> str:
        """What podman says. Raises :class:`RuntimeError`: it failed."""
        done = self.tried("podman", *words, apart=apart)
        if done.returncode:
            raise RuntimeError(f"podman {' '.join(map(str, words))}: {done.stderr[-2000:]}")
        return done.stdout.strip()

    def answers(self, container: str, path: str) -> str:
        """What the hub there answers, asked from inside; nothing where it does not."""
        code = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080{path}', timeout=5).read().decode())"
        return self.tried("podman", "exec", container, "/opt/gpumon/bin/python", "-c", code).stdout

    def nodes(self, container: str) -> list[Object]:
        """The nodes of the hub there."""
        nodes: list[Object] = json.loads(self.answers(container, "/api/nodes") or "[]")
        return nodes

    def succeeds(self, *words: str) -> bool:
        return self.tried("podman", *words).returncode == 0

    def remove_all(self) -> None:
        for command in (("pod", "rm", "-fa"), ("rm", "-fa"), ("volume", "rm", "-fa"), ("rmi", "-fa")):
            self.tried("podman", *command)


def base_image(podman: Podman) -> None:
    """A Debian with Python under the name of the base image, that reaches what this machine reaches."""
    folder = podman.run.folder / "base"
    packages = "--include=ca-certificates,python3,python3-venv"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", packages, SUITE, folder], check=True)
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    certificates = Path("etc/ssl/certs/ca-certificates.crt")
    shutil.copy(Path("/") / certificates, folder / certificates)
    archive = podman.run.folder / "base.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=".")
    told = {name: value for name, value in os.environ.items() if name in ("PIP_CERT", "NODE_EXTRA_CA_CERTS")}
    variables = [f"--change=ENV {name}={value}" for name, value in told.items()]
    podman("import", *variables, archive, BASE)
    shutil.rmtree(folder)
    archive.unlink()


def build(podman: Podman, target: str) -> None:
    podman(
        *("build", "--format=docker", "--pull=never", "--network=host"),
        *(f"--file={CONTAINERFILE}", f"--target={target}", f"--tag=gpumon-{target}", "."),
        apart=False,
    )


def driver(run: Run) -> dict[str, Path]:
    """The fake driver as files, by their names."""
    environment = fakenvml.environment(run.folder / "scenario")
    library = run.folder / fakenvml.LIBRARY
    shutil.copy(Path(environment["LD_LIBRARY_PATH"].split(os.pathsep)[0], fakenvml.LIBRARY), library)
    fakenvml.datacentre(gpus=2).write(run.folder / "scenario")
    run.folder.chmod(0o755)
    found = {"libnvidia-ml.so.1": library, "scenario": run.folder / "scenario"}
    for file in found.values():
        file.chmod(0o755)
    return found


def offer_gpus(files: dict[str, Path]) -> None:
    """What NVIDIA's container toolkit writes when it is installed: what comes in with the name of the GPUs."""
    mounts = [
        {"hostPath": str(file), "containerPath": IN_CONTAINER[name], "options": ["ro", "nosuid", "nodev", "bind"]}
        for name, file in files.items()
    ]
    edits = {"env": ["=".join(SCENARIO)], "mounts": mounts}
    CDI.parent.mkdir(exist_ok=True)
    device = {"name": "all", "containerEdits": edits}
    CDI.write_text(json.dumps({"cdiVersion": "0.3.0", "kind": "nvidia.com/gpu", "devices": [device]}))


def sees_gpus(nodes: list[Object]) -> bool:
    """Whether there is one node, online, whose two GPUs are read."""
    reports = [node["report"] for node in nodes if node["status"] == "online"]
    return len(nodes) == 1 and [report["status"] for report in reports] == ["ok"] and len(reports[0]["gpus"]) == 2


def judge(podman: Podman, container: str, user: str) -> None:
    """Claims about a container that runs: whose it is, and what it may do."""
    status = Path(f"/proc/{podman('inspect', '--format={{.State.Pid}}', container)}/status").read_text()
    told = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    who = f"{told['Uid'].split()[0]}:{told['Gid'].split()[0]}"
    podman.run.claim(who == user, f"{container} runs as {user}", who)
    rights = {name: int(told[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")}
    podman.run.claim(not any(rights.values()), f"{container} has no capability", rights)
    podman.run.claim(told["NoNewPrivs"].strip() == "1", f"{container} gets no more rights")
    podman.run.claim(not podman.succeeds("exec", container, "touch", "/here"), f"{container} has a read-only root")
    limit = podman("inspect", "--format={{.HostConfig.Memory}}", container)
    podman.run.claim(int(limit) > 0, f"{container} has bounded memory", f"{int(limit) >> 20} MiB")


def stop(podman: Podman, container: str) -> None:
    podman.run.within(STOP_SECONDS, f"{container} stops", lambda: podman("stop", "--time=30", container))
    code = podman("inspect", "--format={{.State.ExitCode}}", container)
    podman.run.claim(code == "0", f"{container} ends well", f"status {code}")


def compose(podman: Podman, program: str) -> None:
    """``examples/compose.yaml`` as it stands."""
    run = podman.run
    hub, agent = "gpumon_hub_1", "gpumon_agent_1"
    done = podman.tried(program, "--file", COMPOSE, "up", "--detach")
    run.claim(done.returncode == 0, "compose starts both", done.stderr[-500:] if done.returncode else "")
    run.within(30, "compose: the hub shows the agent's two GPUs", lambda: sees_gpus(podman.nodes(hub)))
    (gpu, *_) = podman.nodes(hub)[0]["report"]["gpus"]
    known = [process["name"] for process in gpu["processes"]]
    run.claim(known and all(known), "compose: the machine's processes have names", known)
    page = podman.answers(hub, "/")
    run.claim("<script" in page, "compose: the page is there", f"{len(page)} characters")
    for name in (hub, agent):
        judge(podman, name, IDENTITY)
        run.within(30, f"{name} is healthy", partial(podman.succeeds, "healthcheck", "run", name))
    first = podman.nodes(hub)[0]["agent_id"]
    for name in (agent, hub):
        stop(podman, name)
    podman.tried(program, "--file", COMPOSE, "down")
    podman.tried(program, "--file", COMPOSE, "up", "--detach")
    run.within(30, "compose: new containers show the GPUs again", lambda: sees_gpus(podman.nodes(hub)))
    run.claim(podman.nodes(hub)[0]["agent_id"] == first, "compose: a new container is the same agent")
    podman.tried(program, "--file", COMPOSE, "down", "--volumes")


def pod(objects: list[Object], kind: str) -> Object:
    """The pod of a Deployment or a DaemonSet."""
    (found,) = (one for one in objects if one["kind"] == kind)
    template: Object = found["spec"]["template"]
    (container,) = template["spec"]["containers"]
    for name, probe in container.items():
        if name.endswith("Probe"):
            probe["httpGet"]["port"] = container["ports"][0]["containerPort"]
    name = found["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
    }


def on_node(agent: Object, state: Path, files: dict[str, Path]) -> Object:
    """The agent's pod with what a cluster would give it: its node's name, folder and driver."""
    (container,), volumes = agent["spec"]["containers"], agent["spec"]["volumes"]
    variables = container["env"]
    for one in variables:
        if one["name"] == "GPUMON_AGENT_NAME":
            assert one.pop("valueFrom")["fieldRef"]["fieldPath"] == "spec.nodeName"
            one["value"] = "node-1"
    variables.append(dict(zip(("name", "value"), SCENARIO, strict=True)))
    for volume in volumes:
        if volume["name"] == "state":
            volume["hostPath"]["path"] = str(state)
    for place, (name, file) in enumerate(files.items()):
        container["volumeMounts"].append({"name": f"driver{place}", "mountPath": IN_CONTAINER[name], "readOnly": True})
        volumes.append({"name": f"driver{place}", "hostPath": {"path": str(file), "type": "File"}})
    return agent


def kubernetes(podman: Podman, files: dict[str, Path]) -> None:
    """The pods of ``examples/kubernetes.yaml``, in the order that its head tells."""
    run, hub, agent = podman.run, "gpumon-hub-hub", "gpumon-agent-agent"
    objects = [one for one in yaml.safe_load_all((ROOT / KUBERNETES).read_text()) if one]
    pods = {"hub": pod(objects, "Deployment"), "agent": pod(objects, "DaemonSet")}
    for name, one in pods.items():
        podman("tag", f"gpumon-{name}", one["spec"]["containers"][0]["image"])
    (claim,) = (one for one in objects if one["kind"] == "PersistentVolumeClaim")
    state = run.folder / "state"
    state.mkdir()
    play = run.folder / "hub.yaml"
    play.write_text(yaml.safe_dump_all([claim, pods["hub"]]))
    podman("network", "create", "cluster")
    podman("kube", "play", "--network=cluster", play)
    run.within(30, "pod: the hub answers", partial(podman.succeeds, "exec", hub, "test", "-s", TOKEN))
    token = base64.b64encode(podman("exec", hub, "cat", TOKEN).encode()).decode()
    secret = run.folder / "secret"
    secret.write_text(json.dumps({"token": token}))
    podman("secret", "create", "gpumon-join", secret)
    play = run.folder / "agent.yaml"
    play.write_text(yaml.safe_dump(on_node(pods["agent"], state, files)))
    podman("kube", "play", "--network=cluster", play)
    run.within(30, "pod: the agent joins by the secret and the service's name", lambda: sees_gpus(podman.nodes(hub)))
    run.claim(podman.nodes(hub)[0]["name"] == "node-1", "pod: it is called by its node's name")
    run.claim(any(state.iterdir()), "pod: who it is stays on its node", [file.name for file in state.iterdir()])
    judge(podman, hub, IDENTITY)
    judge(podman, agent, "0:0")
    for name in (agent, hub):
        stop(podman, name)


def compose_program(run: Run) -> str:
    """podman-compose, installed for this run where there is none."""
    if (found := shutil.which("podman-compose")) is not None:
        return found
    environment = run.folder / "compose"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([environment / "bin/pip", "install", "--quiet", "podman-compose"], check=True)
    return str(environment / "bin/podman-compose")


def main(run: Run, _: argparse.Namespace) -> None:
    if CDI.parent.exists() and any(CDI.parent.iterdir()):
        sys.exit(f"{CDI.parent} has files already: this machine offers its own GPUs, which are not to be mixed up")
    podman = Podman(run)
    try:
        run.say("making the base image")
        base_image(podman)
        for target in ("agent", "hub"):
            build(podman, target)
            run.claim(holds=True, claim=f"the image of the {target} is built")
        files = driver(run)
        offer_gpus(files)
        compose(podman, compose_program(run))
        kubernetes(podman, files)
    finally:
        CDI.unlink(missing_ok=True)
        with suppress(OSError):
            CDI.parent.rmdir()
        podman.remove_all()


if __name__ == "__main__":
    script(main)
