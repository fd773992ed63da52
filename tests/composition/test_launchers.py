"""What all launchers share, with workers that are killed on demand; what configs may not set."""

from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from gradalign_cli.composition.folder_names import register_resolvers
from gradalign_cli.composition.hydra_versions import VERSION_BASE
from gradalign_cli.composition.launchers import registry, sweep_launcher
from gradalign_cli.composition.launchers.sweep_job import SweepJob
from gradalign_cli.composition.launchers.sweep_launcher import SweepLauncher, failed_if_nan
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.trusted import check_hydra_entry
from gradalign_cli.errors import UserError

JOBS = [SweepJob(number, ()) for number in range(4)]


class KilledWorkers(SweepLauncher):
    """Runs jobs in order. A worker is killed in every job of `deadly` as often as it says, and
    takes all jobs after it along."""

    def __init__(self, deadly):
        self.deadly, self.runs, self.finished, self.lost = deadly, [], [], []

    def run(self, jobs):
        for job in jobs:
            self.runs.append(job.number)
            if self.deadly.get(job.number, 0) > 0:
                self.deadly[job.number] -= 1
                return
            self.finished.append(job.number)
            yield job, job.number

    def has_begun(self, job):
        return job.number in self.runs

    def lost_job_return(self, job):
        self.lost.append(job.number)
        return "lost"


def test_jobs_whose_worker_was_killed_start_again_and_none_is_lost_or_run_twice():
    launcher = KilledWorkers({1: 1, 2: 1})
    with pytest.warns(UserWarning, match="a worker was killed: what has not ended starts again"):
        returns = launcher.run_with_retries(JOBS)
    assert returns == {number: number for number in range(4)}
    assert sorted(launcher.finished) == [0, 1, 2, 3]


def test_a_job_that_kills_every_worker_fails_and_all_others_finish():
    launcher = KilledWorkers({0: 1000})
    with pytest.warns(UserWarning, match="a worker was killed"):
        returns = launcher.run_with_retries(JOBS)
    assert returns == {0: "lost", 1: 1, 2: 2, 3: 3}
    assert launcher.runs.count(0) <= 2 + sweep_launcher.FRUITLESS_ROUNDS


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_search_is_told_of_a_failed_job_by_an_error_as_it_cannot_learn_from_nan(value):
    job_return = failed_if_nan(JobReturn(status=JobStatus.COMPLETED, _return_value=value))
    if value == 0.5:
        assert job_return.return_value == 0.5
    else:
        with pytest.raises(UserError, match="the job failed"):
            _ = job_return.return_value


@pytest.mark.parametrize("has_plugin", [True, False])  # or only the package that it needs
@pytest.mark.parametrize(
    ("choice", "extra"),
    [
        ("hydra/launcher=joblib", "joblib"),
        ("hydra/launcher=slurm", "submitit"),
        ("hydra/sweeper=optuna", "optuna"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(choice, extra, has_plugin, monkeypatch):
    def find_spec(module):
        return True if module.startswith("hydra_plugins.") == has_plugin else None

    monkeypatch.setattr(registry, "find_spec", find_spec)
    with pytest.raises(UserError, match=rf"`{choice}` needs more: .*\[{extra}\]"):
        registry.check_extras([choice])
    registry.check_extras(["hydra/launcher=basic", "method=agem"])


@pytest.mark.parametrize(
    ("part", "entry", "value"),
    [
        ("launcher", "setup", ["touch here"]),
        ("launcher", "additional_parameters", {"wrap": "touch here"}),
        ("launcher", "address", "ray://stranger:10001"),
        ("sweeper", "custom_search_space", "os.system"),
        ("sweeper", "storage", "mysql://stranger/study"),
    ],
)
def test_what_a_launcher_or_sweeper_would_execute_is_taken_from_the_command_line_alone(
    part, entry, value
):
    hydra_entry = {part: {entry: value}}
    with pytest.raises(UserError, match=f"`hydra.{part}.{entry}` must be given on the command"):
        check_hydra_entry(hydra_entry, ["hydra/launcher", f"hydra.{part}"])
    check_hydra_entry(hydra_entry, [f"hydra.{part}.{entry}"])


def test_optunas_samplers_are_trusted_and_no_other_function_of_optuna():
    check_hydra_entry({"sweeper": {"sampler": {"_target_": "optuna.samplers.TPESampler"}}}, [])
    with pytest.raises(UserError, match="must be one of Hydra's own"):
        check_hydra_entry({"sweeper": {"sampler": {"_target_": "optuna.load_study"}}}, [])


@pytest.fixture
def slurm(tmp_path):
    """The launcher that `hydra/launcher=slurm` describes, on a machine that looks like Slurm's."""
    pytest.importorskip("submitit", reason="needs the extra `submitit`")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs its extra")
    from gradalign_cli.composition.launchers.submitit_launcher import SlurmLauncher

    register_resolvers()
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        whole = compose("config", ["hydra/launcher=slurm"], return_hydra_config=True)
    options = OmegaConf.to_container(whole.hydra.launcher, resolve=False)
    assert options.pop("_target_").endswith("SlurmLauncher")
    return SlurmLauncher(**options | {"submitit_folder": str(tmp_path), "name": "train"})


def test_slurm_is_asked_to_signal_before_the_end_so_that_a_job_can_come_back(slurm, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda command: f"/bin/{command}")
    executor = slurm.executor()._executor
    script = executor._make_submission_file_text("command", "uid")
    assert "#SBATCH --signal=USR2@180" in script
    assert "#SBATCH --time=240" in script
    assert executor.max_num_timeout == 20


def test_on_a_machine_without_slurm_a_sentence_says_so(slurm, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda command: None)
    with pytest.raises(UserError, match=r"`hydra/launcher` cannot submit jobs: .*srun"):
        slurm.executor()


def test_a_preempted_job_is_called_again_with_the_same_job():
    pytest.importorskip("submitit", reason="needs the extra `submitit`")
    from gradalign_cli.composition.launchers.submitit_launcher import RequeuedJob

    call = RequeuedJob(SimpleNamespace(), SimpleNamespace())
    again = call.checkpoint(JOBS[2])
    assert (again.function, again.args) == (call, (JOBS[2],))
