"""Count the lines that are no docstring, blank ones and comments included, in each room: now, or at a commit.

python benchmarks/lines.py [COMMIT]
"""

import argparse
import ast
import subprocess
from collections import Counter

FOLDERS = ("unetbio", "cli", "pipelines")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", nargs="?", default="HEAD")
    commit = parser.parse_args().commit
    counts: Counter[str] = Counter()
    for name in _git("ls-tree", "-r", "--name-only", commit, "--", *FOLDERS).splitlines():
        if name.endswith(".py"):
            folder, room, *_ = name.removesuffix(".py").split("/")
            counts[room if folder == "unetbio" else folder] += count_code(_git("show", f"{commit}:{name}"))
    for room, count in counts.most_common():
        print(f"{count:6}  {room}")
    print(f"{counts.total():6}  in all")


def count_code(text: str) -> int:
    docstrings = [node for node in ast.walk(ast.parse(text)) if _is_text(node)]
    return len(text.splitlines()) - sum(node.end_lineno - node.lineno + 1 for node in docstrings)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
