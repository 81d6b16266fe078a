"""Text that strangers chose, made fit to be shown: names, commands, what a peer or a driver says."""


def printable(text: str) -> str:
    """``text`` without what moves a cursor, sets a colour, breaks a line or turns the writing direction.

    Each such sign becomes U+FFFD, so that it is seen that there was one.
    """
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def one_line(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, fit to be quoted inside a sentence."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 4 * most]).split())[:most]
