"""The documentation is read as a shell would read it, and nothing in it is passed over."""

from pathlib import Path

import pytest

from tests.docs import blocks
from tests.docs.how import rule_for

PAGE = """\
# A page

```sh
# of no interest
first --option   # and why
second \\
  --long
for node in a b; do
  third "$node"   # inside
done
fourth <<END
 # not a comment
END
fifth "a # b" &&
  sixth
curl http://x/#anchor
```

```console
$ seventh
what it says
$ eighth
```

1. In a list:

   ```sh
   ninth
   ```

```text
no command
```
Call `gpumon hub --port
1` or `other`, never `gpumon`.
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "page.md"
    file.write_text(PAGE)
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    monkeypatch.setattr(blocks, "PAGES", [file])
    return file


def test_commands_are_read_whole(page: Path) -> None:
    assert [(one.line, one.text) for one in blocks.commands([page])] == [
        (5, "first --option"),
        (6, "second \\\n  --long"),
        (8, 'for node in a b; do\n  third "$node"\ndone'),
        (11, "fourth <<END\n # not a comment\nEND"),
        (14, 'fifth "a # b" &&\n  sixth'),
        (16, "curl http://x/#anchor"),
        (20, "seventh"),
        (22, "eighth"),
        (28, "ninth"),
    ]


@pytest.mark.usefixtures("page")
def test_calls_in_the_prose_are_found() -> None:
    assert [(one.line, one.text) for one in blocks.inline_commands()] == [(34, "gpumon hub --port 1")]


def test_a_block_that_no_shell_can_read_is_a_fault(page: Path) -> None:
    page.write_text("```sh\necho 'open\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:2"):
        blocks.commands([page])


def test_a_command_of_no_rule_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="no rule"):
        rule_for("reboot now")


def test_anchors_are_those_of_github(page: Path) -> None:
    page.write_text(
        '# One: "two", three\n## 2. The `nodes`\n## Same\n## Same\n<a id="own"></a>\n```sh\n# no heading\n```\n'
    )
    assert blocks.anchors(page) == {"one-two-three", "2-the-nodes", "same", "same-1", "own"}
