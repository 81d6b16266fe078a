"""What the keys of ``gpumon top`` do: how the fleet is looked at just now. No I/O.

The keys are nvitop's, where it has one for the same: https://github.com/XuehaiPan/nvitop (keybindings of monitor mode).
"""

from collections.abc import Callable
from typing import Final, Literal

from gpumon.client.rows import ORDERS, Order

Fold = Literal["auto", "gpu", "node"]

MOST_TYPED: Final = 200
ORDER_KEYS: Final[dict[str, Order]] = {
    "n": "node",
    "s": "util",
    "g": "memory",
    "t": "temperature",
    "w": "power",
    "u": "user",
    "m": "model",
    "f": "state",
}
HELP: Final = (
    ("q  Ctrl-C", "quit"),
    ("h  ?", "this help; any key goes back"),
    ("up down PgUp PgDn", "scroll"),
    ("Home End", "to the first row, to the last"),
    (",  .", "sort by the column before, after"),
    ("/", "reverse the order"),
    ("on", "sort by node: the hub's own order"),
    ("os og ot ow", "by utilisation, memory, temperature, power"),
    ("ou om of", "by user, model; free ones first"),
    ("oN oS ...", "the same, reversed"),
    ("t", "a row for each node, or for each GPU"),
    ("f  F4", "filter by words; Enter keeps them"),
    ("Esc", "without the filter"),
    ("F5  Ctrl-R", "draw anew"),
    ("Ctrl-Z", "to the shell; fg comes back"),
)


class Controls:
    """How the fleet is looked at. ``page`` is how many rows the terminal had room for when it was last drawn."""

    def __init__(
        self, order: Order = "node", words: str = "", *, is_reversed: bool = False, fold: Fold = "auto"
    ) -> None:
        self.order: Order = order
        self.is_reversed = is_reversed
        self.fold: Fold = fold
        self.words = words
        self.offset = 0
        self.page = 1
        self.is_folded = False
        self.is_typing = False
        self.is_helping = False
        self.has_quit = False
        self._awaits_order = False
        self._keys: dict[str, Callable[[], None]] = {
            "q": self._quit,
            "Q": self._quit,
            "h": self._help,
            "?": self._help,
            "up": lambda: self._scroll(-1),
            "down": lambda: self._scroll(1),
            "pageup": lambda: self._scroll(-self.page),
            "pagedown": lambda: self._scroll(self.page),
            "home": lambda: self._scroll(-self.offset),
            "end": lambda: self._scroll(10**9),
            ",": lambda: self._turn(-1),
            ".": lambda: self._turn(1),
            "/": self._reverse,
            "o": self._await_order,
            "t": self._refold,
            "f": self._type,
            "f4": self._type,
            "escape": self._clear,
        }

    def press(self, key: str) -> None:
        """A key was pressed: its sign, or its name in lower case. One that means nothing does nothing."""
        if key == "c-c":
            self._quit()
        elif self.is_typing:
            self._typed(key)
        elif self.is_helping:
            self.is_helping = False
        elif self._awaits_order:
            self._awaits_order = False
            if key.lower() in ORDER_KEYS:
                self._sort(ORDER_KEYS[key.lower()], is_reversed=key.isupper())
        elif key in self._keys:
            self._keys[key]()

    def settle(self, gpus: int, folds_from: int) -> None:
        """There are so many GPUs: whether a row is a node follows, unless somebody has chosen."""
        self.is_folded = gpus > folds_from if self.fold == "auto" else self.fold == "node"

    def window(self, rows: int, page: int) -> int:
        """Where the shown rows begin, of ``rows``, with room for ``page`` of them."""
        self.page = max(1, page)
        self.offset = max(0, min(self.offset, rows - self.page))
        return self.offset

    def _quit(self) -> None:
        self.has_quit = True

    def _help(self) -> None:
        self.is_helping = True

    def _scroll(self, by: int) -> None:
        self.offset = max(0, self.offset + by)

    def _turn(self, by: int) -> None:
        self._sort(ORDERS[(ORDERS.index(self.order) + by) % len(ORDERS)], is_reversed=self.is_reversed)

    def _sort(self, order: Order, *, is_reversed: bool) -> None:
        self.order, self.is_reversed, self.offset = order, is_reversed, 0

    def _reverse(self) -> None:
        self.is_reversed, self.offset = not self.is_reversed, 0

    def _await_order(self) -> None:
        self._awaits_order = True

    def _refold(self) -> None:
        self.fold, self.offset = "gpu" if self.is_folded else "node", 0

    def _type(self) -> None:
        self.is_typing = True

    def _clear(self) -> None:
        self.words, self.offset = "", 0

    def _typed(self, key: str) -> None:
        if key == "enter":
            self.is_typing = False
        elif key == "escape":
            self.is_typing = False
            self._clear()
        elif key == "backspace":
            self.words = self.words[:-1]
        elif key == "c-u":
            self.words = ""
        elif len(key) == 1 and key.isprintable():
            self.words = (self.words + key)[:MOST_TYPED]
        self.offset = 0
