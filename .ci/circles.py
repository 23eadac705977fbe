#!/usr/bin/env python3
"""Finds circles of imports between the files of each crate: `.ci/circles.py [SOURCE_DIR...]`. Exit status 1 if there is
a circle.

A file has an edge to every file whose items it names by a path that starts with `crate::`, `self::`, `super::` or a
child module. Edges between a module and its child modules do not count, because a `mod.rs` lists and re-exports its
children. A re-exported name counts for the file that defines it, if the re-export names that file. Test code
(`#[cfg(test)] mod ... { }`) and comments do not count.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["src", "crates/*/src", "wasm/src"]


def plain(text):
    """Source text without comments, strings and inline test modules."""
    text = re.sub(r'r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', '""', text, flags=re.S)
    while match := re.search(r"#\[cfg\((?:all\()?test\b[^\n]*\]\s*(?:#\[[^\n]*\]\s*)*(?:pub(?:\([^)]*\))? )?mod \w+ \{", text):
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: match.start()] + text[end:]
    return text


def leaves(tree):
    """Paths of a use tree: `a::{b, c::d}` gives a::b and a::c::d. `as` names are kept as `path as name`."""
    tree = tree.strip()
    at = tree.find("{")
    if at < 0:
        return [tree]
    prefix, inner, depth, part, parts = tree[:at], tree[at + 1 : tree.rfind("}")], 0, "", []
    for letter in inner:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [prefix + leaf for part in parts + [part] if part.strip() for leaf in leaves(part)]


class Crate:
    def __init__(self, source):
        self.files = {}  # module path -> file
        self.texts = {}  # module path -> plain text
        self.exports = {}  # module path -> {name: path it stands for}
        for file in sorted(source.rglob("*.rs")):
            parts = list(file.relative_to(source).with_suffix("").parts)
            if parts[0] in ("main", "bin") or parts[-1] in ("tests", "test"):
                continue
            if parts[-1] in ("mod", "lib"):
                parts.pop()
            self.files[tuple(parts)] = file
            self.texts[tuple(parts)] = plain(file.read_text())
        for module, text in self.texts.items():
            names = self.exports.setdefault(module, {})
            for use in re.findall(r"\bpub(?:\([^)]*\))? use ([^;]+);", text):
                for leaf in leaves(re.sub(r"\s+", " ", use)):
                    path, _, alias = leaf.partition(" as ")
                    target = self.absolute(module, [part.strip() for part in path.split("::")])
                    if target:
                        names[alias.strip() or target[-1]] = target

    def absolute(self, module, path):
        """A path from the crate's root, or None for one of another crate."""
        if path[0] == "crate":
            return tuple(path[1:])
        base = list(module)
        if path[0] == "self":
            path = path[1:]
        elif path[0] == "super":
            while path and path[0] == "super":
                base, path = base[:-1], path[1:]
        elif tuple(base + path[:1]) not in self.files:
            return None
        return tuple(base + path)

    def owner(self, path, seen=()):
        """The module that defines what a path names; follows re-exports."""
        if path in seen:
            return None
        for length in range(len(path), -1, -1):
            module = path[:length]
            if module not in self.files:
                continue
            if length == len(path):
                return module
            target = self.exports[module].get(path[length])
            if target and target != path[: length + 1]:
                return self.owner(target + path[length + 1 :], (*seen, path))
            for name, target in self.exports[module].items():
                if name == "*" and target[:-1] in self.files and self.defines(target[:-1], path[length]):
                    return self.owner(target[:-1] + path[length:], (*seen, path))
            return module
        return None

    def defines(self, module, name):
        pattern = rf"\b(?:fn|struct|enum|trait|type|const|static|mod|macro_rules!) {re.escape(name)}\b"
        return re.search(pattern, self.texts[module]) or name in self.exports[module]

    def edges(self, module):
        text, found = self.texts[module], set()
        paths = [leaf.partition(" as ")[0] for use in re.findall(r"\buse ([^;]+);", text) for leaf in leaves(re.sub(r"\s+", " ", use))]
        paths += re.findall(r"\b(?:crate|self|super)(?:::\w+)+", re.sub(r"\buse [^;]+;", "", text))
        for path in paths:
            target = self.absolute(module, [part.strip() for part in path.split("::")])
            other = self.owner(target) if target is not None else None
            if other is None or other == module:
                continue
            inside = other[: len(module)] == module or module[: len(other)] == other
            if not inside:
                found.add(other)
        return found

    def circles(self):
        """Strongly connected groups of more than one module (Tarjan)."""
        graph = {module: sorted(self.edges(module)) for module in self.files}
        index, low, stack, groups = {}, {}, [], []

        def visit(node):
            index[node] = low[node] = len(index)
            stack.append(node)
            for other in graph[node]:
                if other not in index:
                    visit(other)
                    low[node] = min(low[node], low[other])
                elif other in stack:
                    low[node] = min(low[node], index[other])
            if low[node] == index[node]:
                group = stack[stack.index(node) :]
                del stack[stack.index(node) :]
                if len(group) > 1:
                    groups.append(group)

        sys.setrecursionlimit(10_000)
        for node in graph:
            if node not in index:
                visit(node)
        return [(group, [(a, b) for a in group for b in graph[a] if b in group]) for group in groups]


def main():
    sources = sys.argv[1:] or [path for pattern in SOURCES for path in sorted(ROOT.glob(pattern))]
    count = files = 0
    for source in map(Path, sources):
        crate = Crate(source)
        files += len(crate.files)
        for group, edges in crate.circles():
            count += 1
            name = source.resolve()
            name = name.relative_to(ROOT) if name.is_relative_to(ROOT) else name
            print(f"circle of {len(group)} files in {name}:")
            for a, b in edges:
                print(f"    {'::'.join(a) or 'lib'} -> {'::'.join(b) or 'lib'}")
    print(f"{files} files, {count} circles of imports")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
