"""The recipes that others' tools read: images, compose and Kubernetes, each judged by a tool of its kind."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpumon import __version__
from tests.packages.roots import stdout_of

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "packaging/oci/Containerfile"
COMPOSE = ROOT / "examples/compose.yaml"
KUBERNETES = ROOT / "examples/kubernetes.yaml"
OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.28", "1.37"


def tool(name: str) -> Path:
    """A program of the environment that the tests run in."""
    return Path(sys.executable).with_name(name)


def objects() -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8")) if one]


def kind(name: str) -> dict[str, Any]:
    (found,) = (one for one in objects() if one["kind"] == name)
    return found


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = kind(name)["spec"]["template"]["spec"]
    return spec


def test_hadolint_finds_nothing_in_the_images() -> None:
    assert stdout_of(tool("hadolint"), "--failure-threshold", "style", CONTAINERFILE) == ""


def test_shell_scripts_are_read_by_the_shell() -> None:
    scripts = [path for path in (ROOT / "packaging").rglob("*") if path.is_file() and b"#!/bin/sh" in path.read_bytes()]
    assert len(scripts) >= 5
    for script in scripts:
        stdout_of("sh", "-n", script)


def test_the_image_takes_from_the_tree_what_it_needs_and_no_more(tmp_path: Path) -> None:
    """What the build's own packages would miss, it would miss there; what is ignored, cannot be in it."""
    wanted = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    named = [line.removeprefix("!") for line in wanted if line.startswith("!")]
    assert "*" in wanted
    for name in named:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    code = "import sys, hatchling.build as backend; backend.build_wheel(sys.argv[1])"
    stdout_of("env", "-C", tmp_path, sys.executable, "-c", code, tmp_path / "out")
    assert list((tmp_path / "out").glob("*.whl"))


def test_compose_is_as_its_specification_says() -> None:
    said = stdout_of(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert "ok" in said


def test_compose_runs_both_without_rights() -> None:
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    assert set(services) == {"hub", "agent"}
    for name, service in services.items():
        assert service["build"]["target"] == name
        assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert not service.get("privileged")


def test_compose_asks_for_gpus_as_docker_and_podman_compose_understand_it() -> None:
    """podman-compose passes over what does not say ``gpu``; the other word is what docker brings in."""
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    (device,) = services["agent"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu", "utility"]}
    assert "deploy" not in services["hub"]


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
def test_kubernetes_takes_every_object(version: str) -> None:
    said = stdout_of(tool("kubernetes-validate"), "--strict", "--kubernetes-version", version, KUBERNETES)
    assert said.count(" passed for resource ") == len(objects())


def test_a_broken_driver_restarts_no_agent() -> None:
    """``/health`` of an agent is 503 then, which is to be seen, and no new container mends it."""
    (agent,) = pod("DaemonSet")["containers"]
    probes = [value["httpGet"]["path"] for key, value in agent.items() if key.endswith("Probe")]
    assert set(probes) == {"/gpu-info"}
    assert "readinessProbe" not in agent
    (hub,) = pod("Deployment")["containers"]
    assert {hub[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")} == {"/health"}


def test_pods_have_no_rights_and_the_agent_sees_the_machines_processes() -> None:
    assert pod("DaemonSet")["hostPID"]
    for name in ("DaemonSet", "Deployment"):
        assert pod(name)["automountServiceAccountToken"] is False
        for container in pod(name)["containers"]:
            walls = container["securityContext"]
            assert walls["capabilities"] == {"drop": ["ALL"]}
            assert walls["readOnlyRootFilesystem"]
            assert walls["allowPrivilegeEscalation"] is False
            assert (
                "nvidia.com/gpu" not in container["resources"]["limits"]
            )  # it would take a GPU from those who compute
            written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert written == {"/var/lib/gpumon", "/tmp"}
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod(name)["volumes"]}


def test_the_agents_find_the_hub_by_its_service() -> None:
    (agent,) = pod("DaemonSet")["containers"]
    hub = next(one["value"] for one in agent["env"] if one["name"] == "GPUMON_AGENT_HUB")
    service = kind("Service")
    assert hub == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    labels = kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (ports,) = (one["ports"] for one in pod("Deployment")["containers"])
    assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in ports}


def test_the_images_are_those_of_this_version() -> None:
    named = re.findall(r"image: \S+/gpumon-(?:agent|hub):(\S+)", KUBERNETES.read_text(encoding="utf-8"))
    assert named == [__version__, __version__]
