"""Whose rules: header, model name, client, keywords, default, none; the first that applies."""

from __future__ import annotations

import pytest

from arbstr.core.policy import (
    Choice,
    ClientRule,
    Policies,
    PolicySource,
    Rule,
    Selector,
    UnknownPolicyError,
)

CODE = Rule("code", keywords=("code", "fix bug", "c++"))
PROSE = Rule("prose", keywords=("essay", "poem"))
QUICK = Rule("quick")
RULES = (CODE, PROSE, QUICK)
CLIENTS = (
    ClientRule("claude-cli*", "code"),
    ClientRule("sk-arb-*", "prose"),
    ClientRule("*", "quick"),
)


def choose(
    policies: Policies,
    *,
    header: str | None = None,
    model: str = "gpt-4o",
    text: str = "hello",
    user_agent: str = "",
    key: str = "",
) -> Choice:
    return Selector(policies).choose(
        header=header, model=model, text=text, user_agent=user_agent, key=key
    )


ALL = Policies(RULES, default="quick", clients=CLIENTS[:2])


def test_the_header_comes_first() -> None:
    found = choose(ALL, header="prose", model="arbstr/code", text="code", user_agent="claude-cli/2")
    assert found == Choice(PROSE, "header", any_model=True)


def test_the_header_can_switch_policies_off() -> None:
    assert choose(ALL, header="none", text="code") == Choice(None, "none")
    assert choose(ALL, header="none", model="arbstr/code") == Choice(None, "none", any_model=True)


def test_the_models_name_comes_second() -> None:
    found = choose(ALL, model="arbstr/prose", text="code", user_agent="claude-cli/2")
    assert found == Choice(PROSE, "model", any_model=True)


@pytest.mark.parametrize("where", [{"header": "nope"}, {"model": "arbstr/nope"}])
def test_an_unknown_name_lists_the_known(where: dict[str, str]) -> None:
    with pytest.raises(UnknownPolicyError, match="code, prose, quick") as caught:
        choose(ALL, **where)
    assert caught.value.known == ("code", "prose", "quick")


@pytest.mark.parametrize("model", ["auto", "arbstr/auto"])
def test_auto_asks_for_any_model_under_whatever_applies(model: str) -> None:
    assert choose(ALL, model=model) == Choice(QUICK, "default", any_model=True)
    assert choose(ALL, model=model, text="a poem") == Choice(PROSE, "keyword", any_model=True)
    assert choose(Policies(), model=model) == Choice(None, "none", any_model=True)


@pytest.mark.parametrize(
    ("user_agent", "key", "policy"),
    [
        ("claude-cli/2.1.197 (external, sdk-cli)", "", "code"),
        ("Claude-CLI/3", "", "code"),
        ("curl/8", "sk-arb-123", "prose"),
        ("claude-cli/2", "sk-arb-123", "code"),
        ("my claude-cli/2", "", "quick"),
        ("curl/8", "sk-other", "quick"),
        ("", "", "quick"),
    ],
)
def test_clients_are_known_by_user_agent_or_key(user_agent: str, key: str, policy: str) -> None:
    found = choose(ALL, user_agent=user_agent, key=key, text="hello")
    assert found.name == policy
    assert found.source == ("default" if policy == "quick" else "client")


def test_a_client_rule_goes_before_keywords() -> None:
    policies = Policies(RULES, clients=(ClientRule("*", "quick"),))
    assert choose(policies, text="write code").source == "client"


@pytest.mark.parametrize(
    ("text", "policy", "source"),
    [
        ("write some code", "code", "keyword"),
        ("CODE!", "code", "keyword"),
        ("please fix  bug\t7", "code", "keyword"),
        ("please fix\nbug", "code", "keyword"),
        ("in c++, please", "code", "keyword"),
        ("decode this", "quick", "default"),
        ("codes", "quick", "default"),
        ("prefix bug", "quick", "default"),
        ("a poem and an essay about code", "prose", "keyword"),
        ("a poem about code", "code", "keyword"),
        ("a poem, a poem, a poem about code", "code", "keyword"),
        ("", "quick", "default"),
    ],
)
def test_keywords_are_whole_words_and_most_hits_win(
    text: str, policy: str, source: PolicySource
) -> None:
    found = choose(ALL, text=text)
    assert (found.name, found.source) == (policy, source)


def test_without_a_default_nothing_applies() -> None:
    assert choose(Policies(RULES)) == Choice(None, "none")
    assert choose(Policies(RULES)).name is None


def test_a_name_with_a_slash_is_no_policy() -> None:
    assert choose(Policies(RULES), model="openai/gpt-4o") == Choice(None, "none")
