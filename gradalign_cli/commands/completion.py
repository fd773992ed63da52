"""`gradalign completion SHELL`: completion of verbs, groups, settings and names in the shell."""

import re
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from itertools import pairwise

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.completion_plugin import DefaultCompletionPlugin

from gradalign_cli.commands.new import KINDS
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.commands.verbs import VERBS
from gradalign_cli.composition.choices import choices_of_group, search_path_overrides
from gradalign_cli.composition.hydra_versions import VERSION_BASE
from gradalign_cli.composition.overrides import hydra_overrides
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.plugins import plugin_config_folders, typed_plugins
from gradalign_cli.data.dataset import NAMES
from gradalign_cli.errors import UserError, require_name
from gradalign_cli.tables.table import table_names

# each shell calls `gradalign completion words LINE` with the line up to the cursor
SCRIPTS = {
    "bash": """_gradalign() {
    local line="${COMP_LINE:0:COMP_POINT}" word prefix="" IFS=$'\\n'
    word="${line##* }"
    # bash replaces only what stands behind the last `=`
    [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && prefix="${word%"${word##*=}"}"
    COMPREPLY=($(gradalign completion words "$line" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}
complete -o nospace -o default -F _gradalign gradalign""",
    "zsh": """_gradalign() {
    local -a candidates
    candidates=("${(@f)$(gradalign completion words "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    compadd -Q -S '' -a candidates
}
compdef _gradalign gradalign""",
    "fish": """function __gradalign
    gradalign completion words (commandline -cp | string collect) 2>/dev/null
end
complete -c gradalign -f -a '(__gradalign)'""",
}
DATA_ACTIONS = ("status", "prepare", "import")
SHELL_WORDS = "words"


def main(arguments: list[str]) -> int:
    """Print the script for a shell, or what can stand at the end of a line; returns the exit
    code."""
    parser = VerbParser(
        prog="gradalign completion",
        description='Completion in the shell: eval "$(gradalign completion bash)"',
    )
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    parser.add_argument("line", nargs="?", default="", metavar="LINE", help="of `words`")
    options = parser.parse_args(arguments)
    require_name(options.shell, [*SCRIPTS, SHELL_WORDS], "SHELL", "bash, zsh or fish")
    if options.shell == SHELL_WORDS:
        for word in completions(options.line):
            print(word if word.endswith(("=", ".", "/")) else f"{word} ")
    else:
        print(SCRIPTS[options.shell])
    return 0


def completions(line: str) -> list[str]:
    """What the last word of a command line can become.

    line: from `gradalign` up to the cursor; a new word begins after a space.
    """
    words = line.split()[1:] + [""] * (line.endswith(" ") or not line)
    *before, word = words or [""]
    if not before:
        return [verb for verb in VERBS if verb.startswith(word)]
    verb, *before = before
    if word.startswith("-"):
        return [option for option in options_of(verb) if option.startswith(word)]
    if verb in ("train", "tune", "check"):
        return sweep_completions(before, word)
    if verb == "explain" and word.startswith("method.") and before:
        return hydra_completions([f"method={before[0]}", *before[1:]], word)
    return [name for name in sorted(names_after(verb, before)) if name.startswith(word)]


def names_after(verb: str, words: list[str]) -> list[str]:
    """The names that can follow a verb and the words behind it."""
    if verb == "compare":
        folder = config_dir_of(words)
        return [choice.name for choice in choices_of_group("method", folder)]
    if verb == "explain":
        folder = config_dir_of(words)
        options = [word for word in words if word not in ("--config-dir", folder)]
        return [] if options else [choice.name for choice in choices_of_group("method", folder)]
    if verb == "new":
        return [] if words else list(KINDS)
    if verb == "list":
        groups = [path.name for path in CONF.iterdir() if path.is_dir()]
        return [] if words else [f"{name}s" for name in (*groups, "dataset")]
    if verb == "reproduce":
        return [] if set(words) & set(table_names(CONF)) else table_names(CONF)
    if verb == "data":
        return list(NAMES) if "prepare" in words else list(DATA_ACTIONS)
    if verb == "completion":
        return [] if words else list(SCRIPTS)
    return []


def sweep_completions(earlier_words: list[str], unfinished_word: str) -> list[str]:
    """What a word of `gradalign train` can become. Behind a comma another value of a sweep is
    begun; true and false are offered for each other."""
    key, equals, value = unfinished_word.partition("=")
    *values, last = value.split(",")
    texts = hydra_completions(earlier_words, f"{key}{equals}{last}")
    if values:
        begin = f"{key}={','.join(values)},"
        texts = [begin + text.removeprefix(f"{key}=") for text in texts]
        return [text for text in texts if text.removeprefix(begin) not in values]
    if equals and any(text.startswith(last) for text in ("true", "false")):
        default = hydra_completions(earlier_words, f"{key}=")
        if default in ([f"{key}=true"], [f"{key}=false"]):
            assignments = f"{key}=false", f"{key}=true"
            return [text for text in assignments if text.startswith(unfinished_word)]
    return texts


def hydra_completions(earlier_words: list[str], unfinished_word: str) -> list[str]:
    """What Hydra's own completion makes of a word behind others of `gradalign train`."""
    if unfinished_word.startswith("benchmark.dataset="):
        names = [f"benchmark.dataset={name}" for name in sorted(NAMES)]
        return [name for name in names if name.startswith(unfinished_word)]
    is_objective = unfinished_word.startswith("objective=")  # which is chosen among the methods
    asked = unfinished_word.replace("objective=", "method=", 1) if is_objective else unfinished_word
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        line = " ".join(
            [*hydra_overrides(overrides_with_search_path(earlier_words), [CONF]), asked]
        )
        texts = DefaultCompletionPlugin(hydra.config_loader)._query("config", line)
    texts = [text for text in texts if not re.search(r"\.(_target_|name)=", text)]
    return [text.replace("method=", "objective=", 1) if is_objective else text for text in texts]


def options_of(verb: str) -> list[str]:
    """The options of a verb, by its help."""
    if verb == "train":
        actions = get_args_parser()._actions
        return sorted({text for action in actions for text in action.option_strings})
    with redirect_stdout(StringIO()) as page, suppress(SystemExit, UserError):
        import_module(f"gradalign_cli.commands.{verb}").main(["--help"])
    return sorted(set(re.findall(r"--[a-z][\w-]*", page.getvalue())))


def overrides_with_search_path(words: list[str]) -> list[str]:
    """The words with the folders behind `--config-dir` and of plugins as an override, which Hydra's
    completion follows, and without other options."""
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    folder = config_dir_of(words)
    installed = plugin_config_folders(typed_plugins(overrides))
    return [*overrides, *search_path_overrides(folder, installed)]


def config_dir_of(words: list[str]) -> str | None:
    """The folder behind `--config-dir`, None where there is none."""
    folders = [
        folder
        for option, folder in pairwise([*words, ""])
        if option in ("--config-dir", "-cd") and folder
    ]
    return folders[-1] if folders else None
