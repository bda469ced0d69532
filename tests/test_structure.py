"""What the source code of resjax promises to who reads it."""

import ast
from collections import defaultdict
from pathlib import Path

import resjax

PACKAGE = Path(resjax.__file__).parent

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def test_no_public_class_or_function_has_the_name_of_another():
    homes = defaultdict(list)
    for module, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                homes[node.name].append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
