"""Tests of the policies: decoding, cached reading, reranking, scripted players."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import CODECS, byte_level, language_policy, random_lm

from lmrl.models.cache import PrefixReader, _split, evaluation
from lmrl.models.window import readable
from lmrl.modules.mc_returns import MCReturns
from lmrl.play.person import Person
from lmrl.policies.core import Action, Policy, Request
from lmrl.policies.decoding import Decoding, GuidedLogits, sample, sampleable
from lmrl.policies.language_model import LanguageModelPolicy
from lmrl.policies.randomness import Uniforms
from lmrl.policies.reranker import Reranker
from lmrl.policies.scripted import RandomPolicy
from lmrl.text.trajectory import Turn

CODEC = byte_level()
PROBABILITIES = (0.4, 0.3, 0.2, 0.1)
LOGITS = torch.tensor([PROBABILITIES]).log()
ALL = torch.ones(4, dtype=torch.bool)


def said(text: str, is_action: bool = False) -> Turn:
    return Turn(text, is_action)


def distribution(decoding: Decoding, output: Any = LOGITS, allowed: Tensor = ALL) -> list[float]:
    return decoding.log_probs(output, allowed).exp()[0].tolist()


# Decoding: literal numbers.


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        (Decoding(), [0.4, 0.3, 0.2, 0.1]),
        (Decoding(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        (Decoding(temperature=0), [1, 0, 0, 0]),
        (Decoding(top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (Decoding(top_k=9), [0.4, 0.3, 0.2, 0.1]),
        (Decoding(top_p=0.65), [4 / 7, 3 / 7, 0, 0]),  # 0.4 is too little, 0.4 + 0.3 enough
        (Decoding(top_p=0.75), [4 / 9, 3 / 9, 2 / 9, 0]),
        (Decoding(top_p=0.01), [1, 0, 0, 0]),
        (Decoding(support=0.6), [4 / 7, 3 / 7, 0, 0]),  # 0.2 is half of 0.4
        (Decoding(support=0.4), [4 / 9, 3 / 9, 2 / 9, 0]),
        (Decoding(support=1), [1, 0, 0, 0]),
        # At temperature 0.5 the two likeliest of the top three have 25/29 of their probability.
        (Decoding(temperature=0.5, top_k=3, top_p=0.86), [16 / 25, 9 / 25, 0, 0]),
    ],
)
def test_each_filter_leaves_what_it_says(decoding: Decoding, expected: list[float]) -> None:
    assert distribution(decoding) == pytest.approx(expected, abs=1e-7)


def test_support_is_judged_by_the_prior_and_not_by_the_guided_logits() -> None:
    values = torch.tensor([[0.0, 0.0, 0.0, 9.0]])  # the least plausible token is overrated
    guided = GuidedLogits(LOGITS + values, LOGITS)
    assert distribution(Decoding(temperature=0), guided) == [0, 0, 0, 1]
    assert distribution(Decoding(temperature=0, support=0.3), guided) == [1, 0, 0, 0]
    assert distribution(Decoding(support=0.3), guided) == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0], abs=1e-7)


def test_the_prior_is_judged_before_the_temperature() -> None:
    assert distribution(Decoding(temperature=100.0, support=0.6))[2:] == [0, 0]
    assert distribution(Decoding(temperature=0.1, support=0.4))[2] > 0


def test_forbidden_ids_do_not_count_as_likeliest() -> None:
    allowed = torch.tensor([False, True, True, True])
    expected = [0, 3 / 5, 2 / 5, 0]
    assert distribution(Decoding(support=0.5), LOGITS, allowed) == pytest.approx(expected, abs=1e-7)
    assert distribution(Decoding(top_k=2), LOGITS, allowed) == pytest.approx(expected, abs=1e-7)
    assert distribution(Decoding(temperature=0), LOGITS, allowed) == [0, 1, 0, 0]


def test_equals_are_kept_in_order_of_their_ids() -> None:
    level = torch.zeros(1, 4)
    assert distribution(Decoding(top_k=2), level) == [0.5, 0.5, 0, 0]
    assert distribution(Decoding(temperature=0), level) == [1, 0, 0, 0]


def test_who_has_tried_everything_may_begin_anew() -> None:
    ids = [i for i in range(CODEC.size) if i != CODEC.pad_id]
    tried = tuple(Turn("", True, tokens=(i,)) for i in ids)
    policy = language_policy(random_lm("gpt2", CODEC.size), CODEC, decoding=Decoding(retry=False), max_new_tokens=1)
    observed = (said("You see elm.\n"),)
    (last,) = policy.act([Request(observed, tried=tried[:-1])])
    assert (last.tokens, last.log_probs) == ((ids[-1],), (0.0,))
    assert policy.act([Request(observed, tried=tried)]) == policy.act([Request(observed)])


def test_each_row_is_filtered_on_its_own() -> None:
    both = torch.cat([LOGITS, LOGITS.flip(-1)])
    found = Decoding(top_k=1).log_probs(both, ALL).exp()
    assert found.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"temperature": math.nan}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"support": 2.0}],
)
def test_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Decoding(**wrong)


def test_sampling_inverts_the_cumulative_distribution() -> None:
    uniforms = [0.0, 0.39, 0.41, 0.69, 0.71, 0.89, 0.91, 1 - 2**-53]
    rows = LOGITS.double().expand(len(uniforms), 4)
    assert sample(rows, torch.tensor(uniforms, dtype=torch.float64)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_sampling_never_returns_what_is_impossible() -> None:
    rows = torch.tensor([[-torch.inf, 0.0, -torch.inf]] * 2, dtype=torch.float64)
    assert sample(rows, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)).tolist() == [1, 1]


def test_logits_that_are_not_numbers_are_an_error() -> None:
    rows = Decoding().log_probs(torch.tensor([[math.nan, 0.0, 0.0, 0.0]]), ALL)
    with pytest.raises(ValueError, match="diverged"):
        sample(rows, torch.tensor([0.5], dtype=torch.float64))


def test_padding_and_spare_rows_cannot_be_said() -> None:
    allowed = sampleable(CODEC, CODEC.size + 3)
    assert allowed.tolist() == [i != CODEC.pad_id for i in range(CODEC.size)] + [False] * 3


def test_uniform_numbers_depend_on_seed_turn_and_place_only() -> None:
    uniforms = Uniforms()
    first = uniforms.draw(7, 3, 5)
    fresh = np.random.Generator(np.random.Philox(key=np.array([7, 3], dtype=np.uint64))).random(9)
    assert uniforms.draw(7, 4, 5).tolist() != first.tolist()
    assert uniforms.draw(8, 3, 5).tolist() != first.tolist()
    assert uniforms.draw(7, 3, 9).tolist() == fresh.tolist()
    assert first.tolist() == fresh[:5].tolist()
    assert 0 <= uniforms.draw(-1, 2**70, 1)[0] < 1


# The language model: an independent twin without any cache.


def uncached(lm: Any, codec: Any, decoding: Decoding, request: Request, count: int) -> tuple[list[int], list[float]]:
    """Draw an utterance with a full forward pass of the whole model for each token."""
    ids, new, log_probs = codec.history(request.history), [], []
    uniforms = np.random.Generator(np.random.Philox(key=np.array([request.seed, request.turn], np.uint64))).random(
        count
    )
    allowed = torch.tensor([i != codec.pad_id for i in range(codec.size)])
    for uniform in uniforms:
        with torch.no_grad():
            logits = lm(input_ids=torch.tensor([ids + new]), use_cache=False).logits[:, -1]
        row = decoding.log_probs(logits, allowed)[0]
        token = int((row.exp().cumsum(0) <= uniform).sum())
        new.append(token)
        log_probs.append(float(row[token]))
        if token in codec.stop_ids:
            break
    return new, log_probs


@pytest.mark.parametrize(
    ("family", "attention"),
    [("gpt2", "sdpa"), ("gpt2", "eager"), ("llama", "eager"), ("llama", "sdpa"), ("qwen2", "sdpa")],
)
def test_cached_equals_uncached(family: str, attention: str) -> None:
    codec = CODECS[family]()
    lm = random_lm(family, codec.size)
    lm.set_attn_implementation(attention)
    chance = np.random.default_rng(0)
    for decoding in (Decoding(), Decoding(temperature=0), Decoding(temperature=0.8, top_k=30, top_p=0.9)):
        policy = language_policy(lm, codec, decoding=decoding, max_new_tokens=3)
        histories: list[tuple[Turn, ...]] = [()] * 5
        for turn in range(4):
            # Conversations of very different lengths; some sit out; one remembers only two turns; one starts anew.
            asked = [int(i) for i in chance.permutation(5)[: 3 if turn % 2 else 5]]
            requests = []
            for i in asked:
                before = () if i == 4 and turn == 2 else histories[i]
                before = before[-1:] if i == 3 else before
                histories[i] = (
                    *before,
                    said("You see " + "apple, " * int(chance.integers(1, 40 if i == 1 else 4)) + "\n"),
                )
                requests.append(Request(histories[i], slot=i, seed=100 + i, turn=turn))
            for i, request, action in zip(asked, requests, policy.act(requests), strict=True):
                ids, log_probs = uncached(lm, codec, decoding, request, 3)
                assert action.tokens == tuple(ids)
                end = codec.tokenizer.eos_token
                assert action.text == (codec.decode(ids) + "\n" * codec.decode(ids).endswith(end)).replace(end, "")
                assert action.log_probs == pytest.approx(log_probs, abs=1e-4)
                histories[i] = (*histories[i], Turn(action.text, True, tokens=action.tokens))


def test_only_new_tokens_are_computed() -> None:
    policy = language_policy(random_lm("gpt2", CODEC.size), CODEC, decoding=Decoding(), max_new_tokens=1)
    first = said("apple boat cloud dune elm\n" * 8)  # too long to be remembered as a whole
    reader = policy._reader
    policy.act([Request((first,))])
    assert reader.tokens_computed == len(CODEC.encode(first.text))
    reader.tokens_computed = 0
    news = said("You see elm.\n")
    action = Turn("x", True, tokens=(40,))
    policy.act([Request((first, action, news))])
    assert reader.tokens_computed == 1 + len(CODEC.encode(news.text))
    reader.tokens_computed = 0
    policy.act([Request((first, action, said("You see a boat.\n")))])  # shares "You see"
    shared = [a == b for a, b in zip(CODEC.encode(news.text), CODEC.encode("You see a boat.\n"), strict=False)]
    assert reader.tokens_computed == len(CODEC.encode("You see a boat.\n")) - shared.index(False)


def test_what_was_asked_before_in_another_slot_is_not_computed_again() -> None:
    policy = language_policy(random_lm("gpt2", CODEC.size), CODEC, max_new_tokens=1)
    history = (said("You see elm.\n"),)
    same = policy.act([Request(history, slot=slot, seed=slot) for slot in range(6)])
    assert policy._reader.tokens_computed == len(CODEC.history(history))
    policy._reader.tokens_computed = 0
    assert policy.act([Request(history, slot=9, seed=4)]) == [same[4]]
    assert policy._reader.tokens_computed == 0


def test_repeated_slots_are_conversations_of_their_own() -> None:
    lm = random_lm("gpt2", CODEC.size)
    texts = ["You see elm.\n" * n for n in (1, 9, 2, 12)]
    together = language_policy(lm, CODEC).act([Request((said(text),), seed=i) for i, text in enumerate(texts)])
    for i, (text, action) in enumerate(zip(texts, together, strict=True)):
        assert language_policy(lm, CODEC).act([Request((said(text),), seed=i)])[0].tokens == action.tokens


def test_changed_weights_count_after_reset() -> None:
    lm = random_lm("gpt2", CODEC.size)
    policy = language_policy(lm, CODEC, decoding=Decoding(), max_new_tokens=5)
    request = Request((said("You see elm.\n" * 9),), seed=3)
    policy.act([request])
    lm.load_state_dict(random_lm("gpt2", CODEC.size, seed=1).state_dict())
    policy.reset()
    assert policy.act([request])[0].tokens == tuple(uncached(lm, CODEC, Decoding(), request, 5)[0])


class Loud:
    """Next-token logits with one certain token after another."""

    def __init__(self, script: list[int], size: int) -> None:
        self.script, self.size, self.calls = script, size, 0

    def __call__(self, hidden: tuple[Tensor, ...]) -> Tensor:
        logits = torch.zeros(len(hidden[0]), self.size)
        logits[:, self.script[self.calls]] = 60.0
        logits[:, CODEC.pad_id] = 90.0  # louder still, and never to be said
        self.calls += 1
        return logits


def scripted(script: list[int], max_new_tokens: int) -> Action:
    policy = LanguageModelPolicy(
        trunks=(random_lm("gpt2", CODEC.size).base_model,),
        next_logits=Loud(script, CODEC.size),
        codec=CODEC,
        decoding=Decoding(),
        max_new_tokens=max_new_tokens,
    )
    return policy.act([Request((said("You see elm.\n"),))])[0]


def test_an_utterance_ends_with_a_stop_id_or_when_it_is_long_enough() -> None:
    word, (stop,), end = 70, CODEC.encode("\n"), CODEC.tokenizer.eos_token_id
    assert scripted([word, word, stop, word], 9).tokens == (word, word, stop)
    assert scripted([word, end, word], 9).tokens == (word, end)
    assert scripted([word, word, stop, word], 2).tokens == (word, word)
    action = scripted([word, stop], 9)
    assert action.text == CODEC.decode([word]) + "\n"
    assert action.log_probs == pytest.approx((0.0, 0.0), abs=1e-9)


def test_the_end_of_text_ends_a_line() -> None:
    """It is what was sampled and is trained, but environments know lines: `move up<|endoftext|>` is the move up."""
    word, (stop,), end = 70, CODEC.encode("\n"), CODEC.tokenizer.eos_token_id
    action = scripted([word, word, end], 9)
    assert (action.tokens, len(action.log_probs or ())) == ((word, word, end), 3)
    assert action.text == scripted([word, word, stop], 9).text == CODEC.decode([word, word]) + "\n"
    assert CODEC.turn(Turn(action.text, True, tokens=action.tokens))[-1] == end
    assert scripted([end], 9).text == "\n"
    assert CODEC.utterance([word, stop, end]) == CODEC.decode([word, stop])
    assert CODEC.utterance([]) == ""


def test_guidance_reads_one_state_of_each_trunk() -> None:
    prior, value = random_lm("gpt2", CODEC.size), random_lm("llama", CODEC.size, seed=5, width=48)

    def guided(hidden: tuple[Tensor, ...]) -> GuidedLogits:
        likely = prior.get_output_embeddings()(hidden[0])
        return GuidedLogits(likely + 2 * value.get_output_embeddings()(hidden[1]), likely)

    policy = LanguageModelPolicy(
        trunks=(prior.base_model, value.base_model),
        next_logits=guided,
        codec=CODEC,
        decoding=Decoding(temperature=0, support=0.2),
        max_new_tokens=3,
    )
    history = (said("You see elm.\n"),)
    action = policy.act([Request(history)])[0]
    ids, allowed = torch.tensor([CODEC.history(history)]), sampleable(CODEC, CODEC.size)
    for token in action.tokens or ():
        with torch.no_grad():
            likely, extra = prior(ids).logits[0, -1].masked_fill(~allowed, -1e9), value(ids).logits[0, -1]
        plausible = likely.softmax(-1) >= 0.2 * likely.softmax(-1).max()
        assert token == int((likely + 2 * extra).masked_fill(~plausible, -1e9).argmax())
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)


def test_states_are_the_trunks_last_hidden_states() -> None:
    lm = random_lm("qwen2", CODEC.size)
    histories = [(said("You see elm.\n"),), (said("You see"), said(" a boat, and apples and a cloud\n"))]
    (states,) = language_policy(lm, CODEC).states(histories)
    with torch.no_grad():
        expected = [lm.base_model(torch.tensor([CODEC.history(h)])).last_hidden_state[0, -1] for h in histories]
    assert torch.allclose(states, torch.stack(expected), atol=1e-5)


def test_acting_switches_dropout_off_and_back_on() -> None:
    lm = random_lm("gpt2", CODEC.size).train()
    lm.base_model.drop.p = 0.1
    policy = language_policy(lm, CODEC, max_new_tokens=3)
    request = Request((said("You see elm.\n"),), seed=2)
    action = policy.act([request])[0]
    assert lm.base_model.training
    assert lm.base_model.drop.training
    lm.eval()
    assert action.tokens == tuple(uncached(lm, CODEC, Decoding(), request, 3)[0])


def test_a_history_that_does_not_fit_is_an_error_that_names_lengths() -> None:
    policy = language_policy(random_lm("gpt2", CODEC.size, window=40), CODEC, max_new_tokens=6)
    with pytest.raises(ValueError, match=r"history of 35 tokens and max_new_tokens=6 .* window of 40 tokens"):
        policy.act([Request((Turn("x", True, tokens=(70,) * 35), said("")))])
    assert len(policy.act([Request((Turn("x", True, tokens=(70,) * 34), said("")))])[0].tokens or ()) <= 6


def test_a_window_may_be_full_while_others_are_short() -> None:
    lm = random_lm("gpt2", CODEC.size, window=40)
    full, short = Turn("x", True, tokens=(70,) * 34), Turn("y", True, tokens=(71,) * 3)
    policy = language_policy(lm, CODEC)
    policy.act([Request((full,), slot=0, seed=1)])
    long = (*((Turn("x", True, tokens=(70,) * 33)),), Turn("z", True, tokens=(72,)))
    actions = policy.act([Request(long, slot=0, seed=1), Request((short,) * 9, slot=1, seed=2)])
    assert actions[0].tokens == tuple(uncached(lm, CODEC, Decoding(), Request(long, seed=1), 6)[0])
    assert actions[1].tokens == tuple(uncached(lm, CODEC, Decoding(), Request((short,) * 9, seed=2), 6)[0])


def test_what_cannot_be_acted_on() -> None:
    lm = random_lm("gpt2", CODEC.size)
    with pytest.raises(ValueError, match="without any tokens"):
        language_policy(lm, CODEC).act([Request((said(""),))])
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1"):
        language_policy(lm, CODEC, max_new_tokens=0)
    with pytest.raises(ValueError, match="at least one trunk"):
        LanguageModelPolicy(trunks=(), next_logits=lambda h: h[0], codec=CODEC, decoding=Decoding(), max_new_tokens=1)
    assert language_policy(lm, CODEC).act([]) == []


# The cache beneath.


def test_sliding_windows_bound_what_can_be_read() -> None:
    from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "vocab_size": 9,
            "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}  # fmt: skip
    mistral = MistralForCausalLM(MistralConfig(sliding_window=12, max_position_embeddings=64, **tiny))
    qwen = Qwen2ForCausalLM(
        Qwen2Config(sliding_window=12, use_sliding_window=False, max_position_embeddings=64, **tiny)
    )
    assert readable(mistral.config) == 12
    assert readable(qwen.config) == 64


def test_layers_and_attention_that_cannot_be_cached_are_refused() -> None:
    trunk = random_lm("llama", 9).base_model
    trunk.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ValueError, match="linear_attention"):
        PrefixReader([trunk])
    other = random_lm("llama", 9).base_model
    other.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="eager or sdpa"):
        PrefixReader([other])


def test_conversations_that_come_and_go_in_any_order_stay_apart() -> None:
    trunk = random_lm("llama", 50).base_model
    reader, chance = PrefixReader([trunk]), np.random.default_rng(1)
    held: dict[int, list[int]] = {}
    for _ in range(15):
        asked = [int(i) for i in chance.permutation(9)[: int(chance.integers(1, 7))]]
        for i in asked:
            kept = held.get(i, [])[: int(chance.integers(0, 200))]
            held[i] = kept + chance.integers(0, 50, int(chance.choice([1, 1, 2, 30]))).tolist()
        with evaluation([trunk]):
            (states,) = reader.read([(i, held[i]) for i in asked])
            for i, state in zip(asked, states, strict=True):
                assert torch.allclose(state, trunk(torch.tensor([held[i]])).last_hidden_state[0, -1], atol=1e-4)


def test_padding_that_costs_more_than_a_forward_pass_is_not_computed() -> None:
    assert _split([1, 1, 1, 2], 0, 4) == [(0, 4)]
    assert _split([1] * 60 + [400, 400], 0, 62) == [(0, 60), (60, 62)]
    assert _split([500] * 64, 0, 64) == [(0, 32), (32, 64)]  # 16,000 tokens each
    assert _split([20000], 0, 1) == [(0, 1)]


# Reranking.

MOVES = ("move up\n", "go\n", "move to the boat\n")


def reranker(lm: Any, **settings: Any) -> Reranker:
    def scores(hidden: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
        return lm.get_output_embeddings()(hidden[0]).log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)

    return Reranker(trunks=(lm.base_model,), token_scores=scores, codec=CODEC, **({"proposals": MOVES} | settings))


def naive_score(lm: Any, history: tuple[Turn, ...], text: str) -> float:
    prefix, action = CODEC.history(history), list(CODEC.encode(text))
    with torch.no_grad():
        log_probs = lm(torch.tensor([prefix + action])).logits[0].log_softmax(-1)
    return sum(float(log_probs[len(prefix) + i - 1, token]) for i, token in enumerate(action))


def test_proposals_are_scored_by_the_sum_over_their_own_tokens() -> None:
    lm = random_lm("gpt2", CODEC.size)
    histories = [(said("You see elm.\n"),), (said("elm " * 30), said("go\n", True), said("You see a boat.\n"))]
    requests = [Request(history) for history in histories for _ in range(2)]  # repeated ones are computed once
    player = reranker(lm, batch_size=2)
    found = player.scores(requests, [MOVES] * 4)
    for request, values in zip(requests, found, strict=True):
        expected = [naive_score(lm, request.history, move) for move in MOVES]
        assert values.tolist() == pytest.approx(expected, abs=1e-4)
    best = [MOVES[int(values.argmax())] for values in found]
    assert [action.text for action in player.act(requests)] == best


def test_equal_values_make_proposals_of_any_length_equally_good() -> None:
    """Q = -5 everywhere: each proposal of Monte-Carlo returns scores -5, however many tokens it has."""
    module = MCReturns(
        lm=lambda: random_lm("gpt2", CODEC.size), codec=CODEC, gamma=1.0, cql_weight=0.0, beta=1.0, head_bias=-5.0,
        optimizer=torch.optim.SGD, steps=1, rerank={"proposals": ["a\n", "a b\n", "a much longer one\n"]},
    )  # fmt: skip
    player: Any = module.policy()
    requests = [Request((said("You see elm.\n"),)), Request((said("You see an old oak.\n"),))]
    for values in player.scores(requests, [player.proposals(request) for request in requests]):
        assert values.tolist() == [-5.0, -5.0, -5.0]
    with torch.no_grad():
        module.q.output.bias[CODEC.encode("b")[-1]] = 7.0  # in the midst of a proposal
    assert [values.tolist() for values in player.scores(requests[:1], [["a b\n", "a b"]])] == [[-5.0, 7.0]]


def test_proposals_are_sampled_in_proportion_to_exp() -> None:
    huge = {MOVES[0]: 5000.0, MOVES[1]: 5000.0 + math.log(3), MOVES[2]: -5000.0}  # exp of these is infinite or 0
    lm = random_lm("gpt2", CODEC.size)
    player = reranker(lm, temperature=1.0)
    player.scores = lambda requests, proposed: [np.array([huge[t] for t in texts]) for texts in proposed]  # type: ignore
    requests = [Request((said("You see elm.\n"),), seed=seed) for seed in range(4000)]
    counts = Counter(action.text for action in player.act(requests))
    assert counts[MOVES[2]] == 0
    assert counts[MOVES[1]] / 4000 == pytest.approx(0.75, abs=0.03)
    assert player.act(requests[7:8]) == player.act(requests)[7:8]


def test_proposals_may_depend_on_the_request() -> None:
    player = reranker(random_lm("gpt2", CODEC.size), proposals=lambda request: (f"turn {request.turn}\n",))
    assert [a.text for a in player.act([Request((said("x\n"),), turn=t) for t in (3, 4)])] == ["turn 3\n", "turn 4\n"]


def test_a_history_that_is_too_long_to_score_is_an_error() -> None:
    player = reranker(random_lm("gpt2", CODEC.size, window=40))
    with pytest.raises(ValueError, match=r"have 4[0-9] tokens, but the model's window holds 40"):
        player.act([Request((Turn("x", True, tokens=(70,) * 39), said("")))])


def test_a_reranker_needs_proposals() -> None:
    lm = random_lm("gpt2", CODEC.size)
    with pytest.raises(ValueError, match="at least one text"):
        reranker(lm, proposals=[])
    with pytest.raises(ValueError, match="no proposals at turn 2"):
        reranker(lm, proposals=lambda request: []).act([Request((said("x\n"),), turn=2)])
    with pytest.raises(ValueError, match="temperature"):
        reranker(lm, temperature=-1.0)


# Scripted players.


def test_random_actions_are_equally_likely_and_follow_the_seed() -> None:
    policy = RandomPolicy(actions=["a", "b", "c", "d"])
    requests = [Request((said("x"),), seed=seed, turn=turn) for seed in range(500) for turn in range(8)]
    counts = Counter(action.text for action in policy.act(requests))
    assert all(abs(counts[letter] - 1000) < 120 for letter in "abcd")
    assert policy.act(requests[5:6]) == policy.act(requests)[5:6]
    with pytest.raises(ValueError, match="at least one text"):
        RandomPolicy(actions=[])
    with pytest.raises(ValueError, match="must be a list"):
        RandomPolicy(actions="abc")


def test_all_players_are_policies() -> None:
    lm = random_lm("gpt2", CODEC.size)
    for player in (language_policy(lm, CODEC), reranker(lm), RandomPolicy(actions=["a"]), Person()):
        assert isinstance(player, Policy)
