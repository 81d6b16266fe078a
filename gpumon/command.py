"""The short command of a process: what runs, without what it was told.

Arguments hold secrets, so all of them stay on the node but one: the script or module that an interpreter or
a launcher was given, by its base name. ``python -u /home/me/train.py --key secret`` is ``python train.py``,
``torchrun --nproc-per-node 8 train.py`` is ``torchrun train.py``, ``env A=b nice python -m lab.train x`` is
``python -m lab.train``, and a program that is not known to run scripts is told by its name alone.

What follows an option that we do not know may be that option's value. It is believed to be a script only if
it is called like one (``.py``, ``.sh``, ...); if in doubt, nothing is told.

:func:`redacted` is the second net, for what a name itself may hold: known shapes of secrets, long runs of hex
or base64, values of words such as ``token``, the user in a URL. All of it takes time linear in the length of
the text, of which no more than :data:`LIMIT_BYTES` are looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

LIMIT_BYTES = 4096
MAX_WRAPPERS = 8  # env nice sudo ...: what is wrapped deeper is not looked for
HIDDEN = "***"

SCRIPT = re.compile(r"[\w.+-]{1,128}\.(py[cwz]?|sh|bash|zsh|pl|rb|[cm]?[jt]s|jl|[Rr]|lua|jar)", re.ASCII)
NAME = re.compile(r"[\w.+@,-]{1,128}")
MODULE = re.compile(r"[A-Za-z_]\w{0,63}(\.\w{1,64}){0,15}", re.ASCII)
ASSIGNMENT = re.compile(r"\w{1,128}=", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How a program is told what to run, as patterns of its options.

    After ``code`` comes a program itself and no name of one, after ``module`` the name of a module, after one
    of ``value`` what belongs to the option; ``flags`` take nothing.
    """

    code: str = "(?!)"
    module: str = "(?!)"
    flags: str = "(?!)"
    value: frozenset[str] = frozenset()
    is_java: bool = False  # it runs classes, which are named like modules
    is_known: bool = True  # otherwise any option may take a value


PYTHON = Runner(
    code=r"-[A-Za-z]{0,8}c",
    module=r"-[bBdEiIOPqRsSuvVx]{0,8}m",
    flags=r"-[bBdEhiIOPqRsSuvVx?]{1,16}|-[WX].+",
    value=frozenset({"-W", "-X", "--check-hash-based-pycs"}),
)
SHELL = Runner(
    code=r"-[A-Za-z]{0,8}c",
    flags=r"[-+][A-Za-z]{1,16}|--(login|posix|norc|noprofile)",
    value=frozenset({"-o", "-O", "+o", "+O", "--rcfile", "--init-file"}),
)
PERL = Runner(
    code=r"-[A-Za-z]{0,8}[eE]",
    flags=r"-[acfnpsStTuUvwWX]{1,16}|-[IMm].+",
    value=frozenset({"-I"}),
)
RUBY = Runner(
    code=r"-[A-Za-z]{0,8}e",
    flags=r"-[acdlnpsSUvw]{1,16}|-[CEIrKTWx].+|--(jit|yjit|verbose)",
    value=frozenset({"-C", "-E", "-I", "-r"}),
)
NODE = Runner(
    code=r"-[A-Za-z]{0,4}[ep]|--(eval|print)",
    flags=r"-[ci]|--[^=]+=.*|--(inspect|inspect-brk|no-warnings|trace-warnings|enable-source-maps|expose-gc)",
    value=frozenset({"-r", "-C", "--require", "--import", "--loader", "--experimental-loader", "--conditions"}),
)
JULIA = Runner(
    code=r"-[eE]|--(eval|print)",
    flags=r"-[iqO0-3]|--[^=]+=.*",
    value=frozenset({"-C", "-J", "-L", "-p", "-t"}),
)
RSCRIPT = Runner(code=r"-e", flags=r"--(vanilla|slave|no-[a-z-]+|quiet|verbose)|--[^=]+=.*")
JAVA = Runner(
    module=r"-m|--module",
    flags=r"-[DX].*|-(ea|da|server)(:.*)?|-(javaagent|agentlib|agentpath):.*|--[^=]+=.*",
    value=frozenset({"-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules"}),
    is_java=True,
)
LAUNCHER = Runner(module=r"-m|--module", is_known=False)

INTERPRETERS = {
    r"-?(python|pypy)[0-9.]{0,8}t?": PYTHON,
    r"-?(ba|da|z|k|a|fi)?sh": SHELL,
    r"perl[0-9.]{0,8}": PERL,
    r"j?ruby[0-9.]{0,8}": RUBY,
    r"node(js)?[0-9.]{0,8}": NODE,
    r"julia[0-9.-]{0,8}": JULIA,
    r"Rscript": RSCRIPT,
    r"java": JAVA,
}
LAUNCHERS = {"torchrun": None, "deepspeed": None, "horovodrun": None, "accelerate": "launch", "colossalai": "run"}
"""Programs that run a script of Python, mostly scripts of Python themselves, and the word that must come first."""

