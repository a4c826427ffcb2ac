"""The receipt of a request as text: what was asked, decided, tried, used and paid."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Sequence

from arbstr.core.record import AttemptRow, RequestRow
from arbstr.proxy.story import No, Offer, Story

WIDTH = 76
"""What fits into mitmweb's pane beside its list, in a window of 1,280 pixels, and a terminal."""

_LABEL = 12
_RULE = "─" * WIDTH
_NAME = 20
_SOLD = 34
"""Room for a model and its provider."""
_WHY = {
    "header": "named by X-Arbstr-Policy",
    "model": "named by the model",
    "client": "[clients] names it for this client",
    "keyword": "a keyword in the last message",
    "default": "the default",
    "none": "no policy applies",
}
_OUTCOMES = {
    "ok": "whole",
    "error": "failed, nobody answered",
    "refused": "refused by arbstr, nothing was sent",
    "interrupted": "broke off after its first token",
    "client_closed": "the client left before its end",
    "in_flight": "under way",
}


def receipt(story: Story) -> str:
    """The whole receipt: sections of aligned lines, none wider than `WIDTH` but for long names."""
    sections = [
        _head(story),
        _candidates(story),
        _refusals(story),
        _attempts(story),
        _tokens(story.row),
        _money(story),
        _times(story),
    ]
    if story.kind == "attempt":
        sections = [_attempt_head(story), _attempts(story), _candidates(story)]
    return f"\n{_RULE}\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def decision(story: Story) -> str:
    """What would be tried, and why, of a request that was not sent."""
    policy = _line("policy", story.row.policy or "none", _why(story))
    return "\n".join([policy, *_candidates(story), *_refusals(story)])


def in_sats(msats: int | None) -> str | None:
    """Msats as sats with three decimals, so that columns of them are aligned."""
    return None if msats is None else f"{msats // 1000:,}.{msats % 1000:03d}"


def _head(story: Story) -> list[str]:
    row = story.row
    asked = row.requested_model or "(no model)"
    how = ["streamed" if row.stream else "whole", *(["with tools"] if story.tools else [])]
    if story.images:
        how.append(f"{story.images} image{'s' if story.images > 1 else ''}")
    if story.json_mode:
        how.append("JSON mode")
    title = "replayed request" if story.replay else "request"
    lines = [
        _ends("arbstr", f"{title} {story.id}"),
        "",
        _line("asked for", asked, f"{story.endpoint}, {', '.join(how)}"),
        _line("policy", row.policy or "none", _why(story)),
    ]
    if row.model is not None and row.outcome != "refused":
        tries = "" if row.attempts < 2 else f", try {row.attempts}"
        label = "served by" if row.outcome in ("ok", "interrupted", "client_closed") else "last"
        lines.append(_line(label, row.model, f"at {row.provider}{tries}"))
    lines.append(_line("outcome", row.outcome, _outcome(row)))
    if row.error_message:
        lines += _wrapped("error", row.error_message)
    return lines


def _attempt_head(story: Story) -> list[str]:
    asked = story.row.requested_model or "(no model)"
    return [
        _ends("arbstr", f"try {story.attempt} of request {story.id}"),
        "",
        _line("asked for", asked, story.endpoint),
        _line("policy", story.row.policy or "none", _why(story)),
        "",
        "This is what was sent for one try, and what came back. It was no answer,",
        "so the client has seen nothing of it. Its request has a flow of its own.",
    ]


def _why(story: Story) -> str:
    why = _WHY.get(story.row.policy_source or "", story.row.policy_source or "")
    return f"{why}; {story.strategy}" if story.strategy else why


def _outcome(row: RequestRow) -> str:
    said = _OUTCOMES.get(row.outcome, "")
    code = "" if row.error_code is None else f", {row.error_code}"
    return said if row.status is None else f"{said}; HTTP {row.status}{code}"


def _candidates(story: Story) -> list[str]:
    if not story.offers:
        return []
    lines = [
        "CANDIDATES in the order they are tried, and what each was expected to cost",
        _columns(("", "", "tokens in", "cached", "out", "samples", "sats")),
    ]
    for n, offer in enumerate(story.offers, 1):
        lines.append(_columns(_offer(n, offer)))
        lines += [f"      {text}" for text in _offer_notes(offer)]
    if story.more_offers:
        lines.append(f"      and {story.more_offers} more")
    return lines


def _offer(n: int, offer: Offer) -> Sequence[str]:
    return (
        str(n),
        f"{offer.model} @ {offer.provider}",
        f"{offer.input_tokens:,}",
        f"{offer.cached_tokens:,}" if offer.cached_tokens else "-",
        f"{offer.output_tokens:,}",
        f"{offer.samples:,}" if offer.samples else "-",
        in_sats(offer.expected_msats) or "unpriced",
    )


def _offer_notes(offer: Offer) -> Iterable[str]:
    if offer.note:
        yield offer.note
    if offer.max_tokens is not None:
        yield f"max_tokens lowered to {offer.max_tokens:,}, to stay under the cap"


def _columns(cells: Sequence[str]) -> str:
    number, name, *figures = cells
    widths = (10, 8, 8, 8, 12)
    right = "".join(f"{figure:>{width}}" for figure, width in zip(figures, widths, strict=True))
    room = WIDTH - len(right) - 4
    if len(name) <= room:
        return f"{number:>3} {name:<{room}}{right}"
    return f"{number:>3} {name}\n{right:>{WIDTH}}"


