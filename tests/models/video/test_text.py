"""Prompts to embeddings."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from longtake.models.video.text import TextEncoder, add_prompt, encode_tokens, join_tokens


@pytest.fixture(scope="module")
def encoder(make_text_encoder):
    return make_text_encoder(length=12)


def test_length_is_fixed_and_padding_is_zero(encoder):
    for prompt in ("a", "a red ball", "x" * 500):
        embeddings = encoder([prompt])
        tokens = len(encoder.tokens(prompt))
        assert embeddings.shape == (1, 12, 16)
        assert embeddings[0, :tokens].abs().sum(-1).min() > 0
        assert torch.equal(embeddings[0, tokens:], torch.zeros(12 - tokens, 16))


def test_padding_does_not_change_the_tokens_before_it(make_text_encoder):
    short, long = make_text_encoder(length=4), make_text_encoder(length=12)
    torch.testing.assert_close(short(["abc"])[0], long(["abc"])[0, :4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [2, 3, 6, 12])
def test_tokens_are_those_of_the_library_tokenizer(length, make_tokenizer, make_text_encoder):
    """With Wan's settings: cut to the length, the end mark kept."""
    library = PreTrainedTokenizerFast(tokenizer_object=make_tokenizer())
    encoder = make_text_encoder(length=length)
    for prompt in ("a", "abcd", "a red ball", "x" * 500):
        expected = library(prompt, max_length=length, truncation=True).input_ids
        assert encoder.tokens(prompt) == expected
        assert expected[-1] == 1


def test_whitespace_is_cleaned(encoder):
    tidy = encoder.tokens("a red ball")
    for untidy in ("  a red ball ", "a\tred\n\nball", "a  red\u00a0\u3000ball\r\n"):
        assert encoder.tokens(untidy) == tidy


def test_case_and_punctuation_are_kept(encoder):
    assert len({tuple(encoder.tokens(prompt)) for prompt in ("a b", "A b", "a b.", "a, b")}) == 4


def test_deterministic_and_sensitive_to_every_word(encoder):
    assert torch.equal(encoder(["red ball"]), encoder(["red ball"]))
    assert not torch.equal(encoder(["red ball"]), encoder(["ball red"]))


def test_prompts_are_read_one_after_the_other(encoder):
    told = [*encoder.tokens("a"), *encoder.tokens("it")]
    ids = torch.tensor([[*told, *[0] * (12 - len(told))]])
    expected = encode_tokens(encoder.model, ids, (ids > 0).long())
    assert torch.equal(encoder(["a", "it"]), expected)
    assert not torch.equal(encoder(["it", "a"]), expected)


def test_without_room_the_oldest_prompts_go_and_the_newest_is_cut():
    rows = [[1, 2, 3], [4], [5, 6]]
    assert join_tokens(rows, 6) == [1, 2, 3, 4, 5, 6]
    assert join_tokens(rows, 5) == [4, 5, 6]
    assert join_tokens(rows, 2) == [5, 6]
    assert join_tokens(rows, 1) == [5]
    assert join_tokens([[1], [2, 2, 2], [3]], 3) == [3]


def test_a_prompt_is_added_to_those_before_it():
    assert add_prompt(("a ball",), "night falls", 1) == ("night falls",)
    assert add_prompt(("a ball",), "night falls", 3) == ("a ball", "night falls")
    assert add_prompt(("a", "b", "c"), "d", 3) == ("b", "c", "d")


@pytest.mark.parametrize("new", ["it snows", "it snows a lot", "it"])
def test_a_prompt_that_is_still_being_typed_takes_its_own_place(new):
    assert add_prompt(("a ball", "it snows"), new, 3) == ("a ball", new)


def test_settings_stored_in_the_tokenizer_do_not_matter(make_tokenizer, encoder):
    tokenizer = make_tokenizer()
    tokenizer.enable_padding(length=20, pad_id=0)
    tokenizer.enable_truncation(2)
    other = TextEncoder(encoder.model, tokenizer, 12)
    assert other.tokens("a red") == encoder.tokens("a red")
    assert torch.equal(other(["a red"]), encoder(["a red"]))


def test_a_prompt_without_tokens_gives_zeros(encoder):
    ids = torch.zeros(1, 12, dtype=torch.long)
    assert torch.equal(encode_tokens(encoder.model, ids, ids), torch.zeros(1, 12, 16))


def test_embeddings_have_the_dtype_of_the_model(make_text_encoder):
    encoder = make_text_encoder()
    encoder.model.to(torch.bfloat16)
    embeddings = encoder(["a red ball"])
    assert embeddings.dtype == torch.bfloat16
    assert embeddings.isfinite().all()
