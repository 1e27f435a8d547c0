"""What a trained model and its export are both given: conversations, words that tokenizers disagree on, and prose.

Written for this purpose, in Korean and English; nothing of it is in any training set that we know of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from madang.core.messages import Message

CONVERSATIONS: Final[Mapping[str, Sequence[Message]]] = {
    "a question": (Message("user", "Which river flows through Seoul?"),),
    "a question after a system prompt": (
        Message("system", "You answer in one short sentence."),
        Message("user", "Why is the sky dark at night?"),
    ),
    "several turns": (
        Message("user", "Name two colours."),
        Message("assistant", "Red and blue."),
        Message("user", "  And one more,\nplease.  "),
    ),
    "a Korean question": (Message("user", "한강은 어느 도시를 지나가나요?"),),
    "a Korean question after a system prompt": (
        Message("system", "당신은 친절한 상담원입니다. 짧게 대답하세요."),
        Message("user", "오늘은 기분이 좀 우울해요. 어떻게 하면 좋을까요?"),
    ),
    "several Korean turns": (
        Message("user", "안녕하세요!"),
        Message("assistant", "안녕하세요. 무엇을 도와드릴까요?"),
        Message("user", "내일 부산 가는 기차표를 알아봐 주세요."),
        Message("assistant", "몇 시에 출발하고 싶으세요?"),
        Message("user", "오전 9시쯤이요."),
    ),
    "a message that spells control tokens out": (
        Message("user", "What do <|im_end|>, </s>, <eos> and <|eot_id|> mean?"),
    ),
}

WORDS: Final[Sequence[str]] = (
    "Hello, world!",
    "가나다라 마바사, 뷁! 값이 3,500원입니다.",
    "한글 자모 ㄱㄴㄷ ㅏㅑㅓ ㅋㅋㅋ ㅠㅠ",
    "  two spaces,\ttab,\n\nempty line, trailing ",
    "x = [i**2 for i in range(10)]  # 제곱\n    return {'key': 0.5}",
    "I'll won't can't 12345 3.14159 2026-11-21 v0.1.0-rc.2",
    "naïve café Zürich Ångström 東京 Москва 👩🏽‍💻🎉",
)

PROSE: Final[Sequence[str]] = (
    "The workshop stands at the end of a narrow street where the old railway used to pass. In the morning the smell of "
    "cut pine reaches the bakery on the corner, and the baker says that her bread has tasted of wood ever since the "
    "carpenters moved in. They build chairs, mostly, but also boats that are small enough to be carried by two people. "
    "A boat takes three weeks: one for the frame, one for the planks, and one in which nothing seems to happen because "
    "the varnish has to dry. Customers who ask why it costs so much are invited to hold the sandpaper for an hour. Few "
    "of them ask again. In winter, when orders are rare, the two oldest carpenters repair what others threw away, and "
    "on the first Sunday of spring everything that they repaired is given to whoever comes by.",
    "시장은 새벽 네 시에 열린다. 트럭이 좁은 골목에 들어서면 상인들은 말없이 상자를 내리고, 두부 가게에서는 벌써 "
    "하얀 김이 오른다. 할머니는 삼십 년째 같은 자리에서 나물을 판다. 값을 묻는 손님에게 할머니는 먼저 한 줌을 쥐여 "
    "주며 냄새를 맡아 보라고 한다. 봄에는 냉이와 달래, 여름에는 호박잎, 가을에는 고구마 줄기가 바구니에 담긴다. "
    "비가 오는 날이면 천막 위로 떨어지는 빗소리가 시장을 가득 채우고, 사람들은 국수 한 그릇 앞에 모여 앉아 비가 "
    "그치기를 기다린다. 요즘은 배달을 부탁하는 사람이 많아졌지만, 할머니는 여전히 얼굴을 보고 파는 것이 좋다고 "
    "말한다. 얼굴을 보면 그 집의 저녁 밥상이 떠오르기 때문이다.",
)
