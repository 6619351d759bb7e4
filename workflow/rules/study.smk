# The package, the configuration in force, and how jobs call the package.

import os
import re
import shlex
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import update_config
from snakemake_interface_logger_plugins.common import LogEvent

SOURCE = Path(str(workflow.current_basedir)).parents[1] / "src"
if SOURCE.is_dir():
    sys.path.insert(0, str(SOURCE))
elif find_spec("smoothdescent") is None:
    raise WorkflowError(
        f"{SOURCE} does not exist, and the package smoothdescent is not installed: name the "
        "Snakefile of a clone of the repository, or install its package"
    )

import smoothdescent
from smoothdescent.config.load import as_in_a_file, dump, overrides, resolve
from smoothdescent.config.preflight import check_images, check_imports, own_code
from smoothdescent.config.schema import rule_part
from smoothdescent.data.sources import source_files
from smoothdescent.errors import UserError
from smoothdescent.figures import FIGURES, figures_of, shown_experiments
from smoothdescent.figures.captions import caption, heading, made_with
from smoothdescent.files import canonical_json, peek_metadata
from smoothdescent.layout import history_path, run_name, sharpness_path, snapshot_path
from smoothdescent.plan.forecast import (
    Calibration,
    duration,
    job_memory,
    job_name,
    job_seconds,
    trained_again,
    training_seconds,
)
from smoothdescent.products import damaged
from smoothdescent.tables.experiment import SUMMARIES

if SOURCE.is_dir() and not Path(smoothdescent.__file__).is_relative_to(SOURCE):
    raise WorkflowError(
        f"the sources of {Path(smoothdescent.__file__).parents[1]} are in use here, and those of "
        f"{SOURCE} cannot be too: let all modules name the same Snakefile"
    )


def configuration_layers():
    """Return what the configuration was put together from: names, and their contents."""
    if module := workflow.modifier.namespace:
        return [(f"config of the module {module}", config)]
    given = workflow.config_settings
    files = [Path("config.yaml"), *given.configfiles]
    layers = [(str(file), load_configfile(file)) for file in files if file.exists()]
    return [*layers, ("--config", given.config)]


def resolved_study():
    """Return the study; a fault is told of the first layer of the configuration that has it."""
    try:
        return resolve(SETTINGS)
    except UserError as error:
        fault = str(error)
    content, given = {}, workflow.config_settings.config
    for name, layer in configuration_layers():
        update_config(content, layer)
        try:
            resolve(as_in_a_file(content, given))
        except UserError as error:
            if str(error) == fault:
                raise WorkflowError(fault.replace("config.yaml", name, 1))
    raise WorkflowError(fault)


SETTINGS = as_in_a_file(config, workflow.config_settings.config)
STUDY = resolved_study()
RESOLVED = {name: STUDY.resolved(name) for name in STUDY.experiments}
RESULTS = Path(STUDY.results) / STUDY.scale
PATHS = workflow.modifier.path_modifier
STARTED = time.time()


def here(path):
    """Return a path as rules have it, below the `prefix` of a module."""
    return Path(PATHS.replace_prefix(str(path)))


def check_study():
    """Look for what jobs would miss, before anything starts; say what experiments override."""
    for line in overrides(SETTINGS):
        print(line, file=sys.stderr)
    try:
        check_images(STUDY, here(RESULTS / "data"))
        if not CONDA:
            check_imports(STUDY)
    except UserError as error:
        raise WorkflowError(str(error))


CONDA = "conda" in str(workflow.deployment_settings.deployment_method).lower()
if workflow.is_main_process:
    check_study()


def brief(record):
    """Say of a failed job which it was and what its log says: its files and command fill pages.

    And of a target that there is none of its name, which ones there are.
    """
    if getattr(record, "event", None) == LogEvent.JOB_ERROR:
        record.input, record.output, record.shellcmd = [], [], None
    unknown = re.match(r"MissingRuleException:\nNo rule to produce ([\w-]+) ", record.getMessage())
    if unknown:
        names = dict.fromkeys([*figures_of(list(STUDY.experiments)), *STUDY.experiments])
        record.msg = (
            f"There is no target {unknown[1]!r}; expected a file, or one of {', '.join(names)}, all, "
            "train, measure, tables, verdict, explore, plan, dump_config"
        )
    # The command once more; and that there are no copies of earlier outputs (see `keeping`).
    noise = ("RuleException:\nCalledProcessError", "Cannot restore ")
    return not record.getMessage().startswith(noise)


if not workflow.modifier.namespace:  # a workflow that has this one as a module logs as it likes
    logger.addFilter(brief)


def program(wildcards, threads):
    """Return how a job calls the package: that of this checkout, if there is one.

    It runs in Snakemake's own Python, also where its environment is not activated, unless rules are
    given conda environments. (See `job_options` for `threads`.)
    """
    path = f"PYTHONPATH={shlex.quote(str(SOURCE))}${{PYTHONPATH:+:$PYTHONPATH}} "
    python = "python" if CONDA else shlex.quote(sys.executable)
    return f"{path if SOURCE.is_dir() else ''}{python} -m smoothdescent"


def identity(experiment, stage):
    """Return what determines a stage's results beside its files: settings and code of the user's."""
    resolved = RESOLVED[experiment]
    if stage == "train":
        settings, own = resolved.training_identity, [resolved.experiment.network]
    else:
        settings, own = resolved.measuring_identity, resolved.experiment.measure.measures
    try:
        return f"{settings} {own_code(own)}".rstrip()
    except UserError as error:
        raise WorkflowError(str(error))


def keeping(command):
    """Return how a job's shell runs a command whose outputs stay (`update`).

    Snakemake keeps copies of what was there before the job, and when it fails puts them over what
    the job has made since, which may be the files of other settings over those of these. So the
    copies are removed.
    """
    return f"printf '.snakemake/backups/%s\\0' {{output:q}} | xargs -0 rm -f; {command}"


def watched(command):
    """Return how a job's shell runs a command that trains or measures, and logs what it says.

    A signal comes to the shell too: the trap makes it wait for the command, which saves, instead of
    ending at once. A killed command cannot say so itself; its status is kept, without ending the
    shell into which it is pasted. `2> /dev/null` is for what the shell would say of it: pages of
    settings.
    """
    return keeping(
        f"trap : TERM USR1; {{{{ {command} >> {{log:q}} 2>&1; }}}} 2> /dev/null"
        " || {{ code=$?; [ $code != 137 ] || echo 'killed from outside; most likely out of memory'"
        " >> {log:q}; (exit $code); }}"
    )
