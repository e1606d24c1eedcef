"""Token sequences as a prefix tree: requests that begin alike share nodes. A node is one token.

The k-shot prefix of a subject, then the question, then the options; nodes without a branch between them make a segment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field


@dataclass
class Tree:
    """A prefix tree of token sequences. Nodes are numbered in the order they come, parents before children."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)  # -1: a root
    _child: dict[tuple[int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, sequence: Iterable[int]) -> list[int]:
        """The nodes of `sequence`, new ones where nothing begins like it."""
        node, path = -1, []
        for token in sequence:
            found = self._child.setdefault((node, token), len(self.tokens))
            if found == len(self.tokens):
                self.tokens.append(token)
                self.parents.append(node)
            node = found
            path.append(node)
        return path

    def segments(self, ends: Collection[int] = ()) -> list[Segment]:
        """The roots of the tree of segments, which also end at the nodes `ends`."""
        children = [0] * len(self)
        for parent in self.parents:
            if parent >= 0:
                children[parent] += 1
        roots: list[Segment] = []
        of: list[Segment] = []
        for node, parent in enumerate(self.parents):
            if parent >= 0 and children[parent] == 1 and parent not in ends:
                of.append(of[parent])
                of[parent].nodes.append(node)
                continue
            before = of[parent] if parent >= 0 else None
            of.append(Segment([node], before.start + len(before.nodes) if before else 0))
            (before.children if before else roots).append(of[node])
        return roots


@dataclass
class Segment:
    nodes: list[int]
    start: int  # tokens in front of it
    children: list[Segment] = field(default_factory=list)


def ends(segments: Iterable[Segment]) -> Iterator[int]:
    """Tokens up to the end of each segment."""
    for segment in segments:
        yield segment.start + len(segment.nodes)
        yield from ends(segment.children)
