"""Checks a commit's message, as git's commit-msg hook: `python tools/commit_message.py FILE`."""

import re
import sys
from pathlib import Path

LONGEST = 72
# Verbs whose ending looks like a past tense, a participle or a third person.
VERBS = re.compile("Bring|Don't|Embed|Exceed|Feed|Need|Ping|Proceed|Seed|Shed|Speed|String|Bias|Focus")
# First words of earlier subjects that were not imperatives.
NO_VERBS = re.compile(
    "A|An|The|This|That|These|Those|One|Two|All|Each|Every|No|Nobody|Nothing|I|It|He|She|"
    "They|We|You|What|Where|Who|Why|How|Its|Their|Our|Your|My|With|Without|In|On|At|Of|For|"
    "From|By|To|As|If|Beyond|Behind|Now|Also|Ledger|Keyword|Depthwise|Desktop|Vector|Figure|"
    "Half|Host|Board|Firmware|Studio"
)


def is_command(word: str) -> bool:
    """Whether a word may be an imperative: capitalized, no participle, no third person, no plural."""
    if VERBS.fullmatch(word):
        return True
    if not re.fullmatch(r"[A-Z][a-z]+(-[a-z]+)*", word) or NO_VERBS.fullmatch(word):
        return False
    return not re.search(r"(ed|ing|[^s]s)$", word)


def faults(message: str) -> list[str]:
    """The faults of a message; git's comment lines are ignored."""
    text = message.split("\n# ------------------------ >8 ------------------------", 1)[0]
    lines = [line.rstrip() for line in text.split("\n") if not line.startswith("#")]
    subject, rest = lines[0], lines[1:]
    if subject.startswith(("fixup! ", "squash! ")):  # git merges it into another commit
        return []
    found = []
    if len(subject) > LONGEST:
        found.append(f"the subject has {len(subject)} characters; at most {LONGEST}")
    if not is_command(subject.split(" ", 1)[0]):
        found.append("the subject begins with no verb in the imperative: 'Refuse an adapter whose base id differs'")
    if ";" in subject:
        found.append("the subject joins changes by a semicolon: commit each by itself")
    if subject.endswith("."):
        found.append("the subject ends with a full stop: leave it out")
    if rest and rest[0]:
        found.append("the second line is not blank")
    if not any(rest[1:]):
        found.append("there is no body: say why, behind a blank line")
    return found


def main() -> int:
    found = faults(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for fault in found:
        print(f"commit message: {fault}", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
