"""Sweeps: what the jobs are, how they share a machine, how they end, and what the same command does the next time."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, names
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console

from lmrl.config.checks import ConfigError
from lmrl.runs.folders import RunFolders, config_hash, is_busy, open_run, run_name
from lmrl.sweeps.command import defer
from lmrl.sweeps.jobs import Command, Job, complaint
from lmrl.sweeps.places import Place, Schedule
from lmrl.sweeps.processes import Processes, choose_workers, share_cores, share_devices
from lmrl.sweeps.screen import SweepScreen
from lmrl.sweeps.slurm import Slurm
from lmrl.sweeps.state import SweepFolder, sweep_digest
from lmrl.sweeps.tables import best, labels, markdown, over_seeds, print_tables
from lmrl.system.equipment import read_listing, visible_devices

JOB = """
import json, sys, time
from pathlib import Path
from lmrl.runs.folders import open_run

said = dict(argument.split("=", 1) for argument in sys.argv[1:])
folder = open_run(Path(said["runs_dir"]), "toy", "bc", said["name"], resume=said.get("resume") == "true")
steps = folder / "steps"


def leave(status):
    evaluated = {"return_mean": float(said.get("earns", 0)), "score": None, "own_score": 50.0}
    (folder / "summary.json").write_text(json.dumps({"status": status, "evaluation": evaluated}))
    sys.exit(0 if status == "finished" else 1)


try:
    while (done := int(steps.read_text()) if steps.exists() else 0) < int(said.get("steps", 1)):
        steps.write_text(str(done + 1))
        time.sleep(0.1)
except KeyboardInterrupt:
    leave("interrupted")
if "fails" in said:
    print("training\\nerror: " + said["fails"])
    leave("failed")
leave("finished")
"""
"""A program that keeps a run's folder as run.py does, in a second."""


def jobs_of(folder: Path, *many: dict[str, object]) -> list[Job]:
    """Jobs of a program that takes overrides and leaves a summary."""
    script = folder / "job.py"
    script.write_text(JOB)
    jobs = []
    for number, said in enumerate(many):
        name = run_name("toy", "bc", number, f"{number:06}")
        arguments = [f"{key}={value}" for key, value in {**said, "name": name, "runs_dir": folder / "runs"}.items()]
        runs = RunFolders(folder / "runs", "toy", "bc", name)
        command = Command(str(script), tuple(arguments), runs, folder / "logs" / f"{name}.log", {})
        config = OmegaConf.create({"hardware": {"threads": None, "devices": 1}})
        jobs.append(Job(number, (f"seed={number}",), (f"seed={number}",), command, config))
        jobs[-1].refresh()
    return jobs


def schedule(place: object, jobs: Sequence[Job], log: Path) -> tuple[bool, str]:
    """Run jobs to their end, and return whether nobody stopped them and what was shown."""
    with log.open("w") as file, SweepScreen(jobs, Console(file=file, width=200)) as screen:
        stopped_by = Schedule(place, screen, lambda: None).run(jobs)  # type: ignore[arg-type]
    return not stopped_by, log.read_text()


@pytest.mark.parametrize(
    ("cores", "workers", "processes", "expected"),
    [(8, 1, 1, 8), (8, 3, 1, 2), (8, 2, 2, 2), (2, 4, 1, 1), (64, 8, 1, 8), (1, 1, 8, 1)],
)
def test_threads_never_ask_for_more_than_the_cores(cores: int, workers: int, processes: int, expected: int) -> None:
    assert share_cores(cores, workers, processes) == expected


@pytest.mark.parametrize(
    ("devices", "workers", "expected"),
    [
        ("01234567", 8, ["0", "1", "2", "3", "4", "5", "6", "7"]),
        ("01234567", 4, ["01", "23", "45", "67"]),
        ("01234567", 3, ["01", "23", "45"]),  # equal shares: jobs of one sweep must be comparable
        ("01", 3, ["0", "1", "0"]),
        ("", 2, ["", ""]),
    ],
)
def test_gpus_are_shared_equally(devices: str, workers: int, expected: list[str]) -> None:
    assert ["".join(share) for share in share_devices(list(devices), workers)] == expected


