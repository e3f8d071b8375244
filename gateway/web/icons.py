"""One small set of icons of ours: 24 units wide, stroke 1.75, in the colour of the text around them."""

from __future__ import annotations

from functools import lru_cache

from markupsafe import Markup, escape

_SHAPES = {
    # where one goes
    "inbox": '<path d="M3 13.5 6 5h12l3 8.5V18a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 18z"/>'
    '<path d="M3 13.5h5l1.5 2.5h5l1.5-2.5h5"/>',
    "grid": '<rect x="3.5" y="3.5" width="7" height="7" rx="1.5"/>'
    '<rect x="13.5" y="3.5" width="7" height="7" rx="1.5"/>'
    '<rect x="3.5" y="13.5" width="7" height="7" rx="1.5"/>'
    '<rect x="13.5" y="13.5" width="7" height="7" rx="1.5"/>',
    "calendar": '<rect x="3.5" y="5" width="17" height="15.5" rx="2"/><path d="M3.5 10h17M8 3v4M16 3v4"/>',
    "user": '<circle cx="12" cy="8" r="3.75"/>'
    '<path d="M5 20.5v-1A4.5 4.5 0 0 1 9.5 15h5a4.5 4.5 0 0 1 4.5 4.5v1"/>',
    "key": '<circle cx="8" cy="8" r="4.5"/><path d="m11.2 11.2 8.8 8.8M16.5 16.5l2.5-2.5M14 14l2-2"/>',
    "sliders": '<path d="M3 8h9M18 8h3M3 16h3M12 16h9"/><circle cx="15" cy="8" r="2.5"/>'
    '<circle cx="9" cy="16" r="2.5"/>',
    "back": '<path d="M20 12H4.5M11 5l-7 7 7 7"/>',
    "forward": '<path d="m9 5 7 7-7 7"/>',
    "down": '<path d="m5 9 7 7 7-7"/>',
    "search": '<circle cx="10.5" cy="10.5" r="6.5"/><path d="m15.5 15.5 5 5"/>',
    "close": '<path d="m6 6 12 12M18 6 6 18"/>',
    # products
    "car": '<path d="M4.5 11.5 6.3 6.6A2 2 0 0 1 8.2 5.25h7.6a2 2 0 0 1 1.9 1.35l1.8 4.9"/>'
    '<path d="M3 17.25V13.5a2 2 0 0 1 2-2h14a2 2 0 0 1 2 2v3.75z"/>'
    '<path d="M5.25 17.25v2M18.75 17.25v2M6.5 14.4h1.75M15.75 14.4h1.75"/>',
    "washing_machine": '<rect x="4.5" y="3" width="15" height="18" rx="2"/>'
    '<circle cx="12" cy="13.5" r="4.25"/>'
    '<path d="M7.5 6.25h2.5M14 6.25h2.5M8 13.9c1.4-1 2.6-1 4 0s2.6 1 4 0"/>',
    "dishwasher": '<rect x="4" y="3" width="16" height="18" rx="2"/>'
    '<circle cx="10.25" cy="14" r="3.5"/>'
    '<path d="M4 7.5h16M7 5.25h2.5M16.5 10.5v7"/>',
    "coffee_machine": '<path d="M4.5 20.5v-15a2 2 0 0 1 2-2h13v4.75H9v12.25M3.5 20.5h17"/>'
    '<path d="M15 8.25v2M12.25 13.75h5.5v1.75a2 2 0 0 1-2 2h-1.5a2 2 0 0 1-2-2z"/>',
    "refrigerator": '<rect x="6" y="2.5" width="12" height="19" rx="2"/>'
    '<path d="M6 9.5h12M9 5.5v1.75M9 12.5v3.5"/>',
    "heat_pump": '<rect x="2.5" y="5" width="19" height="13.5" rx="2"/>'
    '<circle cx="9" cy="11.75" r="4.25"/><path d="M9 7.5v8.5M4.75 11.75h8.5M16.5 8.5h2.5M16.5 11.75h2.5'
    'M16.5 15h2.5M5.5 18.5v2M18.5 18.5v2"/>',
    "device": '<rect x="4" y="4" width="16" height="16" rx="2.5"/>'
    '<path d="M9 9h6v6H9zM12 1.5V4M12 20v2.5M1.5 12H4M20 12h2.5"/>',
    # how urgent
    "advice": '<circle cx="12" cy="12" r="8.25"/>'
    '<path d="M12 3.75a8.25 8.25 0 0 1 0 16.5z" fill="currentColor" stroke="none"/>',
    "warning": '<path d="M12 4 2.75 20h18.5zM12 10.25v4.25M12 17.3v.1"/>',
    "critical": '<path d="M8.3 3h7.4L21 8.3v7.4L15.7 21H8.3L3 15.7V8.3zM12 7.5v5.25M12 16.2v.1"/>',
    "done": '<circle cx="12" cy="12" r="8.5"/><path d="m8.25 12.25 2.6 2.6 5-5.2"/>',
    "trouble": '<circle cx="12" cy="12" r="8.5"/><path d="M12 7.5v5M12 16v.1"/>',
    # what happened
    "check": '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
    "moon": '<path d="M19.5 14.7A8.25 8.25 0 0 1 9.3 4.5a8.25 8.25 0 1 0 10.2 10.2z"/>',
    "sun": '<circle cx="12" cy="12" r="4"/><path d="M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4'
    'M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4"/>',
    "wheel": '<circle cx="12" cy="12" r="8.5"/><circle cx="12" cy="12" r="2.25"/>'
    '<path d="M3.7 10.5l6.1.9M20.3 10.5l-6.1.9M12 14.25v6.25"/>',
    "send": '<path d="M20.5 3.5 3.5 9.75l7 3.75 3.75 7z"/><path d="m20.5 3.5-10 10"/>',
    "bell": '<path d="M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15zM10 20.75h4"/>',
    "clock": '<circle cx="12" cy="12" r="8.5"/><path d="M12 7.25V12l3 2"/>',
    "wrench": '<path d="M14.3 7.2a4.5 4.5 0 0 1 5.9-3.5l-2.7 2.7.6 2.5 2.5.6 0 0a4.5 4.5 0 0 1-6.2 3.1'
    'L7.6 19.4a2.1 2.1 0 0 1-3-3l6.9-6.9"/>',
    "speech": '<path d="M4 5.5h16v11H11l-4.5 4v-4H4z"/>',
    "hand": '<path d="M7.5 12V6.5a1.5 1.5 0 0 1 3 0V11 4.5a1.5 1.5 0 0 1 3 0V11 6a1.5 1.5 0 0 1 3 0v6.5'
    'a1.5 1.5 0 0 1 3 0c0 5-2.5 8-6.5 8-3.5 0-5-1.5-6.5-4.5L4.2 12a1.5 1.5 0 0 1 2.6-1.5z"/>',
    "swap": '<path d="M4 8.5h14M14.5 5 18 8.5 14.5 12M20 15.5H6M9.5 12 6 15.5 9.5 19"/>',
    "muted": '<path d="M9 18.5H4.5L6 16.5V11a6 6 0 0 1 9.5-4.9M18 11v4.5M10 20.75h4M3.5 3.5l17 17"/>',
    "repeat": '<path d="M4.5 11a7.5 7.5 0 0 1 13.3-3.5L20 10M20 5v5h-5M19.5 13a7.5 7.5 0 0'
    ' 1-13.3 3.5L4 14M4 19v-5h5"/>',
    # what one can do
    "pin": '<path d="M12 21.5s-7-6.3-7-11.5a7 7 0 0 1 14 0c0 5.2-7 11.5-7 11.5z"/>'
    '<circle cx="12" cy="10" r="2.5"/>',
    "phone": '<path d="M8.5 4 10.3 8.2 8.2 9.9a12 12 0 0 0 5.9 5.9l1.7-2.1L20 15.5v3a2 2 0 0 1-2.1 2'
    'C10.3 20 4 13.7 3.5 6.1A2 2 0 0 1 5.5 4z"/>',
    "print": '<path d="M7 9V3.5h10V9M7 17.5H5A1.5 1.5 0 0 1 3.5 16v-5.5A1.5 1.5 0 0 1 5'
    " 9h14a1.5 1.5 0 0 1 1.5 1.5V16"
    'a1.5 1.5 0 0 1-1.5 1.5h-2"/><path d="M7 14h10v6.5H7z"/>',
    "document": '<path d="M6 3h8l4.5 4.5V21H6zM14 3v4.5h4.5M9 12.5h6.5M9 16.5h6.5"/>',
    "pause": '<path d="M8.5 5v14M15.5 5v14"/>',
    "play": '<path d="M7.5 4.5 19 12 7.5 19.5z"/>',
    "leave": '<path d="M14 4h4.5A1.5 1.5 0 0 1 20 5.5v13a1.5 1.5 0 0 1-1.5 1.5H14M4'
    ' 12h11M10.5 7.5 15 12l-4.5 4.5"/>',
    "parking": '<rect x="3" y="3" width="18" height="18" rx="3"/>'
    '<path d="M9.75 17V7h3.5a3 3 0 0 1 0 6h-3.5" stroke-width="2.25"/>',
    "up": '<path d="M4 17l5.5-5.5 3.5 3.5L20 8M15 8h5v5"/>',
    "flat": '<path d="M4 12h16M14.5 6.5 20 12l-5.5 5.5"/>',
    "falling": '<path d="M4 7l5.5 5.5L13 9l7 7M15 16h5v-5"/>',
}

ICONS = frozenset(_SHAPES)
"""Names that `icon` knows."""


@lru_cache(maxsize=512)
def icon(name: str, label: str | None = None, *, size: int = 20, tone: str = "") -> Markup:
    """The icon as inline SVG: decoration when it has no label, else an image of that name."""
    meaning = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return Markup(
        f'<svg class="icon {escape(tone)}" width="{size}" height="{size}" viewBox="0 0 24 24" fill="none" '
        f'stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" {meaning}>'
        f"{_SHAPES.get(name, _SHAPES['device'])}</svg>"
    )


@lru_cache(maxsize=8)
def brand(size: int = 24) -> Markup:
    """Our mark: a touch on a line."""
    return Markup(
        f'<svg class="brand" width="{size}" height="{size}" viewBox="0 0 24 24" aria-hidden="true">'
        '<circle cx="14.5" cy="9.5" r="4.5" class="brand-dot"/>'
        '<path d="M1 17.5h22" class="brand-line" stroke-width="2.25" stroke-linecap="round"/></svg>'
    )
