"""What a model is told to write, and how much of it. The words are versioned: they stand in every row's provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from madang.core.errors import InvalidRequest

Kind: TypeAlias = Literal["qa", "text"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PROMPT_VERSION: Final = 1

PROMPTS: Final[Mapping[tuple[Kind, str], str]] = {
    ("qa", "en"): "Write one question about this topic and a correct answer to it in two to five sentences. {angle}\n"
    "Topic: {topic}\nReply with a JSON object with the keys question and answer.",
    ("qa", "ko"): "다음 주제에 대한 질문 하나와 두 문장에서 다섯 문장 길이의 정확한 답을 한국어로 쓰세요. {angle}\n"
    "주제: {topic}\nquestion과 answer를 키로 가진 JSON 객체로 답하세요.",
    ("text", "en"): "Write a clear textbook passage of one to three paragraphs about this topic. {angle}\n"
    "Topic: {topic}\nReply with a JSON object with the key text.",
    ("text", "ko"): "다음 주제를 설명하는 교과서 같은 글을 한국어로 한 문단에서 세 문단 쓰세요. {angle}\n"
    "주제: {topic}\ntext를 키로 가진 JSON 객체로 답하세요.",
}
ANGLES: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        "Write for a beginner.",
        "Use a concrete example.",
        "Explain a reason or a cause.",
        "Compare it with something similar.",
        "Correct a common mistake.",
        "Write for someone who knows the basics.",
    ),
    "ko": (
        "초보자를 위해 쓰세요.",
        "구체적인 예를 드세요.",
        "이유나 원인을 설명하세요.",
        "비슷한 것과 비교하세요.",
        "흔한 오해를 바로잡으세요.",
        "기초를 아는 사람을 위해 쓰세요.",
    ),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make of each topic.

    per_topic        examples of each topic
    instruction      in place of PROMPTS; {topic} and {angle} stand for what their names say
    is_held          the engine holds its answer to the form of JSON; otherwise the answer is searched for it
    tries            attempts for an example before it is given up
    max_similarity   Jaccard with an example that was made before, from which one is refused
    """

    kind: Kind = "qa"
    language: str = "en"
    per_topic: int = 1
    seed: int = 0
    temperature: float = 0.9
    max_tokens: int = 512
    instruction: str | None = None
    is_held: bool = True
    tries: int = 3
    min_characters: int = 20
    max_characters: int = 4000
    max_similarity: float = 0.7

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidRequest(f"'{self.kind}' is not one of {', '.join(KINDS)}.", param="kind")
        if self.language not in ANGLES:
            raise InvalidRequest(f"'{self.language}' is not one of {', '.join(ANGLES)}.", param="language")
        if self.instruction is not None and "{topic}" not in self.instruction:
            raise InvalidRequest("The instruction has no {topic} in it.", param="instruction")

    @property
    def prompt_name(self) -> str:
        """Which words were used, for the provenance."""
        if self.instruction is None:
            return f"{self.kind}-{self.language}-{PROMPT_VERSION}"
        return f"sha256:{hashlib.sha256(self.instruction.encode()).hexdigest()[:16]}"

    def words(self, topic: str, number: int) -> str:
        """What the model is told; the angle changes from one example to the next."""
        angles = ANGLES[self.language]
        told = self.instruction or PROMPTS[self.kind, self.language]
        return told.replace("{angle}", angles[number % len(angles)]).replace("{topic}", topic)
