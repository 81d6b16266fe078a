"""What of a command line leaves the node."""

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpumon.command import LIMIT_BYTES, redacted, short_command

SECRET = "hunter2"


def short(line: list[str], name: str = "kernelname") -> str | None:
    return short_command("\0".join(line).encode(errors="surrogateescape") + b"\0", name)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # interpreters
        (["/usr/bin/python3.11", "-u", "/home/me/train.py", "--key", SECRET], "python3.11 train.py"),
        (["python", "-W", "ignore", "-X", "dev", "-Werror", "train", SECRET], "python train"),
        (["python", "-c", f"login('{SECRET}')"], "python -c"),
        (["python", "-Ic", f"login('{SECRET}')"], "python -c"),
        (["python", "-m", "lab.train", f"--token={SECRET}"], "python -m lab.train"),
        (["python", "-um", "lab.train", SECRET], "python -m lab.train"),
        (["python", "-m", f"{SECRET} x"], "python -m"),
        (["python", "--unheard-of", SECRET, "train.py"], "python train.py"),
        (["python", "--unheard-of", SECRET], "python"),
        (["python", "--token", f"{SECRET}.py", "train.py"], "python train.py"),
        (["python"], "python"),
        (["/opt/venv/bin/python", "/opt/venv/bin/vllm", "serve", f"--api-key={SECRET}"], "python vllm"),
        (["/bin/bash", "-lc", f"TOKEN={SECRET} python train.py"], "bash -c"),
        (["-bash"], "-bash"),
        (["sh", "/lab/run.sh", SECRET], "sh run.sh"),
        (["bash", "-x", "-o", "pipefail", "run.sh"], "bash run.sh"),
        (["perl", "-pe", SECRET], "perl -e"),
        (["perl", "-w", "-I", "lib", "fold.pl", SECRET], "perl fold.pl"),
        (["ruby", "-r", "json", "x.rb", SECRET], "ruby x.rb"),
        (["node", f"--eval={SECRET}"], "node"),
        (["node", "--eval", SECRET], "node -e"),
        (["node", "--max-old-space-size=4096", "/srv/server.js", SECRET], "node server.js"),
        (["node", "--title", SECRET, "/srv/server.js"], "node server.js"),
        (["julia", "-t", "8", "--project=/lab", "solve.jl", SECRET], "julia solve.jl"),
        (["Rscript", "--vanilla", "fit.R", SECRET], "Rscript fit.R"),
        (["java", "-Xmx8g", "-cp", "/a:/b", "-jar", "/opt/solver.jar", SECRET], "java -jar solver.jar"),
        (["java", f"-Dkey={SECRET}", "-cp", "/a.jar", "com.lab.Solver", SECRET], "java com.lab.Solver"),
        (["java", f"@{SECRET}"], "java"),
        (["java", "--unheard-of", SECRET, "x"], "java"),
        # launchers
        (["python", "/usr/local/bin/torchrun", "--nproc", "8", "/lab/train.py", SECRET], "torchrun train.py"),
        (["torchrun", "--rdzv-id", SECRET, "-m", "lab.train", SECRET], "torchrun -m lab.train"),
        (["python", "-m", "torch.distributed.run", f"--token={SECRET}"], "python -m torch.distributed.run"),
        (["python", "-m", "torch.distributed.run", "x.py", SECRET], "python -m torch.distributed.run x.py"),
        (["accelerate", "launch", "--config_file", SECRET, "x.py", SECRET], "accelerate launch x.py"),
        (["python3", "/venv/bin/accelerate", "launch", "x.py", SECRET], "accelerate launch x.py"),
        (["accelerate", "config", SECRET, "x.py"], "accelerate"),
        (["deepspeed", "--num_gpus", "8", "x.py", SECRET], "deepspeed x.py"),
        (["mpirun", "-np", "4", "python", "x.py", SECRET], "mpirun python x.py"),
        (["mpirun", "-np", "4", "./solver", SECRET], "mpirun"),
        (["srun", "--gres", "gpu:8", "torchrun", "x.py"], "srun torchrun x.py"),
        # wrappers
        (["env", f"TOKEN={SECRET}", "A=/x/python", "python", "x.py", SECRET], "python x.py"),
        (["nohup", "nice", "-n", "5", "/lab/run.sh", SECRET], "run.sh"),
        (["sudo", "-u", SECRET, "python", "x.py"], "python x.py"),
        (["conda", "run", "-n", "lab", "--no-capture-output", "python", "-m", "lab.train"], "python -m lab.train"),
        (["env", "./solver", SECRET], "env"),
        (["env"] * 40 + ["python", "x.py"], "env"),
        # programs
        (["/opt/ollama/bin/ollama", "serve", f"--key={SECRET}"], "ollama"),
        (["shotwell", SECRET], "shotwell"),
        # titles
        ([f"python train.py --key /x/{SECRET}"], "python train.py"),
        ([f"python -W '{SECRET} {SECRET}' train.py"], "python train.py"),
        ([f"ray::train {SECRET}"], "ray::train"),
        ([f"vllm: worker {SECRET}", "", ""], "vllm"),
        (["VLLM::EngineCore_0"], "VLLM::EngineCore_0"),
        (["nginx: worker process"], "nginx"),
        ([" \t"], "kernelname"),
        (["/opt/My Lab/kernelname", SECRET], "kernelname"),
        # names that are none
        (["python", f"my train.py --key {SECRET}"], "python"),
        (["python", f"KEY={SECRET}"], "python"),
        (["java", "-jar", f"x {SECRET}.jar"], "java -jar"),
        # nothing
        ([], None),
        ([""], None),
        (["", "x"], None),
    ],
)
def test_of_a_command_only_program_and_script_are_told(line: list[str], expected: str | None) -> None:
    assert short(line) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train --token abc --epochs 3", "train --token *** --epochs 3"),
        ("HF_TOKEN=abc train", "HF_TOKEN=*** train"),
        ("train --api-key=abc", "train --api-key=***"),
        ("curl Authorization: Bearer abc x", "curl Authorization: *** *** x"),
        ("git clone https://me:abc@host/x.git", "git clone https://***@host/x.git"),
        ("curl http://h/x?sig=abc&b=c#d", "curl http://h/x?sig=***&b=***#d"),
        ("hf_trainer.py", "hf_trainer.py"),
        ("task-distributed-long-name.py", "task-distributed-long-name.py"),
        ("finetune_Llama-3-8B_lora_r16_multinode_20261123_run7.py",) * 2,
        ("3f2a9c0d-1e2f-4c3b-9a8f-0123456789ab", "***"),
        ("monkey.py", "monkey.py"),
        ("python auth.py", "python auth.py"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_words_are_not(text: str, expected: str) -> None:
    assert redacted(text) == expected


def of(alphabet: str, least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most)


ALNUM = string.ascii_letters + string.digits
mixed = st.tuples(of(ALNUM + "_-", 24, 60), of(string.digits, 9, 12)).map("Zq".join)  # as of token_urlsafe
jwt = st.tuples(of(ALNUM + "_-", 10, 80), of(ALNUM, 10, 200), of(ALNUM + "_-", 20, 80)).map(
    lambda parts: "eyJ" + ".".join(parts)
)
shaped = st.one_of(
    of(ALNUM, 34, 34).map("hf_".__add__),
    of(ALNUM + "_-", 20, 90).map("sk-".__add__),
    of(ALNUM, 36, 36).map("ghp_".__add__),
    of(string.ascii_uppercase + string.digits, 16, 16).map("AKIA".__add__),
    of("0123456789abcdef", 32, 64),
    of(ALNUM, 32, 64),
    mixed,
    jwt,
)
"""Secrets that are known by their looks: they may stand anywhere."""

worded = of(ALNUM, 6, 20).map(lambda text: f"9{text}")
"""Secrets that look like anything else: they stand where arguments stand."""

programs = st.sampled_from(
    ["python", "/usr/bin/python3", "bash", "node", "perl", "ruby", "java", "julia", "torchrun", "accelerate", "mpirun"]
) | st.sampled_from(["deepspeed", "env", "sudo", "nohup", "conda", "Rscript", "./solver"])
options = st.sampled_from(["-u", "--lr", "--token", "-x", "-W", "-m", "-c", "launch", "run", "A=b", "/lab/train.py"])


@st.composite
def lines_with_a_secret_argument(draw: st.DrawFn) -> tuple[list[str], str]:
    secret = draw(shaped | worded)
    forms = ["--key={}", "--x={}", "KEY={}", "https://me:{}@host/x", "train.py --y {}", "print('{}')"]
    place = draw(st.sampled_from([*forms, "--key\0{}", "--x\0{}"])).format(secret).split("\0")
    before, after = draw(st.lists(options, max_size=5)), draw(st.lists(options, max_size=3))
    return [draw(programs), *before, *place, *after], secret


@st.composite
def lines_with_a_secret_behind_the_script(draw: st.DrawFn) -> tuple[list[str], str]:
    secret = draw(shaped | worded)
    flags = st.sampled_from(["-u", "-x", "-v"])
    return [draw(programs), *draw(st.lists(flags, max_size=3)), "train.py", *draw(st.lists(options)), secret], secret


@st.composite
def lines_with_a_shaped_secret_anywhere(draw: st.DrawFn) -> tuple[list[str], str]:
    secret = draw(shaped)
    line = [draw(programs), *draw(st.lists(options, max_size=5))]
    line.insert(draw(st.integers(0, len(line))), draw(st.sampled_from(["{}", "/x/{}", "{}.py"])).format(secret))
    return line, secret


planted = lines_with_a_secret_argument() | lines_with_a_secret_behind_the_script()
planted |= lines_with_a_shaped_secret_anywhere()


@settings(max_examples=500)
@given(planted, st.booleans())
def test_no_planted_secret_survives(line: tuple[list[str], str], is_title: bool) -> None:
    arguments, secret = line
    told = short([" ".join(arguments)] if is_title else arguments) or ""
    others = " ".join(arguments).replace(secret, " ")  # a piece of "accelerate" in it is no secret
    pieces = {secret[at : at + 7] for at in range(len(secret) - 6)}
    assert not {piece for piece in pieces if piece in told and piece not in others}


@given(st.binary(max_size=200) | st.lists(st.text() | options).map(lambda words: "\0".join(words).encode()), st.text())
@example(b"\xff\xfe\0\x1b[31m", "")
@example(b"java\0-jar", "")
@example(b"python\0-m", "")
@example(b"accelerate\0launch", "")
@example(b"/", "x")
def test_no_command_line_is_too_odd(line: bytes, name: str) -> None:
    told = short_command(line, name)
    assert told is None or 0 < len(told) <= LIMIT_BYTES + 100


@pytest.mark.parametrize(
    "line",
    [
        b"python\0" + b"x" * 2**17,
        b"x" * 2**17,
        b"-" * 2**17,
        b"python " * 2**14,
        b"env\0" * 2**15,
        b"python\0-m\0" + b"a." * 2**16,
        b"eyJ" * 2**15,
        b"://" * 2**15,
        b"://a@" * 2**15,
        b"?a=" * 2**15,
        b"&" * 2**17,
        b"sk-" * 2**15,
        b"aB3_" * 2**15,
        b"token= " * 2**14,
        b"-P/" * 2**15,
        "\u202e\u0660".encode() * 2**14,
    ],
)
def test_a_huge_command_line_is_looked_at_in_part(line: bytes) -> None:
    """That this ends within the time that a test may take is what it shows: one pattern that is not linear would."""
    for _ in range(20):
        told = short_command(line, "kernelname")
        assert told is None or len(told) <= LIMIT_BYTES + 100
        assert len(redacted(line.decode())) <= 4 * LIMIT_BYTES


def test_an_argument_that_was_cut_off_is_not_told() -> None:
    padding = "x" * (LIMIT_BYTES - 30)
    assert short(["python", "-W", padding, "train.py" + "y" * 100]) == "python"


SECRET_NAMES = (
    *("password", "passwd", "pwd", "passphrase", "secret", "token", "access_token", "auth_token", "api_key", "apikey"),
    *("credential", "credentials", "private_key", "bearer", "session", "client_secret", "aws_secret_access_key"),
    *("hf_token", "WANDB_API_KEY", "session_id", "cookie", "auth", "X-Api-Key", "db-password", "sshPassphrase"),
)
NAMED = (
    *("--{}={}", "--{} {}", "-{}={}", "-{} {}", "{}={}", "{}:{}", "{}: {}", "--{}=Bearer {}", "{}: Basic {}"),
    *("https://h/x?{}={}", "https://h/x?a=b&{}={}#z", "x --env {}={} y", "--set=a.b.{}={}"),
)


def spelt(name: str) -> st.SearchStrategy[str]:
    """A name as people write it."""
    forms = {name, name.upper(), name.title(), name.replace("_", "-"), name.replace("_", ""), f"my_{name}", f"{name}2"}
    return st.sampled_from(sorted(forms))


@settings(max_examples=500)
@given(
    st.sampled_from(SECRET_NAMES).flatmap(spelt), st.sampled_from(NAMED), worded | shaped, st.lists(options, max_size=2)
)
def test_what_stands_behind_the_name_of_a_secret_is_hidden_wherever_it_is_told(
    name: str, form: str, secret: str, before: list[str]
) -> None:
    told = redacted(" ".join([*before, form.format(name, secret)]))
    assert secret not in told
    assert "***" in told


@given(
    shaped, st.sampled_from(["{}", "x/{}", "{}.py", "--a={}", "a:{}", "https://me:{}@h/x", "https://h/?q={}", "'{}'"])
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(secret: str, form: str) -> None:
    told = redacted(form.format(secret))
    assert not {secret[at : at + 12] for at in range(len(secret) - 11)} & {
        told[at : at + 12] for at in range(len(told))
    }


@pytest.mark.parametrize(
    "secret",
    [
        *(
            "github_pat_11ABCDEFG0abcdefghij_klmnopqrstuv",
            "glpat-abcdefGHIJ1234567890",
            "xoxb-123456789012-abcdefABCDEF",
        ),
        *(
            "AIzaSyA1234567890abcdefghijklmnopqrstuv",
            "npm_abcdefghijklmnopqrstuvwxyz0123456789",
            "nvapi-abcdefGHIJ1234567890",
        ),
        *("ASIAIOSFODNN7EXAMPLE", "pk_live_abcdefGHIJ1234567890", "gho_abcdefghijklmnopqrstuvwxyz0123456789"),
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "0123456789abcdef0123456789abcdef",
        "dGhpcyBpcyBhIHNlY3JldCB0aGF0IGlzIGxvbmc=",
    ],
)
def test_shapes_of_secrets_that_are_known_are_hidden(secret: str) -> None:
    assert redacted(f"train.py {secret}") == "train.py ***"
