"""RE2 itself, as Envoy runs it. A line of input is {"pattern", "with", "texts": [base64]}; a line of output is what RE2 says of
the pattern: {"refused": why} or {"size": instructions, "whole": [does it match the whole text], "replaced": [base64 of the
text with every match replaced by `with`]}."""

import base64
import json
import re
import sys

from re2 import Options, _re2

OPTIONS = Options()
OPTIONS.log_errors = False
WHOLE, ANYWHERE = _re2.RE2.Anchor.ANCHOR_BOTH, _re2.RE2.Anchor.UNANCHORED


def expand(substitution, text, spans):
    def piece(found):
        if found[1] == b"\\":
            return b"\\"
        start, end = spans[int(found[1])]
        return text[start:end] if start >= 0 else b""

    return re.sub(rb"\\([0-9\\])", piece, substitution)


def character(text, at):
    """The length of the character at a place, 1 where there is none that is valid."""
    for length in range(1, 5):
        try:
            text[at : at + length].decode()
            return length
        except UnicodeDecodeError:
            continue
    return 1


def replace(expression, text, substitution):
    """RE2::GlobalReplace, which Python's module does not have."""
    highest = max((int(digit) for digit in re.findall(rb"\\([0-9])", substitution.replace(b"\\\\", b""))), default=0)
    if highest > expression.NumberOfCapturingGroups():
        return text
    out, at, last_end = b"", 0, None
    while at <= len(text):
        spans = expression.Match(ANYWHERE, text, at, len(text))
        start, end = spans[0]
        if start < 0:
            break
        out += text[at:start]
        at = start
        if start == end == last_end:
            length = character(text, at)
            out += text[at : at + length]
            at += length
            continue
        out += expand(substitution, text, spans)
        at = last_end = end
    return out + text[at:]


def judge(case):
    expression = _re2.RE2(case["pattern"].encode(), OPTIONS)
    if not expression.ok():
        return {"refused": expression.error().decode(errors="replace")}
    texts = [base64.b64decode(text) for text in case["texts"]]
    whole = [expression.Match(WHOLE, text, 0, len(text))[0][0] >= 0 for text in texts]
    replaced = [base64.b64encode(replace(expression, text, case["with"].encode())).decode() for text in texts]
    return {"size": expression.ProgramSize(), "whole": whole, "replaced": replaced}


for line in sys.stdin:
    print(json.dumps(judge(json.loads(line))))
