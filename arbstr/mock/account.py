"""The one balance of the mock node, its reservations, and what was billed."""

from dataclasses import dataclass, field, replace
from secrets import token_hex

from arbstr.mock.money import Bill

TOKEN_MSATS = 60_000
"""What every `X-Cashu` token is worth."""


@dataclass(slots=True)
class Account:
    """Play money. All keys share it.

    Attributes:
        balance_msats: what is there, reservations included.
        reserved_msats: what answers in progress may still cost.
        billed_msats: everything charged so far, paid by key or by token.
        answers: how many answers were begun with a key.
        spent_tokens: the `X-Cashu` tokens that came; one is good once.
    """

    balance_msats: int
    reserved_msats: int = 0
    billed_msats: int = 0
    answers: int = 0
    spent_tokens: set[str] = field(default_factory=set)

    @property
    def available_msats(self) -> int:
        """What a new request may reserve."""
        return self.balance_msats - self.reserved_msats

    def charge(self, bill: Bill) -> Bill:
        """Take a bill from the balance, as far as it goes."""
        paid = bill.paid(self.balance_msats)
        self.balance_msats -= paid.total_msats
        self.billed_msats += paid.total_msats
        return paid

    def charge_token(self, bill: Bill) -> Bill:
        """Take a bill from the worth of a token; the balance has no part in it."""
        paid = replace(bill, total_msats=min(bill.total_msats, TOKEN_MSATS))
        self.billed_msats += paid.total_msats
        return paid

    def refund(self) -> int:
        """Pay everything out. Returns the msats that are gone now."""
        gone, self.balance_msats = self.balance_msats, 0
        return gone

    def info(self, key: str) -> dict[str, object]:
        """`GET /v1/balance/info` (captures/balance_info*)."""
        return {
            "api_key": key,
            "balance": self.available_msats,
            "reserved": self.reserved_msats,
            "is_child": False,
            "total_requests": self.answers,
            "total_spent": self.billed_msats,
            "balance_limit": None,
            "balance_limit_reset": None,
            "validity_date": None,
        }


def new_token() -> str:
    """A Cashu token to hand out as change; nobody could redeem it."""
    return f"cashuB{token_hex(32)}"