LAUNCHER_MODULES = frozenset(
    {"torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch", "deepspeed.launcher.runner"}
)
PARALLEL = frozenset({"mpirun", "mpiexec", "mpiexec.hydra", "orterun", "srun"})
"""Programs that run many copies of another one, and are told together with it."""

WRAPPERS = re.compile(
    "env|nohup|nice|ionice|chrt|taskset|numactl|timeout|time|stdbuf|setsid|sudo|doas|catchsegv|xvfb-run|conda|mamba"
    "|micromamba|poetry|pipenv|pixi|uv|nsys|ncu|compute-sanitizer|cuda-gdb|strace|ltrace|perf"
)
"""Programs that run another one, and are not what someone wants to read."""


def short_command(line: bytes, name: str) -> str | None:
    """Of the bytes of ``/proc/PID/cmdline`` what may leave the node; ``name`` is the kernel's word for it.

    Null where there is no command line, as of a zombie. Signs that cannot be shown are still in it.
    """
    if len(line) > LIMIT_BYTES:  # an argument that was cut off would not look like what it is
        line = line[:LIMIT_BYTES].rpartition(b"\0")[0] or line[:LIMIT_BYTES]
    arguments = line.decode(errors="replace").rstrip("\0").split("\0")
    if not arguments[0]:
        return None
    return redacted(" ".join(_short(_separated(arguments, name), 0))) or None


def _separated(arguments: list[str], name: str) -> list[str]:
    """The arguments; where a process has written a title over them, the words of that title.

    A title, such as ``vllm: worker 3`` or a whole command line, is one argument with spaces in it. So is the
    path of a program in a folder whose name has spaces, but that ends as the kernel calls the program.
    """
    first, *rest = arguments
    if not any(sign.isspace() for sign in first):
        return arguments
    if name and PurePosixPath(first).name == name:
        return [name, *rest]
    program, *words = first.split() or [name]
    # Where arguments began and ended is lost. Behind an option that nobody knows, only what is called like a
    # script is believed to be one.
    return [program.rstrip(":") or program, "--", *words]


def _short(arguments: Sequence[str], depth: int) -> list[str]:
    program, rest = PurePosixPath(arguments[0]).name, arguments[1:]
    if program in LAUNCHERS:
        return _launched(program, rest)
    if runner := _interpreter(program):
        return _interpreted(program, runner, rest)
    is_wrapper = WRAPPERS.fullmatch(program)
    if depth < MAX_WRAPPERS and (is_wrapper or program in PARALLEL):
        inner = _wrapped(rest, depth)
        return inner if inner and is_wrapper else [program, *inner]
    return [program]


def _interpreter(program: str) -> Runner | None:
    return next((runner for pattern, runner in INTERPRETERS.items() if re.fullmatch(pattern, program)), None)


def _interpreted(program: str, runner: Runner, rest: Sequence[str]) -> list[str]:
    run = _run(runner, rest)
    what = run[-1] if run else ""
    if runner is PYTHON and (what in LAUNCHERS or what in LAUNCHER_MODULES):
        at = next(index for index, argument in enumerate(rest) if argument.endswith(what))
        if what in LAUNCHERS:  # whose interpreter that is nobody wants to know
            return _launched(what, rest[at + 1 :])
        return [program, *run, *_run(LAUNCHER, rest[at + 1 :])]
    return [program, *run]


def _launched(program: str, rest: Sequence[str]) -> list[str]:
    word = LAUNCHERS[program]
    if word is None:
        return [program, *_run(LAUNCHER, rest)]
    return [program, word, *_run(LAUNCHER, rest[1:])] if rest[:1] == [word] else [program]


def _wrapped(rest: Sequence[str], depth: int) -> list[str]:
    """What a wrapper runs: from the first of its arguments that is a program we know, or the first script."""
    before = ""
    for index, argument in enumerate(rest):
        name = PurePosixPath(argument).name
        is_own = argument.startswith("-") or ASSIGNMENT.match(argument) or names_secret(before)
        before = argument
        if is_own:
            continue
        if name in LAUNCHERS or WRAPPERS.fullmatch(name) or _interpreter(name):
            return _short(rest[index:], depth + 1)
        if SCRIPT.fullmatch(name):
            return [name]
    return []


