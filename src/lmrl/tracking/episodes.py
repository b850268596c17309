"""Episodes in MLflow: a trace for each, a conversation with a span for every action."""

import gc
from dataclasses import dataclass
from typing import Any

from lmrl.rollout import Start
from lmrl.text.trajectory import Trajectory, messages, view
from lmrl.tracking.facts import rounded


@dataclass(frozen=True, slots=True)
class TraceOwner:
    """The experiment and the run of traces."""

    experiment_id: str
    run_id: str


def log_episode(
    where: TraceOwner, index: int, start: Start, trajectory: Trajectory, memory: int | None, session: str
) -> None:
    """Record one episode as a trace; its times are those of recording, for episodes are played side by side.

    Args:
        where: the run of the trace.
        index: the episode's number in the evaluation.
        start: how it began.
        trajectory: the episode.
        memory: the number of last turns that the policy was shown; `None` for all.
        session: the name of the evaluation.
    """
    import mlflow
    from mlflow.entities import AssessmentSource
    from mlflow.entities.trace_location import MlflowExperimentLocation

    chat, shown = messages(trajectory), with_rewards(trajectory)
    success, total, turns = bool(trajectory.info.get("success", False)), trajectory.total_reward, trajectory.length
    outcome = f"return {total:g}, {'success' if success else 'no success'}, {turns} {'turn' if turns == 1 else 'turns'}"
    begins = ", ".join(f"{key} {value}" for key, value in start.options.items()) or f"seed {start.seed}"
    with mlflow.start_span(
        f"episode {index}: {outcome}",
        span_type="AGENT",
        attributes={"seed": start.seed, "start": str(dict(start.options)), "return": total},
        trace_destination=MlflowExperimentLocation(where.experiment_id),
        run_id=where.run_id,
    ) as root:
        mlflow.update_current_trace(
            tags={"return": f"{total:g}", "success": str(success).lower(), "turns": str(turns)},
            session_id=session,
            request_preview=begins,
            response_preview=f"{outcome} … {chat[-1]['content'].strip()}",
        )
        root.set_inputs({"messages": shown[:1]})
        for position, turn in enumerate(trajectory.turns):
            if turn.is_action:
                seen = len(view(trajectory.turns[:position], memory))
                attributes: dict[str, Any] = {"reward": turn.reward}
                if turn.log_probs is not None:
                    attributes["log_prob"] = rounded(sum(turn.log_probs))
                name = f"{turn.text.strip() or '(nothing)'} · {turn.reward:g}"
                with mlflow.start_span(name, "CHAT_MODEL", attributes) as span:
                    span.set_inputs({"messages": chat[position - seen : position]})
                    span.set_outputs({"messages": chat[position : position + 1], "reward": turn.reward})
        root.set_outputs({"messages": shown[1:], "return": total})
        for name, value in (("return", total), ("success", success)):
            mlflow.log_feedback(trace_id=root.trace_id, name=name, value=value, source=AssessmentSource("CODE", "lmrl"))


def end_tracing() -> None:
    """Release MLflow's tracing: its ID generator must be gone before the program ends (MLflow 3.17.2)."""
    from mlflow import tracing

    tracing.reset()
    gc.collect()


def with_rewards(trajectory: Trajectory) -> list[dict[str, str]]:
    """Return an episode's messages as a person reads them: each action is followed by the line of its reward."""
    return [
        {**message, "content": f"{message['content'].rstrip()}\n\nreward {turn.reward:g}"}
        if turn.is_action
        else message
        for message, turn in zip(messages(trajectory), trajectory.turns, strict=True)
    ]
