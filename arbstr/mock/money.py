"""What a request costs, and the blocks in which the node says so (captures/cost_*, odd_cached*)."""

from dataclasses import dataclass, replace

from arbstr.mock.models import NANO, Rates


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `input_tokens` includes the cached, `output_tokens` the reasoning."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Bill:
    """What one answer costs, in msats.

    Attributes:
        usage: the tokens it is for.
        base_msats: 1 for a free model, else 0.
        input_msats: the prompt's part, rounding included; cached tokens too.
        output_msats: the answer's part, rounded down.
        total_msats: what was taken from the balance.
        cache_read_msats: what of `input_msats` is for cached tokens, rounded down.
        usd: the price in USD, before it was cut to the balance.
        remaining_msats: the balance after it; `None`: paid with a token, there is no balance.
    """

    usage: Usage
    base_msats: int
    input_msats: int
    output_msats: int
    total_msats: int
    cache_read_msats: int
    usd: float
    remaining_msats: int | None = None

    @staticmethod
    def of(rates: Rates, usage: Usage, *, times: int = 1) -> "Bill":
        """The price of `usage`: rounded up once, in sum. No tokens cost nothing, ever.

        Args:
            rates: the model's prices.
            usage: the tokens.
            times: how many times the price is charged (`Fault.OVERCHARGE`).
        """
        if not (usage.input_tokens or usage.output_tokens):
            return Bill(usage, 0, 0, 0, 0, 0, 0.0)
        if not (rates.prompt or rates.completion):
            return Bill(usage, 1, 0, 0, 1, 0, 0.0)
        read_nano = usage.cached_tokens * rates.cache_read
        output_nano = usage.output_tokens * rates.completion
        input_nano = (usage.input_tokens - usage.cached_tokens) * rates.prompt + read_nano
        total = -(-(input_nano + output_nano) // NANO) * times
        output = output_nano * times // NANO
        return Bill(
            usage=usage,
            base_msats=0,
            input_msats=total - output,
            output_msats=output,
            total_msats=total,
            cache_read_msats=read_nano * times // NANO,
            usd=total / 1000 * 0.001,
        )

    def paid(self, balance_msats: int) -> "Bill":
        """The bill after it was paid: never more than there is (captures/cost_overrun_*)."""
        total = min(self.total_msats, balance_msats)
        return replace(self, total_msats=total, remaining_msats=balance_msats - total)

    def usage_block(self) -> dict[str, object]:
        """`usage.cost`."""
        block: dict[str, object] = {
            "base_msats": self.base_msats,
            "input_msats": self.input_msats,
            "output_msats": self.output_msats,
            "total_msats": self.total_msats,
            "cache_read_input_tokens": self.usage.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_msats": self.cache_read_msats,
            "cache_creation_msats": 0,
        }
        if self.usd:
            block["total_usd"] = self.usd
        return block

    def usage_tail(self) -> dict[str, object]:
        """What the node adds to the upstream's `usage`: cost, whole sats, balance."""
        tail: dict[str, object] = {"cost": self.usage_block(), "cost_sats": self.sats}
        if self.remaining_msats is not None:
            tail["remaining_balance_msats"] = self.remaining_msats
        return tail

    def cost_block(self) -> dict[str, object]:
        """The inner `cost`: the amounts and the tokens they are for."""
        return {
            "base_msats": self.base_msats,
            "input_msats": self.input_msats,
            "output_msats": self.output_msats,
            "total_msats": self.total_msats,
            "total_usd": self.usd,
            "input_tokens": self.usage.input_tokens - self.usage.cached_tokens,
            "output_tokens": self.usage.output_tokens,
            "cache_read_input_tokens": self.usage.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_msats": self.cache_read_msats,
            "cache_creation_msats": 0,
        }

    def blocks(self, *, nested: bool) -> dict[str, object]:
        """`metadata` and `cost`, the last two keys of every answer paid by key.

        Args:
            nested: plain chat puts sats and balance inside `metadata.routstr.cost`; streams and
                messages put them beside it.
        """
        if self.remaining_msats is None:
            return {}
        rest = {"sats_cost": self.sats, "remaining_balance_msats": self.remaining_msats}
        cost = self.cost_block()
        full = {**cost, **rest}
        routstr = {"cost": full} if nested else {"cost": cost, **rest}
        return {"metadata": {"routstr": routstr}, "cost": full}

    def header_lines(self) -> list[str]:
        """The `x-routstr-*cost*` headers; a price of zero has no USD line."""
        lines = [
            f"x-routstr-cost-msats: {self.total_msats}",
            f"x-routstr-input-cost-msats: {self.input_msats}",
            f"x-routstr-output-cost-msats: {self.output_msats}",
        ]
        return [*lines, f"x-routstr-cost-usd: {self.usd}"] if self.usd else lines

    @property
    def sats(self) -> int:
        """Whole sats, rounded down: usually 0, and never to be used."""
        return self.total_msats // 1000


def reservation_msats(rates: Rates, prompt_chars: int | None, max_tokens: int | None) -> int:
    """What must be there before the node asks the upstream (captures/err_402_*).

    0.99 of the dearest answer, or `max_tokens` of it, and a guess at the prompt.

    Args:
        rates: the model's prices.
        prompt_chars: characters in `messages`; `None`: there are none, nothing is known.
        max_tokens: of the request; other spellings of it are not read.
    """
    if prompt_chars is None:
        return rates.max_total * 99 // (100 * NANO)
    if max_tokens is None:
        output = rates.max_completion * 99 // 100
    else:
        output = max(max_tokens, 0) * rates.completion
    return (output + prompt_chars // 3 * rates.prompt) // NANO


def in_sats(msats: int) -> str:
    """`16221` as `16.221`, `1000` as `1`: as the node writes amounts into its prose."""
    return f"{msats / 1000:.3f}".rstrip("0").rstrip(".")