def _refusals(story: Story) -> list[str]:
    if not story.refusals and not story.not_allowed:
        return []
    lines = ["REFUSED", *(line for no in story.refusals for line in _no(no))]
    if story.more_refusals:
        lines.append(f"    and {story.more_refusals} more")
    if story.not_allowed:
        lines.append(f"    {story.not_allowed:,} models that the policy does not allow")
    return lines


def _no(no: No) -> list[str]:
    name = f"{no.model} @ {no.provider}"
    return _hanging(f"    {name:<{_SOLD - 2}}", no.reason)


def _attempts(story: Story) -> list[str]:
    if not story.attempts:
        return []
    lines = ["ATTEMPTS" if story.kind == "request" else "THIS TRY"]
    for attempt, message in zip(story.attempts, story.messages, strict=True):
        lines.append(_attempt(attempt))
        if message:
            lines += _hanging(f"      {attempt.error_code or 'failed'}: ", message)
        if attempt.outcome != "ok" and attempt.cost_msats:
            cost = in_sats(attempt.cost_msats)
            lines.append(f"      cost {cost} sats all the same, {attempt.cost_source}")
    return lines


def _attempt(attempt: AttemptRow) -> str:
    name = f"{attempt.model} @ {attempt.provider}" if attempt.model else attempt.provider
    status = "no answer" if attempt.status is None else f"HTTP {attempt.status}"
    took = "" if attempt.latency_ms is None else f"{attempt.latency_ms:,} ms"
    left = f"{attempt.n:>3} {name:<{_SOLD - 2}} {attempt.outcome:<12}{status:<10}"
    return f"{left}{took:>{max(1, WIDTH - len(left))}}"


def _tokens(row: RequestRow) -> list[str]:
    if row.input_tokens is None and row.output_tokens is None:
        return [] if row.outcome == "refused" else ["TOKENS", _line("", "unknown", "")]
    figures = [
        ("input", row.input_tokens, "fresh"),
        ("", row.cached_tokens, "from the cache"),
        ("", row.cache_write_tokens, "written to the cache"),
        ("output", row.output_tokens, _reasoning(row)),
    ]
    return [
        "TOKENS",
        *(_figure(label, f"{n:,}", note) for label, n, note in figures if n is not None),
    ]


def _reasoning(row: RequestRow) -> str:
    return "" if row.reasoning_tokens is None else f"{row.reasoning_tokens:,} of them reasoning"


def _money(story: Story) -> list[str]:
    row = story.row
    source = {
        "billed": "billed by the node",
        "computed": "computed: the node did not say",
        "unknown": "nobody can say",
    }[row.cost_source]
    if row.outcome == "refused":
        source = "nothing was sent"
    lines = [
        "SATS",
        _figure("expected", in_sats(row.estimated_msats), "before the first token"),
        _figure("price list", in_sats(row.computed_msats), "for these tokens"),
        _figure("cost", in_sats(row.cost_msats) or "unknown", source),
    ]
    if row.upstream_priced:
        lines.append(_figure("", "", "the upstream reported a cost of its own; the bill is that"))
    if story.overcharge_msats is not None:
        over = in_sats(story.overcharge_msats)
        lines.append(_figure("overcharge", over, "billed above the node's own price list"))
    lines += _savings(row)
    lines.append(_figure("balance", in_sats(row.balance_msats), "left at the provider"))
    return [line for line in lines if line]


def _savings(row: RequestRow) -> list[str]:
    if row.baseline_msats is None or row.cost_msats is None or row.model == row.requested_model:
        return []
    saved = row.baseline_msats - row.cost_msats
    share = f" ({saved / row.baseline_msats:.0%})" if row.baseline_msats > 0 else ""
    word = "saved" if saved >= 0 else "dearer by"
    asked = f"what {row.requested_model} would have cost"
    return [
        _figure("instead of", in_sats(row.baseline_msats), asked),
        _figure(word, in_sats(abs(saved)), share.strip(" ()") if saved >= 0 else ""),
    ]


def _times(story: Story) -> list[str]:
    row = story.row
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.started_at / 1000))
    lines = [
        "TIMES",
        _line("started", f"{started}.{row.started_at % 1000:03d}", "UTC"),
        _figure("first token", None if row.ttft_ms is None else f"{row.ttft_ms:,}", "ms"),
        _figure("whole", None if row.latency_ms is None else f"{row.latency_ms:,}", "ms"),
    ]
    if row.client:
        lines.append(_line("client", row.client, ""))
    return [line for line in lines if line]


def _line(label: str, value: str, note: str) -> str:
    text = f"{label:<{_LABEL}}{value:<{_NAME}}"
    return "\n".join(_hanging(f"{text}  ", note)) if note else text.rstrip()


def _figure(label: str, value: str | None, note: str) -> str:
    """A right-aligned number; "" where there is none."""
    return "" if value is None else f"{label:<{_LABEL}}{value:>14}  {note}".rstrip()


def _ends(left: str, right: str) -> str:
    return left + right.rjust(WIDTH - len(left))


def _wrapped(label: str, text: str) -> list[str]:
    return _hanging(f"{label:<{_LABEL}}", text)


def _hanging(head: str, text: str) -> list[str]:
    """`text` behind `head`, its further lines under its first."""
    indent = " " * len(head)
    return textwrap.wrap(
        text, max(WIDTH, len(head) + 24), initial_indent=head, subsequent_indent=indent
    ) or [head.rstrip()]
