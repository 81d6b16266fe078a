"""A terminal that is drawn upon: the one place that knows prompt_toolkit, which reads the keys, draws what has changed,
follows the window's size and gives the terminal back as it was.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.output import ColorDepth

ESCAPE_SECONDS: Final = 0.1
"""For how long more is waited for after an Escape: most keys that are no letters begin with one."""
STYLES: Final = {
    "red": "ansired",
    "green": "ansigreen",
    "yellow": "ansiyellow",
    "blue": "ansiblue",
    "magenta": "ansimagenta",
    "cyan": "ansicyan",
    "grey": "ansibrightblack",
}
"""The words of :data:`gpumon.terminal.STYLES` in its own; others are the same in both."""
NAMES: Final = {Keys.ControlM: "enter", Keys.ControlJ: "enter", Keys.ControlH: "backspace", Keys.ControlR: "f5"}


class Screen:
    """Shows what ``draw`` makes for so many columns and lines, and tells ``press`` the keys."""

    def __init__(
        self,
        draw: Callable[[int, int], Iterable[Sequence[tuple[str, str]]]],
        press: Callable[[str], None],
        *,
        color: bool,
    ) -> None:
        self._draw = draw
        self._press = press
        self._fault: Exception | None = None
        keys = KeyBindings()
        keys.add(Keys.Any)(self._on_key)
        for key in (Keys.Up, Keys.Down, Keys.PageUp, Keys.PageDown, Keys.Home, Keys.End, Keys.Escape, Keys.F4):
            keys.add(key)(self._on_key)
        for key in (Keys.ControlC, Keys.ControlM, Keys.ControlJ, Keys.ControlH, Keys.ControlU):
            keys.add(key)(self._on_key)
        keys.add(Keys.BracketedPaste)(self._on_paste)
        for key in (Keys.F5, Keys.ControlR):
            keys.add(key)(self._on_redraw)
        keys.add(Keys.ControlZ)(lambda event: event.app.suspend_to_background())
        control = FormattedTextControl(self._text, focusable=True, show_cursor=False)
        self._app: Application[None] = Application(
            layout=Layout(Window(control, wrap_lines=False, always_hide_cursor=True)),
            key_bindings=keys,
            full_screen=True,
            color_depth=ColorDepth.DEPTH_4_BIT if color else ColorDepth.DEPTH_1_BIT,
            erase_when_done=True,
        )
        self._app.ttimeoutlen = ESCAPE_SECONDS

    async def run(self) -> None:
        """Show, until :meth:`leave`, or cancelled; where drawing fails, raise that. The terminal is then as it was."""
        await self._app.run_async(handle_sigint=False, set_exception_handler=False)
        if self._fault is not None:
            raise self._fault

    def leave(self) -> None:
        """Have :meth:`run` end."""
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    def changed(self) -> None:
        """What is drawn is no longer what ``draw`` would make."""
        self._app.invalidate()

    def _text(self) -> StyleAndTextTuples:
        size = self._app.output.get_size()
        found: StyleAndTextTuples = []
        try:
            lines = list(self._draw(size.columns, size.rows))
        except Exception as error:  # here it would be logged, and the screen stand still
            self._fault = self._fault or error
            self.leave()
            lines = []
        for number, line in enumerate(lines):
            if number:
                found.append(("", "\n"))
            found += [(" ".join(STYLES.get(word, word) for word in style.split()), text) for style, text in line]
        return found

    def _on_key(self, event: KeyPressEvent) -> None:
        press = event.key_sequence[-1]
        key = press.key
        self._press(NAMES.get(key, key.value) if isinstance(key, Keys) else key)
        self._app.invalidate()

    def _on_paste(self, event: KeyPressEvent) -> None:
        for sign in event.data:
            self._press(sign)
        self._app.invalidate()

    def _on_redraw(self, event: KeyPressEvent) -> None:
        self._on_key(event)
        self._app.renderer.clear()
