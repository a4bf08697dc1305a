"""Elements of a page: tables, and pictures with their captions."""

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is HTML already, so that it is not escaped again."""

    __slots__ = ()


def html_of(text: str) -> Html:
    """Escape a text, unless it is HTML already.

    Example:
        >>> html_of("a < b"), html_of(Html("<b>a</b>"))
        ('a &lt; b', '<b>a</b>')
    """
    return text if isinstance(text, Html) else Html(escape(text))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    label: str,
    kind: str | None = None,
    caption: str | None = None,
) -> Html:
    """A table that scrolls sideways where the page is narrow; its first column names the rows.

    Args:
        head: The names of the columns; none for a table without a head.
        rows: The cells of each row, as text or `Html`.
        label: A description for screen readers, which find the table by it as the keyboard does.
        kind: The class of the table.
        caption: A caption above the table.

    Example:
        >>> html = table(["name", "bytes"], [["a < b", "12"]], label="Sizes")
        >>> "a &lt; b" in html, html.count("<td>")
        (True, 1)
    """
    top = "".join(f'<th scope="col">{html_of(cell)}</th>' for cell in head)
    lines = "\n".join(
        f'<tr><th scope="row">{html_of(row[0])}</th>'
        + "".join(f"<td>{html_of(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    of_kind = "" if kind is None else f' class="{kind}"'
    inner = (
        f"<table{of_kind}>\n"
        + ("" if caption is None else f"<caption>{escape(caption)}</caption>\n")
        + (f"<thead><tr>{top}</tr></thead>\n" if head else "")
        + f"<tbody>\n{lines}\n</tbody>\n</table>"
    )
    return scrolling(inner, label)


def scrolling(content: str, label: str) -> Html:
    """Content that scrolls sideways in a box of its own where the page is narrow.

    Args:
        content: HTML.
        label: A description of the content for screen readers.
    """
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">\n'
        f"{content}\n</div>\n"
    )


def figure(picture: str, caption: str, *, before: str = "") -> Html:
    """A picture and its caption.

    Args:
        picture: An `<svg>`.
        caption: The caption, as text or `Html`.
        before: HTML above the picture, for instance a legend.
    """
    return Html(
        f"<figure>\n{before}{picture}\n<figcaption>{html_of(caption)}</figcaption>\n</figure>\n"
    )