def test_the_number_of_workers_follows_the_machine() -> None:
    assert choose_workers(64, ["0", "1"]) == 2
    assert choose_workers(16, []) == 4
    assert choose_workers(2, []) == 1


def test_devices_are_named_as_cuda_takes_them() -> None:
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "3, 5"}) == ["3", "5"]
    assert visible_devices({"CUDA_VISIBLE_DEVICES": ""}) == visible_devices({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    whole = "GPU 0: NVIDIA H100 (UUID: GPU-aa)\nGPU 1: NVIDIA H100 (UUID: GPU-bb)\n"
    assert read_listing(whole) == ["0", "1"]
    sliced = "GPU 0: NVIDIA H100 (UUID: GPU-aa)\n  MIG 3g Device 0: (UUID: MIG-1)\n  MIG 3g Device 1: (UUID: MIG-2)\n"
    assert read_listing(sliced) == ["MIG-1", "MIG-2"]


@pytest.mark.parametrize(("key", "value"), [("workers", 0), ("threads", -1), ("workers", True)])
def test_a_wrong_number_of_workers_is_refused(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"launcher\.{key} must be a whole number above 0, or null, got {value}"):
        Processes(**{key: value})


def test_a_sweep_is_what_it_varies() -> None:
    said, sweeper = ["task=maze", "seed=0,1"], {"params": {"algo.steps": "1,2"}, "n_trials": 4}
    same = sweep_digest(said, sweeper)
    elsewhere = ["seed=0,1", "launcher=slurm", "task=maze", "+launcher.workers=4", "hardware.threads=1", "runs_dir=x"]
    assert sweep_digest([*elsewhere, "tracking=none", "resume=true"], {**sweeper, "n_trials": 8}) == same
    assert sweep_digest(["task=maze", "seed=0,1,2"], sweeper) != same
    assert sweep_digest(said, {"params": {"algo.steps": "1,2,3"}}) != same


def test_what_a_varied_group_contains_is_set_in_each_job() -> None:
    said = [
        "-m",
        "task=maze,wordle",
        "algo=bc,ilql",
        "algo.steps=4",
        "+task.env.max=2",
        "model.lr=1",
        "seed=0,1",
        "~algo.x",
    ]
    deferred = ["algo.steps=choice(4)", "+task.env.max=choice(2)", "model.lr=1", "seed=0,1", "~algo.x"]
    assert defer(said) == [*said[:3], *deferred]
    assert defer(["task=maze", "algo=bc", "algo.steps=4"]) == ["task=maze", "algo=bc", "algo.steps=4"]


def test_a_configuration_is_the_same_wherever_it_runs() -> None:
    here = {"seed": 0, "launcher": {"workers": 1}, "hardware": {"threads": 1}}
    assert config_hash(here) == config_hash({"seed": 0, "launcher": {"parameters": {}}, "resume": True})
    assert config_hash(here) != config_hash({**here, "seed": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ run.py\nerror: old\n$ run.py\nerror: beta must be above 0\n", "beta must be above 0"),
        ("$ run.py\nTraceback\n  File x\na.b.MemoryError: no room\n\nSet HYDRA\n", "a.b.MemoryError: no room"),
        ("$ run.py\nValueError: old\n$ run.py\nunknown option\n", "unknown option"),
        ("$ run.py\n", ""),
    ],
)  # fmt: skip
def test_the_reason_is_the_last_attempts_complaint(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "log").write_text(text)
    assert complaint(tmp_path / "log") == expected


def finished(number: int, overrides: str, earned: float, task: str = "maze") -> Job:
    """A job that has ended."""
    parts = tuple(overrides.split())
    runs = RunFolders(Path("runs"), task, "bc", f"n{number}")
    command = Command("run.py", (), runs, Path("log"), {})
    return Job(number, parts, parts, command, None, "finished", "", 60.0, Path("there"), earned, earned + 100)


def test_how_many_jobs_are_left_stands_in_one_line_above_a_narrow_table(tmp_path: Path) -> None:
    jobs = [finished(0, "seed=0", -4.0), replace(finished(1, "seed=1", 0.0), status="waiting", return_mean=None)]
    with (tmp_path / "shown").open("w") as file:
        print_tables("grid-123456", jobs, Console(file=file, width=140))
    assert "sweep grid-123456  2 jobs: 1 finished, 1 waiting\n" in (tmp_path / "shown").read_text()


def test_tables_say_what_differs_and_what_seeds_agree_on() -> None:
    jobs = [
        *(finished(seed, f"algo=bc seed={seed} data=x runs_dir=y", earned) for seed, earned in enumerate((-4.0, -2.0))),
        finished(2, "algo=ilql algo.beta=2.3456789 seed=0 data=x runs_dir=y", -1.0),
        finished(3, "algo=ilql algo.beta=2.3456789 seed=0 data=x runs_dir=z", 9.0, task="wordle"),
    ]
    assert labels(jobs)[:3] == ["algo=bc seed=0", "algo=bc seed=1", "algo=ilql algo.beta=2.346 seed=0"]
    assert over_seeds(jobs[:3]) == [("algo=bc", "2", "-3.00 ± 1.41", "97.0 ± 1.4")]
    assert {task: job.number for task, job in best(jobs).items()} == {"maze": 2, "wordle": 3}
    impossible = ("seed=-1", "data=x")
    jobs.append(Job(4, impossible, impossible, status="failed", reason="seed must be | at least 0"))
    text = markdown(jobs)
    assert "5 jobs: 4 finished, 1 failed" in text
    assert "| algo=bc seed=1 | finished | -2.00 | 98.0 | 1 min 0 s | there |" in text
    assert "- best on maze: algo=ilql algo.beta=2.346 seed=0" in text
    assert "- seed=-1: seed must be | at least 0" in text


def test_a_sweeps_folder_belongs_to_one_program(tmp_path: Path) -> None:
    first = SweepFolder(tmp_path, "grid-abc")
    with pytest.raises(ConfigError, match="this sweep is running already"):
        SweepFolder(tmp_path, "grid-abc")
    assert SweepFolder(tmp_path, "grid-abd").path != first.path
    for workers in (1, 2):  # an impossible job is the same one with other workers
        first.write([Job(0, ("seed=-1", f"launcher.workers={workers}"), status="failed", reason="no")])
    assert list(json.loads((first.path / "sweep.json").read_text())["jobs"]) == ["seed=-1"]


def test_a_run_belongs_to_one_process(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from lmrl.runs.folders import open_run
print(open_run(Path({str(tmp_path)!r}), "maze", "bc", "maze-bc-s0-abcdef", resume=False), flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdin is not None
    assert other.stdout is not None
    folder = Path(other.stdout.readline().strip())
    assert is_busy(folder)
    with pytest.raises(ConfigError, match="still running in another process"):
        open_run(tmp_path, "maze", "bc", "maze-bc-s0-abcdef", resume=True)
    other.kill()
    other.wait()
    assert not is_busy(folder)
    assert open_run(tmp_path, "maze", "bc", "maze-bc-s0-abcdef", resume=True) == folder
    assert not is_busy(folder)  # it is ours


def test_jobs_end_and_only_what_is_missing_runs_again(tmp_path: Path) -> None:
    many: list[dict[str, object]] = [{"earns": -3}, {"fails": "beta must be above 0"}, {"earns": 2, "steps": 8}]
    jobs = jobs_of(tmp_path, *many)
    went_on, shown = schedule(Processes(workers=2), jobs, tmp_path / "shown")
    assert went_on
    assert [job.status for job in jobs] == ["finished", "failed", "finished"]
    assert [job.return_mean for job in jobs] == [-3, None, 2]
    assert jobs[0].score == 50
    assert jobs[1].reason == "beta must be above 0"
    assert len(re.findall(r"\[\d/3\] started", shown)) == 3
    assert "hardware.threads=1" in jobs[0].command.log.read_text()  # type: ignore[union-attr]
    again = jobs_of(tmp_path, *many[:1], {"earns": 1}, *many[2:])
    went_on, shown = schedule(Processes(workers=2), again, tmp_path / "shown")
    assert [job.status for job in again] == ["finished"] * 3
    assert re.findall(r"\[(\d)/3\] (\w+)", shown) == [("2", "resumed"), ("2", "finished")]
    assert again[1].folder == jobs[1].folder
    assert len(list((tmp_path / "runs/toy/bc").iterdir())) == 3


def test_a_job_finds_its_share_and_nothing_of_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "LMRL_RUN_DIR", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    script, log = tmp_path / "job.py", tmp_path / "log"
    script.write_text("import os\nfor name in sorted(os.environ):\n    print(name, os.environ[name], sep='=')\n")
    jobs = []
    for number in range(2):
        runs = RunFolders(tmp_path, "toy", "bc", f"n{number}")
        command = Command(str(script), (), runs, tmp_path / f"log{number}", {"LMRL_PARENT_RUN": "abc"})
        jobs.append(Job(number, (), (), command, OmegaConf.create({"hardware": {"threads": None, "devices": 1}})))
    assert schedule(Processes(workers=2, threads=3), jobs, log)[0]
    for job, gpu in zip(jobs, "45", strict=True):
        assert job.command is not None
        found = job.command.log.read_text().splitlines()
        assert {"LMRL_PARENT_RUN=abc", f"CUDA_VISIBLE_DEVICES={gpu}", "OMP_NUM_THREADS=3", "SLURM_JOB_ID=7"} <= set(
            found
        )
        assert not [line for line in found if line.startswith(("LOCAL_RANK", "LMRL_RUN_DIR", "SLURM_NTASKS"))]
        assert job.status == "failed"  # it left no summary


def test_a_killed_job_has_failed_and_says_so(tmp_path: Path) -> None:
    [job] = jobs_of(tmp_path, {"steps": 10_000})
    place = Processes(workers=1)

    def murder() -> None:
        wait_for(lambda: list(tmp_path.glob("runs/*/*/*/steps")))
        os.kill(int(job.ticket.split()[1]), signal.SIGKILL)

    threading.Thread(target=murder).start()
    assert schedule(place, [job], tmp_path / "shown")[0]
    assert (job.status, job.reason) == ("failed", "ended by SIGKILL (perhaps out of memory)")


def test_an_interrupt_lets_jobs_write_their_checkpoints(tmp_path: Path) -> None:
    long, waiting = jobs_of(tmp_path, {"steps": 10_000, "earns": 4}, {})

    def ctrl_c() -> None:
        wait_for(lambda: list(tmp_path.glob("runs/*/*/*/steps")))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ctrl_c).start()
    went_on, shown = schedule(Processes(workers=1), [long, waiting], tmp_path / "shown")
    assert not went_on
    assert (long.status, waiting.status) == ("interrupted", "waiting")
    assert "stopping 1 job: waiting for checkpoints" in shown
    assert long.folder is not None
    assert json.loads((long.folder / "summary.json").read_text())["status"] == "interrupted"
    (long.folder / "steps").write_text("9999")
    assert schedule(Processes(workers=1), [long, waiting], tmp_path / "shown")[0]
    assert (long.status, long.return_mean, waiting.status) == ("finished", 4, "finished")


def test_a_job_that_somebody_else_runs_is_waited_for(tmp_path: Path) -> None:
    [job] = jobs_of(tmp_path, {"steps": 25, "earns": 7})
    assert job.command is not None
    other = job.command.start()
    wait_for(lambda: list(tmp_path.glob("runs/*/*/*/steps")))
    _, shown = schedule(Processes(workers=1), [job], tmp_path / "shown")
    assert other.wait() == 0
    assert "waits for another program" in shown
    assert "started" not in shown
    assert "resumed" not in shown
    assert (job.status, job.return_mean, job.seconds) == ("finished", 7, None)


def test_submitit_runs_jobs_and_goes_on_after_a_time_out(tmp_path: Path) -> None:
    many: list[dict[str, object]] = [{"earns": 1}, {"fails": "no"}, {"steps": 10_000, "earns": 5}]
    jobs = jobs_of(tmp_path, *many)
    place = Slurm(cluster="local", parameters={"timeout_min": 5, "slurm_partition": None, "tasks_per_node": 1})
    place.open(tmp_path)

    def time_out() -> None:
        """What the cluster does to a job whose time is nearly over."""
        wait_for(lambda: list(tmp_path.glob("runs/toy/bc/*s2*/steps")))
        [task] = [int(p) for p in children(int(jobs[2].ticket)) if "submitit.core._submit" in command_line(int(p))]
        [folder] = tmp_path.glob("runs/toy/bc/*s2*")
        os.kill(task, signal.SIGUSR2)
        wait_for(lambda: (folder / "summary.json").exists())
        (folder / "steps").write_text("9999")

    thread = threading.Thread(target=time_out)
    thread.start()
    went_on, shown = schedule(place, jobs, tmp_path / "shown")
    thread.join()
    assert went_on
    assert [job.status for job in jobs] == ["finished", "failed", "finished"]
    assert (jobs[1].reason, jobs[2].return_mean) == ("no", 5)
    assert jobs[2].command is not None
    assert "resume=true" in jobs[2].command.log.read_text()
    assert shown.count("started") == 3


@pytest.mark.parametrize(
    ("given", "mentioned"), [({"cluster": "lsf"}, "slurm or local, got 'lsf'"), ({"parameters": {"cores": 2}}, "cores")]
)
def test_a_wrong_cluster_is_refused(tmp_path: Path, given: dict, mentioned: str) -> None:
    with pytest.raises(ConfigError, match=mentioned):
        Slurm(**{"cluster": "local", **given}).open(tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_file_is_one_command(path: Path) -> None:
    """Each composes by its name alone, apart from a task or method that it leaves open, and varies what exists."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        search = f"hydra.searchpath=[{ROOT}]"
        cfg = hydra_compose(
            "config", [f"sweeps={path.stem}", "task=maze", "algo=ilql", search], return_hydra_config=True
        )
        assert cfg.hydra.mode.name == "MULTIRUN"
        assert cfg.hydra.runtime.choices.sweeps == path.stem
        parser = OverridesParser.create()
        said = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
        varied = [parser.parse_override(text) for text in said]
        assert all(override.is_sweep_override() for override in varied)
        assert all(OmegaConf.select(cfg, override.key_or_group) is not None for override in varied)
        for override in varied:
            choices = set(override.sweep_string_iterator()) if override.is_discrete_sweep() else set()
            if override.key_or_group in ("task", "algo"):
                assert choices <= set(names(override.key_or_group))


@pytest.mark.parametrize("name", names("launcher"))
def test_every_launcher_composes(name: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = hydra_compose("config", ["task=maze", "algo=bc", f"launcher={name}", "hydra.searchpath=[]"])
    assert isinstance(instantiate(cfg.launcher), Place)


TINY = (
    "algo.steps=4", "algo.steps_per_epoch=2", "algo.datamodule.batch_size=8", "algo.prior.steps=4",
    "algo.prior.steps_per_epoch=2", "task.env.max_steps=10", "task.dataset.recipe.max_moves=10",
    "task.dataset.recipe.trajectories=30", "evaluation.repeats=1", "validation.repeats=1", "hardware=cpu",
)  # fmt: skip


def sweep(folder: Path, *overrides: str, timeout: int = 850) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "run.py", *overrides, *TINY, *places(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def places(folder: Path) -> list[str]:
    tracking = [f"tracking.tracking_uri=sqlite:///{folder}/mlflow.db", f"tracking.artifacts={folder}/artifacts"]
    return [f"data_dir={folder}/data", f"runs_dir={folder}/runs", *tracking]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_records_failures_and_the_same_command_tries_only_those_again(tmp_path: Path) -> None:
    said = ["-m", "task=maze", "algo=mc_returns", "model.lm.window=512,8", "seed=0,-1", "launcher=processes"]
    done = sweep(tmp_path, *said, "launcher.workers=2")
    assert done.returncode == 1, done.stderr
    assert "4 jobs: 1 finished, 3 failed" in done.stdout
    assert re.search(r"model.lm.window=8 seed=0: .*the model reads at most 8", done.stdout)
    assert "seed=-1: seed must be at least 0, got -1" in done.stdout
    assert len(re.findall(r"^\[\d/4\] started", done.stdout, re.MULTILINE)) == 2
    again = sweep(tmp_path, *said, "launcher.workers=1")
    assert again.returncode == 1, again.stderr
    assert re.findall(r"^\[(\d)/4\] (started|resumed)", again.stdout, re.MULTILINE) == [("3", "started")]
    [folder] = (tmp_path / "runs" / "sweeps").iterdir()
    known = json.loads((folder / "sweep.json").read_text())["jobs"]
    assert sorted(job["status"] for job in known.values()) == ["failed", "failed", "failed", "finished"]

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("lmrl/maze")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if "sweep_id" in run.data.tags]
    [child] = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 2
    assert parent.info.status == "FAILED"
    assert (parent.data.metrics["jobs/finished"], parent.data.metrics["jobs/failed"]) == (1, 3)
    assert parent.data.metrics["best/maze/return_mean"] == child.data.metrics["evaluation/return_mean"]
    assert "reads at most 8" in parent.data.tags["mlflow.note.content"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_interrupted_sweep_goes_on_in_the_same_runs(tmp_path: Path) -> None:
    said = ["-m", "task=maze", "algo=bc", "seed=0,1", *TINY[1:3], *TINY[5:], "algo.steps=100000", *places(tmp_path)]
    process = subprocess.Popen([sys.executable, "run.py", *said], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: list(tmp_path.glob("runs/maze/bc/*/checkpoints/latest.ckpt")), seconds=1500)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "2 jobs: 1 interrupted, 1 waiting" in shown
    [run] = tmp_path.glob("runs/maze/bc/*")
    before = json.loads((run / "mlflow.json").read_text())["run_id"]
    process = subprocess.Popen([sys.executable, "run.py", *said], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    rows = len((run / "metrics.jsonl").read_text().splitlines())
    wait_for(lambda: len((run / "metrics.jsonl").read_text().splitlines()) > rows, seconds=1500)
    process.send_signal(signal.SIGTERM)  # as a system that shuts down does
    shown, _ = process.communicate(timeout=600)
    assert "[1/2] resumed" in shown
    assert process.returncode == 143
    assert list(tmp_path.glob("runs/maze/bc/*")) == [run]
    assert json.loads((run / "mlflow.json").read_text())["run_id"] == before


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_job_of_several_processes_is_one_job(tmp_path: Path) -> None:
    """Lightning starts further processes with the command line of the first, which here must not be the sweep's."""
    several = ["hardware.devices=2", "hardware.strategy=ddp_find_unused_parameters_true"]
    done = sweep(tmp_path, "-m", "task=maze", "algo=mc_returns,ilql", *several)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 jobs: 2 finished" in done.stdout
    folders = sorted((tmp_path / "runs" / "maze").glob("*/*"))
    assert [folder.parent.name for folder in folders] == ["ilql", "mc_returns"]
    for folder in folders:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows if "train/loss" in row] == [1, 3]  # by one process, not by each
        assert json.loads((folder / "summary.json").read_text())["train"]["steps"] == 4

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("lmrl/maze")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1 + 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_search_goes_on_from_its_finished_trials(tmp_path: Path) -> None:
    said = ["sweeps=search", "task=maze", "tracking=none", "hydra.sweeper.n_jobs=2"]
    tiny = [*TINY, f"data_dir={tmp_path}/data", f"runs_dir={tmp_path}/runs"]
    shown = []
    for trials in (2, 4):
        done = subprocess.run(
            [sys.executable, "run.py", *said, *tiny, f"hydra.sweeper.n_trials={trials}"],
            cwd=ROOT, capture_output=True, text=True, timeout=1700, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shown.append(re.findall(r"^\[(\d)/\d\] started", done.stdout, re.MULTILINE))
    assert shown == [["1", "2"], ["3", "4"]]
    [folder] = (tmp_path / "runs" / "sweeps").iterdir()
    found = OmegaConf.load(folder / "optimization_results.yaml")
    returns = [job["return"] for job in json.loads((folder / "sweep.json").read_text())["jobs"].values()]
    assert found.best_value == max(returns)
    assert 0.6 <= found.best_params["algo.module.expectile"] <= 0.98


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
