"""Which package answers to ``import pynvml``, found out without importing it.

NVIDIA's binding is the distribution ``nvidia-ml-py``, a single file ``pynvml.py``. Others of similar names
shadow it with an old copy, or are empty shells around it that warn at every start of an interpreter.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distributions
from pathlib import Path

from gpumon.errors import BindingError

BINDING = "nvidia-ml-py"


def check_binding(path: Sequence[str] | None = None) -> None:
    """Raise :class:`~gpumon.errors.BindingError` unless ``import pynvml`` gives NVIDIA's own binding.

    ``path`` is where modules are looked for, ``sys.path`` by default.
    """
    folders = list(sys.path if path is None else path)
    installed = {_normal(found.name): found for found in distributions(path=folders)}
    if "nvidia-ml-py3" in installed:
        raise BindingError(_replace("nvidia-ml-py3", installed["nvidia-ml-py3"], "an abandoned fork"))
    shell = installed.get("pynvml")
    if shell is not None and not shell.version.startswith("12."):  # 12 is a shell that does no harm
        raise BindingError(_replace("pynvml", shell, "deprecated, and in the way of NVIDIA's own binding"))
    found = PathFinder.find_spec("pynvml", folders)
    binding = installed.get(BINDING)
    if found is None or found.origin is None or binding is None:
        what = "is not installed" if found is None else f"is missing, yet {found.origin} answers to 'import pynvml'"
        raise BindingError(f"{BINDING} (NVIDIA's Python binding) {what}: pip install {BINDING}")
    if Path(found.origin).resolve() != Path(str(binding.locate_file("pynvml.py"))).resolve():
        raise BindingError(
            f"'import pynvml' gives {found.origin}, which is not from {BINDING} {binding.version}: "
            f"remove it, then pip install --force-reinstall {BINDING}"
        )


def _replace(name: str, found: Distribution, why: str) -> str:
    return (
        f"the package {name} {found.version} is installed, {why}: "
        f"pip uninstall -y {name} && pip install --force-reinstall {BINDING}"
    )


def _normal(name: str | None) -> str:
    return (name or "").lower().replace("_", "-").replace(".", "-")
