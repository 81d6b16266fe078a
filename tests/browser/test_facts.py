"""Every fact that a GPU, its processes and its node have: told beside the others, and why where there is none."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open, becomes, fits
from tests.browser.fakehub import FakeHub, Json, ago, gpu, node, process

GIB = 2**30
HOST = {
    "cpu_count": 64,
    "cpu_utilization_percent": 12.4,
    "load_average_1m": 3.25,
    "memory_total_bytes": 512 * GIB,
    "memory_available_bytes": 384 * GIB,
    "swap_total_bytes": 8 * GIB,
    "swap_used_bytes": GIB,
    "disk_total_bytes": 900 * GIB,
    "disk_free_bytes": 120 * GIB,
    "uptime_seconds": 3 * 86_400 + 4 * 3_600,
}


OUTSIDE = """[...document.querySelectorAll(".node *")].filter((one) =>
  one.checkVisibility() && !one.closest(".uplot, svg")
  && one.getBoundingClientRect().right > one.closest(".node").getBoundingClientRect().right
).map((one) => one.className)"""


def with_host(told: Json) -> Json:
    told["report"]["host"] = HOST
    return told


def row(page: Page, index: int = 0) -> Locator:
    return page.locator(f'[data-gpu="GPU-{index}"]')


def field(page: Page, name: str, index: int = 0) -> Locator:
    return row(page, index).locator(f'[data-field="{name}"]').first


def test_a_gpu_tells_its_fan_its_power_against_the_limit_and_what_slows_it_down(hub: FakeHub, open_page: Open) -> None:
    slowed = ["sw_thermal_slowdown", "hw_thermal_slowdown", "hw_slowdown"]
    xid = {"code": 63, "meaning": "A row was retired.", "gravity": "critical", "count": 2, "last_at": ago(3600)}
    trifle = {"code": 43, "meaning": "A program failed.", "gravity": "info", "count": 1, "last_at": ago(60)}
    hub.show(
        node(
            "a",
            gpu(0, fan_speed_percent=45, power_draw_watts=655, throttle_reasons=slowed, xids=[xid, trifle]),
            gpu(1, throttle_reasons=["hw_power_brake_slowdown"], fan_speed_percent=0),
            gpu(2, throttle_reasons=["sw_power_cap"], recovery_action="gpu_reset"),
            gpu(3, throttle_reasons=["sw_power_cap"], recovery_action="none"),
        )
    )
    page = open_page(hub.url).page
    expect(field(page, "fan_speed_percent")).to_have_text("45%")
    expect(field(page, "fan_speed_percent", 1)).to_have_text("0%")
    expect(field(page, "power_draw_watts")).to_have_text("655 / 700 W")
    expect(row(page).locator("[data-mark]")).to_have_text(["throttled · heat", "Xid 63"])
    expect(row(page, 1).locator("[data-mark]")).to_have_text(["throttled · power supply"])
    expect(row(page, 2).locator("[data-mark]")).to_have_text(["reset needed"])
    expect(row(page, 3).locator("[data-mark]")).to_have_count(0)


@pytest.mark.parametrize("width", [1440, 390])
def test_a_dash_tells_its_reason_to_who_comes_by_key_or_points(hub: FakeHub, open_page: Open, width: int) -> None:
    silent = gpu(fan_speed_percent=None, unavailable={"fan_speed_percent": "unsupported"})
    hub.show(node("a", silent))
    page = open_page(hub.url, width=width).page
    dash = field(page, "fan_speed_percent").locator(".missing")
    told = re.compile("does not tell it")
    expect(dash).to_have_css("content", "none", pseudo="after")
    dash.focus()
    expect(dash).to_have_css("content", told, pseudo="after")
    fits(page, width)
    dash.blur()
    expect(dash).to_have_css("content", "none", pseudo="after")
    dash.hover()
    expect(dash).to_have_css("content", told, pseudo="after")
    expect(dash).to_have_accessible_name(re.compile("^not available: "))


def test_instances_stand_under_their_gpu(hub: FakeHub, open_page: Open) -> None:
    slices = [
        {
            "index": index,
            "uuid": f"MIG-{index}",
            "name": "MIG",
            "profile": profile,
            "memory_total_bytes": 10 * GIB,
            "memory_used_bytes": used * GIB,
            "memory_free_bytes": None,
            "processes": [process(9, user, used)] if user else [],
        }
        for index, (profile, used, user) in enumerate([("1g.10gb", 4, "alice"), ("2g.20gb", 0, None)])
    ]
    hub.show(node("a", gpu(0, mig_enabled=True, mig_devices=slices), gpu(1)))
    page = open_page(hub.url).page
    under = page.locator('[data-gpu="GPU-0"] + [data-slices="GPU-0"]')
    expect(under.locator("[data-slice]")).to_have_count(2)
    expect(under.locator('[data-slice="0"]')).to_contain_text("1g.10gb4.0 / 10.0 GiBalice")
    expect(under.locator('[data-slice="1"]')).to_contain_text("2g.20gb0.0 / 10.0 GiB")
    expect(page.locator('[data-slices="GPU-1"]')).to_have_count(0)


def test_memory_that_is_shared_or_that_no_process_accounts_for_is_marked(hub: FakeHub, open_page: Open) -> None:
    cause = "What the display and other graphics keep."
    ledger = {"processes_bytes": 0, "reserved_bytes": None, "unaccounted_bytes": 3 * GIB, "cause": cause}
    hub.show(
        node(
            "a",
            gpu(0, memory_kind="unified"),
            gpu(1, memory_used_bytes=3 * GIB, memory_ledger=ledger),
            gpu(2, memory_ledger=ledger | {"unaccounted_bytes": 1, "cause": None}),
        )
    )
    page = open_page(hub.url).page
    expect(field(page, "memory_kind")).to_have_text("shared with the system")
    expect(field(page, "unaccounted", 1)).to_have_text("3.0 GiB of no process")
    expect(field(page, "unaccounted", 1)).to_have_attribute("title", cause)
    expect(page.locator('[data-field="memory_kind"]')).to_have_count(1)
    expect(page.locator('[data-field="unaccounted"]')).to_have_count(1)


def test_a_process_tells_its_job_or_container_and_how_long_it_runs(hub: FakeHub, open_page: Open) -> None:
    processes = [
        process(1, "alice", 30, job="slurm:48213", container="docker:5d0c0ffee123", started_at=ago(7290)),
        process(2, "bob", 20, container="docker:5d0c0ffee123", started_at=ago(90_030)),
        process(3, "carol", 10, started_at=None),
    ]
    hub.show(node("a", gpu(processes=processes, processes_truncated=12)))
    page = open_page(hub.url, width=390).page
    lines = row(page).locator("[data-pid]")
    expect(lines).to_have_count(3)
    expect(lines.nth(0).locator('[data-field="job"]')).to_have_text("slurm:48213")
    expect(lines.nth(0).locator('[data-field="running"]')).to_have_text("2 h 1 min")
    expect(lines.nth(1).locator('[data-field="container"]')).to_have_text("docker:5d0c0ffee123")
    expect(lines.nth(1).locator('[data-field="running"]')).to_have_text("1 d 1 h")
    expect(lines.nth(2).locator('[data-field="running"]')).to_be_empty()
    expect(row(page)).to_contain_text("and 12 more processes")


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
def test_a_node_tells_of_its_machine(hub: FakeHub, open_page: Open, language: str) -> None:
    hub.show(with_host(node("a", gpu())), node("b", gpu()))
    page = open_page(f"{hub.url}/?node=a", language=language).page
    told = page.locator('[data-node="a"]')
    english = language == "en-GB"
    expect(told.locator('[data-field="host_cpu"]')).to_have_text("CPU 12%")
    expect(told.locator('[data-field="host_memory"]')).to_have_text("RAM 25%" if english else "内存 25%")
    expect(told.locator('[data-field="uptime"]')).to_have_text("up 3 d 4 h" if english else "已运行 3 天 4 小时")
    expect(told.locator('[data-detail="processor"]')).to_contain_text("64 CPUs, 12%, load 3.3" if english else "64 核")
    expect(told.locator('[data-detail="memory"]')).to_have_text("128.0 / 512.0 GiB")
    expect(told.locator('[data-detail="swap"]')).to_have_text("1.0 / 8.0 GiB")
    expect(told.locator('[data-detail="disk"]')).to_contain_text("120.0 / 900.0 GiB")
    expect(page.locator('[data-node="b"] [data-field="host_cpu"]')).to_have_count(0)


def test_a_line_of_the_table_opens_into_all_that_a_card_tells_of_its_node(hub: FakeHub, open_page: Open) -> None:
    told = with_host(node("gpu01", gpu(), alias="学习", tags=["cold", "room 204"], source="poll"))
    hub.show(told)
    page = open_page(f"{hub.url}/?as=table&node=gpu01").page
    details = page.locator('[data-node="gpu01"] .details')
    for fact, text in {
        "name": "gpu01",
        "tags": "cold, room 204",
        "driver": "580.95.05",
        "cuda": "13.0",
        "source": "The hub asks the agent for its reports.",
        "uptime": "3 d 4 h",
    }.items():
        expect(details.locator(f'[data-detail="{fact}"]')).to_have_text(text)


def test_the_drawer_tells_who_a_gpu_is_and_what_its_driver_reported(hub: FakeHub, open_page: Open) -> None:
    xid = {"code": 63, "meaning": "A row was retired.", "gravity": "critical", "count": 2, "last_at": ago(7200)}
    told = gpu(
        1,
        pci_bus_id="00000000:17:00.0",
        sm_clock_megahertz=1410,
        sm_clock_max_megahertz=1980,
        memory_clock_megahertz=3201,
        pcie_generation=5,
        pcie_width=16,
        ecc_uncorrected_total=2,
        ecc_corrected_total=117,
        recovery_action="gpu_reset",
        throttle_reasons=["sw_power_cap", "unheard_of"],
        xids=[xid],
    )
    hub.show(node("a", gpu(0), told))
    page = open_page(f"{hub.url}/?node=a").page
    facts = page.locator('[data-field="gpu_facts"]')
    expect(facts.locator('[data-fact="uuid"]')).to_have_text("GPU-0")
    expect(facts.locator('[data-fact="xids"]')).to_have_count(0)
    page.get_by_label("GPU", exact=True).select_option("GPU-1")
    expected: dict[str, str | re.Pattern[str]] = {
        "pci_bus_id": "00000000:17:00.0",
        "sm_clock": "1,410 / 1,980 MHz",
        "memory_clock": "3,201 MHz",
        "pcie": "5.0 ×16",
        "ecc": "2 uncorrected, 117 corrected",
        "recovery_action": "gpu reset",
        "throttle_reasons": "the power limit, unheard_of",
        "xids": re.compile(r"Xid 63 ×2 2 hr\.? ago: A row was retired\."),
    }
    for fact, text in expected.items():
        expect(facts.locator(f'[data-fact="{fact}"]')).to_have_text(text)


def test_a_phone_shows_what_is_free_before_what_is_rarely_chosen(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu(0), gpu(1, name="NVIDIA A100")), node("b", gpu(2), tags=["cold"]))
    page = open_page(hub.url, width=390).page
    rare = page.locator('[data-filter="model"], [data-choice="theme"], [data-choice="density"]')
    expect(page.locator("#find")).to_be_visible()
    expect(page.locator('[data-filter="free"]')).to_be_visible()
    expect(rare.filter(visible=True)).to_have_count(0)
    whole = page.locator('[data-choice="whole"]')
    whole.click()
    expect(whole).to_have_attribute("aria-expanded", "true")
    expect(rare.filter(visible=True)).to_have_count(3)
    elsewhere = open_page(f"{hub.url}/?tag=cold", width=390).page
    expect(elsewhere.locator('[data-filter="tag"]')).to_be_visible()


@pytest.mark.parametrize("width", [1440, 1150, 1000, 390])
def test_long_names_tags_and_models_push_no_table_out_of_the_window(hub: FakeHub, open_page: Open, width: int) -> None:
    long = "W" * 40
    boards = [gpu(index, name=f"NVIDIA GeForce RTX {long} {index}") for index in range(4)]
    hub.show(*(node(f"{name}-{long}", *boards, tags=[long, f"{long[:30]} 2"], flapping=True) for name in "abc"))
    page = open_page(f"{hub.url}/?as=table", width=width).page
    expect(page.locator("tbody[data-node]")).to_have_count(3)
    fits(page, width)


def test_cards_fit_windows_of_every_width(hub: FakeHub, open_page: Open) -> None:
    long = process(
        3_999_999, "a.long.user.name", 75, command="python -m some.package.with.a.long.name", job="slurm:4821399"
    )
    marked = gpu(0, throttle_reasons=["hw_power_brake_slowdown"], memory_used_bytes=76 * GIB, processes=[long] * 2)
    hub.show(with_host(node("a-node", marked, gpu(1), alias="机器学习服务器", tags=["room 204", "teaching"])))
    page = open_page(f"{hub.url}/?node=a-node", language="zh-CN").page
    expect(page.locator('[data-fact="uuid"]')).to_be_visible()
    for width in (1920, 1401, 1400, 1200, 1000, 821, 820, 700, 600, 390, 320):
        page.set_viewport_size({"width": width, "height": 900})
        fits(page, width)
        becomes(lambda: page.evaluate(OUTSIDE), [])
