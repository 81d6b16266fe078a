"""Values by number: one call of the driver fetches many, and each has a return code of its own.

The call succeeds as a whole also where values in it failed, and what stands in the place of these is
undefined. So a value counts only with its own code, and as the type that it says it is of.
"""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import ctypes
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import pynvml as nvml

from gpumon.agent.calls import SUCCESS
from gpumon.agent.device import Device, UnavailableError, returned

FieldId = tuple[int, int]
"""The number of a value, and its scope: which link, or which part of the board."""

FAST: Final[tuple[FieldId, ...]] = tuple(
    (number, 0)
    for number in (
        nvml.NVML_FI_DEV_MEMORY_TEMP,
        nvml.NVML_FI_DEV_POWER_AVERAGE,
        nvml.NVML_FI_DEV_POWER_INSTANT,
        nvml.NVML_FI_DEV_POWER_CURRENT_LIMIT,
        nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
    )
)
SLOW: Final[tuple[FieldId, ...]] = tuple(
    (number, 0)
    for number in (
        nvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL,
        nvml.NVML_FI_DEV_ECC_DBE_VOL_TOTAL,
        nvml.NVML_FI_DEV_ECC_SBE_AGG_TOTAL,
        nvml.NVML_FI_DEV_ECC_DBE_AGG_TOTAL,
        nvml.NVML_FI_DEV_REMAPPED_COR,
        nvml.NVML_FI_DEV_REMAPPED_UNC,
        nvml.NVML_FI_DEV_REMAPPED_PENDING,
        nvml.NVML_FI_DEV_REMAPPED_FAILURE,
        nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
        nvml.NVML_FI_DEV_NVLINK_LINK_COUNT,
    )
)
MAX_LINKS = 36

# id, scope, timestamp, latency, type, code, value
ENTRY: Final = struct.Struct("=IIqqII8s")
TYPES: Final = {kind: struct.Struct(f"={form}") for kind, form in enumerate(("d", "I", "Q", "Q", "q", "i", "H"))}


@lru_cache(maxsize=64)
def link_states(links: int) -> tuple[FieldId, ...]:
    return tuple((nvml.NVML_FI_DEV_NVLINK_GET_STATE, link) for link in range(min(links, MAX_LINKS)))


@lru_cache(maxsize=64)
def room(ids: tuple[FieldId, ...]) -> Any:
    """Where the driver writes the values of ``ids``: one place, used again and again."""
    entries = (nvml.c_nvmlFieldValue_t * len(ids))()
    for entry, (number, scope) in zip(entries, ids, strict=True):
        entry.fieldId, entry.scopeId = number, scope
    return entries


def nvmlDeviceGetFieldValues(handle: Any, ids: tuple[FieldId, ...]) -> dict[FieldId, Any]:  # noqa: N802 - it is told by its name
    """What each of ``ids`` is, or the :class:`UnavailableError` that says why it is not."""
    entries = room(ids)
    code = nvml.nvmlLib.nvmlDeviceGetFieldValues(handle, len(ids), ctypes.byref(entries))
    if code != SUCCESS:
        raise nvml.NVMLError(code)
    values: dict[FieldId, Any] = {}
    for number, scope, _, _, kind, code, value in ENTRY.iter_unpack(entries):
        if code == SUCCESS and kind in TYPES:
            (values[number, scope],) = TYPES[kind].unpack_from(value)
        else:
            values[number, scope] = returned(code or None)
    return values


def fetch(device: Device) -> dict[FieldId, Any]:
    """All that this pass wants of this GPU, in one call."""
    return _fetch(device, every_number(device.links or 0) if device.full else FAST)


@lru_cache(maxsize=64)
def every_number(links: int) -> tuple[FieldId, ...]:
    return FAST + SLOW + link_states(links)


def _fetch(device: Device, wanted: tuple[FieldId, ...]) -> dict[FieldId, Any]:
    ids = device.wanted.get(wanted)
    if ids is None:
        ids = device.wanted[wanted] = tuple(one for one in wanted if not device.refuses(one))
    if not ids:
        return {}
    values: dict[FieldId, Any] = device.ask(nvmlDeviceGetFieldValues, ids)
    for one, value in values.items():
        if type(value) is UnavailableError and value.reason == "unsupported":
            device.refuse(one)
    return values


def field(device: Device, number: int, scope: int = 0, fetched: Callable[[Device], Any] = fetch) -> Any:
    """One value by its number. Raises :class:`UnavailableError`."""
    value = device.once(fetched).get((number, scope))
    if value is None:
        raise UnavailableError("unsupported")
    if type(value) is UnavailableError:
        raise UnavailableError(value.reason, value.code)
    return value


def field_or(device: Device, number: int, otherwise: Callable[[Device], Any]) -> Any:
    """One value by its number, or by the function that drivers had before that number."""
    try:
        return field(device, number)
    except UnavailableError as refusal:
        if refusal.reason != "unsupported":
            raise
    return otherwise(device)


def nvlink_count(device: Device) -> int:
    device.links = int(field_or(device, nvml.NVML_FI_DEV_NVLINK_LINK_COUNT, _links_that_answer))
    return device.links


def _links_that_answer(device: Device) -> int:
    """Links are numbered from 0; a link that is not there is an invalid argument."""
    device.ask(nvml.nvmlDeviceGetNvLinkState, 0)
    for link in range(1, MAX_LINKS):
        try:
            device.ask(nvml.nvmlDeviceGetNvLinkState, link)
        except UnavailableError:
            return link
    return MAX_LINKS


def nvlink_active_count(device: Device) -> int:
    links = nvlink_count(device)
    known = device.once(fetch_or_nothing)
    states = [known.get(one) for one in link_states(links)]
    if set(map(type, states)) <= {int}:
        return states.count(nvml.NVML_FEATURE_ENABLED)
    return sum(link_is_active(device, link) for link in range(links))


def fetch_or_nothing(device: Device) -> dict[FieldId, Any]:
    try:
        values: dict[FieldId, Any] = device.once(fetch)
    except UnavailableError:
        return {}
    return values


def link_is_active(device: Device, link: int) -> bool:
    one = (nvml.NVML_FI_DEV_NVLINK_GET_STATE, link)
    try:
        is_fetched = one in device.once(fetch) or device.refuses(one)
        value = field(device, *one, fetched=fetch if is_fetched else fetch_links)
    except UnavailableError as refusal:
        if refusal.reason != "unsupported":
            raise
        value = device.ask(nvml.nvmlDeviceGetNvLinkState, link)
    return bool(value == nvml.NVML_FEATURE_ENABLED)


def fetch_links(device: Device) -> dict[FieldId, Any]:
    """In the one pass in which the number of links was not known before."""
    return _fetch(device, link_states(device.links or 0))