def _run(runner: Runner, arguments: Sequence[str]) -> list[str]:
    """What an interpreter is told to run."""
    is_sure = runner.is_known  # that an argument which is no option is not the value of one
    before = ""
    rest = iter(arguments)
    for argument in rest:
        name = PurePosixPath(argument).name
        if re.fullmatch(runner.module, argument):
            module = next(rest, "").partition("/")[0]
            return ["-m", module] if MODULE.fullmatch(module) else ["-m"]
        if re.fullmatch(runner.code, argument):
            return [f"-{argument[2] if argument.startswith('--') else argument[-1]}"]
        if runner.is_java and argument == "-jar":
            jar = PurePosixPath(next(rest, "")).name
            return ["-jar", jar] if NAME.fullmatch(jar) else ["-jar"]
        if argument in runner.value:
            is_sure = is_sure and not next(rest, "").startswith("-")  # as a value it is odd
        elif argument.startswith(("-", "+")):
            is_sure = is_sure and re.fullmatch(runner.flags, argument) is not None
        elif is_sure:
            return [name] if (MODULE if runner.is_java else NAME).fullmatch(name) else []
        elif SCRIPT.fullmatch(name) and not names_secret(before):
            return [name]
        before = argument
    return []


# ---- the second net ----

SECRETS = (
    "password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]key|private[_-]key|credential|bearer|session"
    "|cookie|auth"
)
SECRET_WORDS = re.compile(f"{SECRETS}|^-p$|key$", re.IGNORECASE)
WITHIN = re.compile(f"{SECRETS}|key=", re.IGNORECASE)
SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}|[sprk]k[-_][\w-]{16,}|gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
    r"|glpat-[\w-]{16,}|xox[a-z]-[\w-]{8,}|A[KS]IA[A-Z0-9]{12,}|AIza[\w-]{16,}|npm_\w{16,}|nvapi-[\w-]{16,}"
    r"|eyJ[\w-]{8,}(?:\.[\w-]*){0,2})",
    re.ASCII,
)
RUN = re.compile(r"[A-Za-z0-9+/_=-]{32,}")
BETWEEN = re.compile(r"[+/_=-]+")
WORD = re.compile(r"[A-Za-z]?[a-z]{0,19}[0-9]{0,3}|[A-Z]{1,16}[0-9]{0,3}|[A-Za-z0-9]{1,4}|[0-9]{1,8}")
OPTION = re.compile(r"--|-.?\Z")  # what else begins with "-" may be a value
SCHEMES = frozenset({"bearer", "basic"})
USERINFO = re.compile(r"://[^/\s?#]*@")
QUERY = re.compile(r"([?&][^=&\s?]{1,256}=)[^&\s#]+")


def names_secret(word: str) -> bool:
    """Whether ``word`` is the name of something secret: ``--api-key``, ``HF_TOKEN``, ``-p``."""
    return SECRET_WORDS.search(word) is not None


def redacted(text: str) -> str:
    """``text`` with what looks like a secret replaced by ``***``, in single spaces, at most 4,096 characters."""
    words: list[str] = []
    is_value = False
    for word in text[:LIMIT_BYTES].split():
        if is_value and not OPTION.match(word):
            words.append(HIDDEN)
            is_value = word.lower() in SCHEMES or _announces(word)
            continue
        name, sign = _named(word)
        is_value = names_secret(name) and (not sign or word.endswith(sign)) and (word.startswith("-") or sign == ":")
        if sign and not is_value and names_secret(name):
            words.append(f"{name}{sign}{HIDDEN}")
            is_value = word[len(name) + 1 :].lower() in SCHEMES
        else:
            words.append(_unmarked(word))
    return " ".join(words)


def _announces(word: str) -> bool:
    """Whether ``word``, hidden itself as what may be a value, may as well be the name of what follows."""
    return (word.startswith("-") or word.endswith((":", "="))) and names_secret(word)


def _named(word: str) -> tuple[str, str]:
    """``name`` and ``=`` or ``:`` of ``name=value``; the word itself where it is not of that form.

    Of ``--set=a.token=value`` that is all before the value.
    """
    cut = min((at for at in (word.find("="), word.find(":")) if at > 0), default=len(word))
    if (
        not names_secret(word[:cut])
        and (inner := WITHIN.search(word, cut))
        and (at := word.find("=", inner.end() - 1)) > 0
    ):
        cut = at
    return word[:cut], word[cut : cut + 1]


def _unmarked(word: str) -> str:
    """``word`` without what looks like a secret by itself."""
    word = USERINFO.sub(f"://{HIDDEN}@", word)
    word = QUERY.sub(rf"\1{HIDDEN}", word)
    return RUN.sub(_run_of_words, SHAPES.sub(HIDDEN, word))


def _run_of_words(run: re.Match[str]) -> str:
    """A long name is made of words; what is not, is hidden."""
    return run[0] if all(WORD.fullmatch(part) for part in BETWEEN.split(run[0])) else HIDDEN
