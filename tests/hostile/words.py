"""What a stranger may write where a word or a number is expected. Rows are data: a new one is tried everywhere."""

from __future__ import annotations

from typing import Any

TEXTS: dict[str, str] = {
    # Paths that lead out
    "a parent": "../victim.txt",
    "two parents": "../../victim.txt",
    "three parents": "../../../victim.txt",
    "a parent inside": "a/../../victim.txt",
    "absolute": "@HOME@/victim.txt",
    "a private folder": "@HOME@/private/pictures",
    "a private file": "../../private/letter.txt",
    "a system folder": "/etc",
    "home": "~/victim.txt",
    "backslashes": "..\\..\\victim.txt",
    "a drive": "C:\\victim.txt",
    "a drive's place": "C:victim.txt",
    "percent": "%2e%2e/%2e%2e/victim.txt",
    "NUL": "index.parquet\0../../victim.txt",
    "empty": "",
    "a dot": ".",
    "two dots": "..",
    "a slash": "/",
    "a slash at the end": "train/",
    "a hidden name": ".build",
    "the manifest": "manifest.json",
    "the card": "README.md",
    "longer than names": "a" * 300,
    "longer than paths": "a/" * 3000,
    # Places to go to
    "a URL": "@ELSEWHERE@/internal",
    "a file URL": "file://@HOME@/private/letter.txt",
    "a Hub repository": "evil/repository",
    "a Hub location": "hub:evil/repository",
    "a Hub URL": "hf://datasets/evil/repository",
    "a bucket": "s3://evil/bucket",
    # Words for people
    "escapes": "\x1b]0;pwned\x07\x1b[2J\x1b[31mpwned",
    "C1 controls": "\x9b31mpwned\x9d0;pwned\x9c",
    "right to left": "\u202egnp.nwp\u2066",
    "a second line": "x\nError: pwned\r\nFAKE LINE",
    "line separators": "x\u2028FAKE LINE\u2029FAKE LINE\x85FAKE LINE",
    "half a character": "pwned\ud800",
    "HTML": "<img src=x onerror=alert(1)>",
    "a script": "</code></pre><script>onerror=alert(1)</script>",
    "a mark's end": "<!-- latentstore:end -->",
    "a mark": "<!-- latentstore:begin {} -->",
    "a comment": "<!-- pwned",
    "a comment's end": "--> pwned",
    "front matter": "x\n---\npwned: true\n---\n",
    "a YAML key": "x\npwned: true",
    "a YAML tag": "!!python/object/apply:os.system ['touch pwned']",
    "YAML aliases": "&a [*a, *a]",
    "a quote": "\"'",
    "a backtick": "`",
    "a fence": "x\n```\n<img src=x onerror=alert(1)>\n```",
    "a link": "[pwned](https://pwned.example)",
    "a script link": "[pwned](javascript:alert(1))",
    "an image": "![pwned](https://pwned.example/pixel.png)",
    "a table": "| pwned | pwned |\n|---|---|",
    "a heading": "\n# pwned\n",
    # Words for programs
    "a format": "{0.__class__.__mro__} %s %n ${HOME}",
    "rich markup": "[bold red]pwned[/] :bomb:",
    "code": "__import__('os').system('touch pwned')",
    "a shell": "$(touch pwned); `touch pwned` && touch pwned #",
    "an option": "--force",
    "an expression": "(a+)+$",
    "many brackets": "[" * 20_000,
    "many bytes": "a" * 200_000,
    "another name": "demo",
}
NUMBERS: dict[str, Any] = {
    "below zero": -1,
    "zero": 0,
    "one": 1,
    "31 bits": 2**31,
    "63 bits": 2**63 - 1,
    "64 bits": 2**64,
    "10^18": 10**18,
    "10^300": 10**300,
    "10^3000": 10**3000,
    "far below zero": -(10**18),
    "a half": 0.5,
    "the largest": 1.7e308,
    "the smallest": 5e-324,
    "minus the largest": -1.7e308,
}
KINDS: dict[str, Any] = {
    "null": None,
    "true": True,
    "a number": 7,
    "a word": "x",
    "a list": [],
    "an object": {},
    "a deep list": "@DEEP@",
}
"""Another kind of value than is expected; ``@DEEP@`` stands for 500 lists in each other."""
ESCAPES = ("a parent", "two parents", "three parents", "absolute", "NUL", "backslashes", "a drive")
"""The words with which a file is told to lie elsewhere."""


def deep() -> Any:
    """500 lists in each other."""
    found: Any = []
    for _ in range(500):
        found = [found]
    return found
