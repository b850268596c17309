"""Windows, rows and batches: what is trained, where successors are, and that nothing is computed or counted twice."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl.models.tokenizer import build
from lmrl.text.codec import Codec
from lmrl.text.returns import average_returns, with_returns
from lmrl.text.tokens import TokenBatch, collate, tokenize
from lmrl.text.trajectory import Trajectory, Turn, windows

TEXTS = ("You see a door.\n", "You see 1 2 keys.\n", "open\n", "take 2 keys\n", "The end\n")


@pytest.fixture(scope="module")
def codec() -> Codec:
    return build(TEXTS, vocab_size=320)


def episode(*rewards: float, terminated: bool, ends_with_observation: bool = True) -> Trajectory:
    turns = [Turn(TEXTS[0], False)]
    for index, reward in enumerate(rewards):
        turns += [Turn(TEXTS[2 + index % 2], True, float(reward)), Turn(TEXTS[index % 2], False)]
    if not ends_with_observation:
        turns.pop()
    return Trajectory(tuple(turns), terminated=terminated, truncated=not terminated)


def batch(codec: Codec, trajectory: Trajectory, memory: int | None, replies: bool = False) -> TokenBatch:
    return collate([tokenize(w, codec) for w in windows(trajectory, memory, replies)], pad_id=codec.pad_id)


def test_an_observation_cannot_be_rewarded() -> None:
    with pytest.raises(ValueError, match="only an action can earn a reward"):
        Turn("hello", False, 1.0)


def test_memory_of_one_makes_a_row_of_each_decision() -> None:
    first, second = windows(episode(-1, 0, terminated=True), 1)
    assert [turn.text for turn in first.turns] == [TEXTS[0], TEXTS[2]]
    assert first.first_decision == 1
    assert [turn.text for turn in first.successor or ()] == [TEXTS[0]]
    assert second.successor is None
    assert second.terminated


def test_remembered_actions_are_context_and_not_decisions(codec: Codec) -> None:
    rows = [tokenize(w, codec) for w in windows(episode(-1, -2, -3, terminated=False), 3)]
    for row, reward in zip(rows, (-1, -2, -3), strict=True):
        decided = codec.decode(row.tokens[row.is_decision].tolist())
        assert decided in TEXTS[2:4]
        assert row.rewards.sum() == reward
        assert row.rewards[-1] == reward


def test_rewards_stand_on_the_last_token_of_an_action(codec: Codec) -> None:
    rows = batch(codec, episode(-1, -2, terminated=True), None)
    per_turn = [rows.reward[rows.turn == turn].tolist() for turn in (1, 3)]
    assert [values[-1] for values in per_turn] == [-1, -2]
    assert all(value == 0 for values in per_turn for value in values[:-1])


def test_decisions_and_successors_in_one_row(codec: Codec) -> None:
    trajectory = episode(-1, -2, terminated=False)
    rows = batch(codec, trajectory, None)
    ids = [codec.turn(turn) for turn in trajectory.turns]
    lengths = np.cumsum([len(i) for i in ids])
    assert rows.tokens.shape[0] == 1
    assert rows.action.tolist() == [*ids[1], *ids[3]]
    assert rows.position.tolist() == [*range(lengths[0] - 1, lengths[1] - 1), *range(lengths[2] - 1, lengths[3] - 1)]
    # After the last token of the first action comes the state before the second action, after the environment's reply.
    assert rows.next_position[len(ids[1]) - 1] == lengths[2] - 1
    assert rows.next_position[-1] == lengths[4] - 1
    assert rows.bootstraps.all()
    assert rows.is_known.all()


def test_nothing_follows_a_terminal_action(codec: Codec) -> None:
    rows = batch(codec, episode(-1, 0, terminated=True), 1)
    last = rows.turn == 1
    assert rows.bootstraps[rows.row == 0].all()
    assert not rows.bootstraps[(rows.row == 1) & rows.ends_turn].any()
    assert rows.is_known.all()
    assert last.any()


def test_a_recording_that_breaks_off_has_no_target(codec: Codec) -> None:
    rows = batch(codec, episode(-1, -1, terminated=False, ends_with_observation=False), 1)
    assert rows.is_known[rows.row == 0].all()
    assert not rows.is_known[(rows.row == 1) & rows.ends_turn].any()


def test_a_successor_is_read_where_a_row_of_the_batch_begins_with_it(codec: Codec) -> None:
    """Two steps of one episode: the first one's successor is the second one's state, and needs no row."""
    rows = batch(codec, episode(-1, -1, terminated=False), 1)
    end_of_first = int((rows.row == 0).nonzero()[-1])
    target = int(rows.next_row[end_of_first]), int(rows.next_position[end_of_first])
    prefix = rows.tokens[target[0], : target[1] + 1].tolist()
    assert codec.decode(prefix) == TEXTS[0]
    assert (rows.row_weight == 0).sum() == 1  # only the state after the last step is added


def test_equal_rows_are_computed_once_and_weigh_as_often_as_they_occur(codec: Codec) -> None:
    trajectory = episode(-1, terminated=True)
    row = tokenize(next(windows(trajectory, 1)), codec)
    twice = collate([row, row, row], pad_id=codec.pad_id)
    assert twice.tokens.shape[0] == 1
    assert twice.row_weight.tolist() == [3.0]
    assert set(twice.weight.tolist()) == {3.0}


def test_sampled_tokens_are_never_encoded_again(codec: Codec) -> None:
    """A model may spell a text in other tokens than the tokenizer would: its own are the ones to train on."""
    spelled = tuple(i for character in "open\n" for i in codec.encode(character))
    assert spelled != codec.encode("open\n")
    turns = (Turn(TEXTS[0], False), Turn("open\n", True, 1.0, tokens=spelled, log_probs=(-1.0,) * len(spelled)))
    rows = batch(codec, Trajectory(turns, terminated=True), 1)
    assert tuple(rows.action.tolist()) == spelled


def test_predicted_tokens_are_all_but_decisions_padding_and_the_first(codec: Codec) -> None:
    rows = batch(codec, episode(-1, -1, terminated=False), None)
    _, position, token, weight = rows.predicted()
    assert len(token) + len(rows.action) == int(rows.lengths.sum()) - 1
    assert torch.equal(rows.tokens[0, position + 1], token)
    assert set(weight.tolist()) == {1.0}


def test_average_returns_merges_what_is_otherwise_equal(codec: Codec) -> None:
    episodes = [[tokenize(w, codec) for w in windows(episode(r, terminated=True), 1)] for r in (-1.0, -1.0)]
    first, second = (with_returns(rows, 1.0, "token")[0] for rows in episodes)
    second.extras["returns"][:] = -3.0
    merged = average_returns([first, second])
    assert merged[0].key == merged[1].key
    assert merged[0].extras["returns"].tolist() == [-2.0] * int(first.is_decision.sum())


@settings(max_examples=50, deadline=None)
@given(
    rewards=st.lists(st.sampled_from([-4.0, -1.0, 0.0, 1.0]), min_size=1, max_size=6),
    memory=st.sampled_from([None, 1, 2, 3, 5, 40]),
    terminated=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_a_batch_holds_each_decision_once(
    codec: Codec, rewards: list, memory: int | None, terminated: bool, order
) -> None:
    """Whatever memory and order: the same actions with the same rewards, each with a valid successor."""
    trajectory = episode(*rewards, terminated=terminated)
    rows = [tokenize(w, codec) for w in windows(trajectory, memory)]
    order.shuffle(rows)
    laid = collate(rows, pad_id=codec.pad_id)
    expected = sorted(i for turn in trajectory.turns if turn.is_action for i in codec.turn(turn))
    repeated = torch.repeat_interleave(laid.action, laid.weight.long())
    assert sorted(repeated.tolist()) == expected
    assert float((laid.reward * laid.weight).sum()) == pytest.approx(sum(rewards))
    assert (laid.next_position < laid.lengths[laid.next_row]).all()
    assert ((~laid.bootstraps).float() * laid.weight).sum() == float(terminated)
    chosen = laid.tokens[laid.row, laid.position + 1]
    assert torch.equal(chosen, laid.action)


def test_memory_must_be_positive() -> None:
    with pytest.raises(ValueError, match="memory must be at least 1"):
        list(windows(episode(-1, terminated=True), 0))


def test_a_tokenizer_that_cannot_write_the_task_is_refused(codec: Codec) -> None:
    class Deaf:
        pad_token_id, eos_token_id = 0, None

        def __call__(self, texts: list[str], **_: object) -> dict:
            return {"input_ids": [[1] for _ in texts]}

        def batch_decode(self, rows: list[list[int]], **_: object) -> list[str]:
            return ["?" for _ in rows]

    with pytest.raises(ValueError, match=r"cannot encode this task: 'open\\n' comes back as '\?'"):
        Codec(Deaf()).check(["open\n"])
    codec.check(["any text: ü 漢字 🙂\n"])
