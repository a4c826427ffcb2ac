"""Token counts end up in buckets that do not overlap, whoever counted them and however."""

from __future__ import annotations

import pytest

from arbstr.core.usage import Usage, count, from_anthropic, from_openai


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        (0, 0),
        (7, 7),
        (7.0, 7),
        (2**53 - 1, 2**53 - 1),
        (2**53, None),
        (-1, None),
        (7.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ("7", None),
        (None, None),
        ([7], None),
    ],
)
def test_a_count_is_a_whole_number_or_nothing(value: object, counted: int | None) -> None:
    assert count(value) == counted


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # OpenAI, chat (captures chat_ok, odd_cached)
        ({"prompt_tokens": 11, "completion_tokens": 9}, Usage(11, None, None, 9)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(40, 60, None, 10, 4),
        ),
        # OpenAI, responses (capture responses_ok)
        (
            {
                "input_tokens": 100,
                "output_tokens": 10,
                "input_tokens_details": {"cached_tokens": 60},
                "output_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(40, 60, None, 10, 4),
        ),
        # DeepSeek
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 1,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
            },
            Usage(36, 64, None, 1),
        ),
        # OpenRouter: writes within the prompt
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50},
            },
            Usage(20, 30, 50, 1),
        ),
        # Anthropic's names in a chat answer: litellm counts all of them into the prompt
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 1,
                "cache_read_input_tokens": 30,
                "cache_creation_input_tokens": 50,
            },
            Usage(20, 30, 50, 1),
        ),
        # the detail and its alias are one number, not two
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 30},
                "cache_read_input_tokens": 30,
            },
            Usage(70, 30, None, 1),
        ),
        # more cached than there was prompt: never below 0
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 30},
            },
            Usage(0, 30, None, 1),
        ),
        # parts only
        ({"prompt_tokens": 5}, Usage(5)),
        ({"completion_tokens": 5}, Usage(output_tokens=5)),
        ({"prompt_tokens": 5, "completion_tokens": None}, Usage(5)),
        # nothing that counts
        ({}, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": "11", "completion_tokens": -1}, None),
        ({"prompt_tokens_details": None, "prompt_tokens": 1}, Usage(1)),
    ],
)
def test_openai_counts_cached_tokens_into_the_prompt(
    usage: dict[str, object], expected: Usage | None
) -> None:
    assert from_openai(usage) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 11, "output_tokens": 9}, Usage(11, None, None, 9)),
        (
            {
                "input_tokens": 11,
                "cache_read_input_tokens": 60,
                "cache_creation_input_tokens": 30,
                "output_tokens": 9,
                "cache_creation": {"ephemeral_5m_input_tokens": 30},
            },
            Usage(11, 60, 30, 9),
        ),
        (
            {
                "input_tokens": 1,
                "output_tokens": 9,
                "output_tokens_details": {"thinking_tokens": 4},
            },
            Usage(1, None, None, 9, 4),
        ),
        ({"output_tokens": 9}, Usage(output_tokens=9)),
        ({}, None),
        ({"input_tokens": None}, None),
    ],
)
def test_anthropic_counts_them_beside_it(usage: dict[str, object], expected: Usage | None) -> None:
    assert from_anthropic(usage) == expected


def test_the_prompt_is_all_input_buckets_together() -> None:
    assert Usage(11, 60, 30, 9).prompt_tokens == 101
    assert Usage(11).prompt_tokens == 11
    assert Usage(output_tokens=9).prompt_tokens is None
