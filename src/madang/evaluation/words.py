"""What the page of a comparison says, in the languages that it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

Language = Literal["en", "ko"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

_ENGLISH: Final = {
    "title": "Comparison of {n} models",
    "summary": "Made on {made_at} with madang {version} on {machine}. The reference is {reference}.",
    "overview": "Overview",
    "model": "Model",
    "size": "Size",
    "memory": "Memory",
    "memory_note": "Memory is that of a fresh process with a context of {context} tokens: after loading, and at most "
    "while it answered.",
    "loaded": "loaded",
    "peak": "peak",
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits per byte",
    "bits_per_character": "Bits per character",
    "kl": "Mean KL",
    "same_top": "Same top token",
    "tasks": "Tasks",
    "prompt": "Prompt, tokens/s",
    "decode": "Decode, tokens/s",
    "first_token": "First token",
    "reference": "reference",
    "noise_note": "≈ marks what may differ from the reference by chance: the 95 % interval of the difference includes "
    "none, or the runs of both overlap.",
    "interval_note": "In brackets: 95 % intervals, drawn again over {passages} passages; of speeds, the slowest and "
    "the fastest of {runs} runs.",
    "kl_note": "KL (reference ‖ model) in nats per token; 0 is the same distribution over next tokens.",
    "tokenizers_note": "The models have different tokenizers, so perplexity and KL cannot be compared: bits per byte "
    "count what was written, not tokens.",
    "equal_kl": "No certain difference in KL: {pairs}.",
    "and": "and",
    "quality_plot": "Quality and size",
    "quality_plot_kl": "Mean KL from the reference by size on disk; lower is closer, further left is smaller.",
    "quality_plot_bits": "Bits per byte by size on disk; lower is better, further left is smaller.",
    "speed_plot": "Speed and size",
    "speed_plot_note": "Tokens per second while answering, by size on disk; higher is faster, further left is smaller.",
    "points": "Figures of the plot",
    "size_axis": "Size on disk, MB",
    "kl_axis": "Mean KL, nats",
    "bits_axis": "Bits per byte",
    "speed_axis": "Decode, tokens/s",
    "low": "Low",
    "high": "High",
    "answers": "Answers to the same prompts",
    "answers_note": "The likeliest answer, of at most {tokens} tokens.",
    "failed": "Could not be measured",
    "text": "What was read",
    "text_row": "{name}: {bytes} bytes in {passages} passages",
    "tokens": "Tokens",
    "nothing": "unknown",
    "problem_text": "text",
    "problem_speed": "speed",
    "problem_answers": "answers",
    "problem_tasks": "tasks",
}

_KOREAN: Final = {
    "title": "모델 {n}개 비교",
    "summary": "{made_at}에 madang {version}로 {machine}에서 측정했습니다. 기준은 {reference}입니다.",
    "overview": "한눈에 보기",
    "model": "모델",
    "size": "크기",
    "memory": "메모리",
    "memory_note": "메모리는 문맥 {context} 토큰으로 새로 띄운 프로세스의 값입니다. "
    "불러온 직후와 답하는 동안의 최댓값입니다.",
    "loaded": "불러온 직후",
    "peak": "최대",
    "perplexity": "퍼플렉시티",
    "bits_per_byte": "바이트당 비트",
    "bits_per_character": "글자당 비트",
    "kl": "평균 KL",
    "same_top": "1순위 토큰 일치",
    "tasks": "과제",
    "prompt": "프롬프트 토큰/초",
    "decode": "생성 토큰/초",
    "first_token": "첫 토큰까지",
    "reference": "기준",
    "noise_note": "≈ 표시는 기준과의 차이가 우연일 수 있다는 뜻입니다. "
    "차이의 95 % 구간이 0을 포함하거나 두 모델의 측정값이 겹칩니다.",
    "interval_note": "괄호 안은 글 {passages}조각을 다시 뽑아 얻은 95 % 구간이며, "
    "속도는 {runs}번 가운데 가장 느린 값과 빠른 값입니다.",
    "kl_note": "KL(기준 ‖ 모델)은 토큰당 나트 값이며, 0이면 다음 토큰의 분포가 같습니다.",
    "tokenizers_note": "모델들의 토크나이저가 달라 퍼플렉시티와 KL은 견줄 수 없습니다. "
    "바이트당 비트는 토큰이 아니라 쓰인 글을 셉니다.",
    "equal_kl": "KL 차이가 확실하지 않은 쌍: {pairs}.",
    "and": "·",
    "quality_plot": "품질과 크기",
    "quality_plot_kl": "디스크 크기에 따른 기준과의 평균 KL. 낮을수록 기준에 가깝고 왼쪽일수록 작습니다.",
    "quality_plot_bits": "디스크 크기에 따른 바이트당 비트. 낮을수록 좋고 왼쪽일수록 작습니다.",
    "speed_plot": "속도와 크기",
    "speed_plot_note": "디스크 크기에 따른 생성 속도(초당 토큰). 높을수록 빠르고 왼쪽일수록 작습니다.",
    "points": "그림의 값",
    "size_axis": "디스크 크기, MB",
    "kl_axis": "평균 KL, 나트",
    "bits_axis": "바이트당 비트",
    "speed_axis": "생성 토큰/초",
    "low": "아래",
    "high": "위",
    "answers": "같은 질문에 대한 답",
    "answers_note": "가장 그럴듯한 답을 {tokens} 토큰까지 적었습니다.",
    "failed": "측정하지 못한 것",
    "text": "읽은 글",
    "text_row": "{name}: {bytes} 바이트, {passages}조각",
    "tokens": "토큰",
    "nothing": "알 수 없음",
    "problem_text": "글",
    "problem_speed": "속도",
    "problem_answers": "답",
    "problem_tasks": "과제",
}

WORDS: Final[Mapping[Language, Mapping[str, str]]] = {"en": _ENGLISH, "ko": _KOREAN}
