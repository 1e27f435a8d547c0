"""Meetings: who said what, from data sets, subtitles and notes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from madang.rag.parsing import parse_document

QMSUM = {"meeting_transcripts": [{"speaker": "PM", "content": "Hello ."}, {"speaker": "Marketing", "content": ""}]}


def test_a_data_set_has_a_line_for_each_turn() -> None:
    document = parse_document("2026-03-04 kickoff.json", json.dumps(QMSUM).encode())
    assert document.text == "PM: Hello .\nMarketing:"
    assert document.facts == {"speakers": ["PM", "Marketing"], "n_turns": 2, "date": "2026-03-04"}


def test_several_meetings_of_a_file_have_headings() -> None:
    document = parse_document("all.jsonl", "\n".join([json.dumps(QMSUM)] * 3).encode())
    assert [section.headings for section in document.sections] == [("Meeting 1",), ("Meeting 2",), ("Meeting 3",)]
    assert document.facts["n_turns"] == 6


@pytest.mark.parametrize(
    "value",
    [
        [{"speaker": "A", "text": "one"}, {"speaker": "B", "text": "two"}],
        {"segments": [{"speaker": "A", "text": "one", "start": 0.0}, {"speaker": "B", "text": "two", "start": 1.5}]},
    ],
)
def test_shapes_of_speech_recognisers(value: object) -> None:
    assert parse_document("a.json", json.dumps(value).encode()).text == "A: one\nB: two"


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", "not json at all", '[{"speaker": 1}]', "[" * 100_000, "7" * 5000])
def test_other_json_is_text(text: str) -> None:
    document = parse_document("a.json", text.encode())
    assert document.text == text and "speakers" not in document.facts


WEBVTT = """WEBVTT - Weekly

NOTE
no speech

1
00:01.000 --> 00:04.000 align:left
<v.loud Kim Min-su>Let's <i>begin</i>.</v>

00:05.000 --> 00:06.000
<v Kim Min-su>Who is &lt;late&gt;?

00:00:07.000 --> 00:00:08.000
<v Lee>Me.
"""


def test_subtitles_have_speakers_by_their_marks() -> None:
    document = parse_document("weekly", WEBVTT.encode())
    assert document.text == "Kim Min-su: Let's begin. Who is <late>?\nLee: Me."
    assert document.facts["speakers"] == ["Kim Min-su", "Lee"]


def test_subtitles_have_speakers_by_their_names() -> None:
    cues = (
        "1\n00:00:01,000 --> 00:00:02,000\n김민수: 시작합시다.\n이어서\n\n00:00:03,000 --> 00:00:04,000\n이영희: 네.\n"
    )
    text = cues.replace("\n", "\r\n")
    assert parse_document("a.srt", text.encode()).text == "김민수: 시작합시다. 이어서\n이영희: 네."


NOTES = """일시: 2026년 3월 4일
참석자: 김민수, 이영희

김민수: 시작합시다. 예산은 3:2로 나눕니다.
이영희: 네,
좋습니다.
[00:01:02] 김민수 : 다음 안건은요?
이영희 (00:01:10): 배포 일정입니다.
김민수: 그럼 마칩시다.
"""


def test_notes_of_a_meeting() -> None:
    document = parse_document("notes.txt", NOTES.encode())
    assert document.text.split("\n") == [
        "일시: 2026년 3월 4일",
        "참석자: 김민수, 이영희",
        "김민수: 시작합시다. 예산은 3:2로 나눕니다.",
        "이영희: 네, 좋습니다.",
        "김민수: 다음 안건은요?",
        "이영희: 배포 일정입니다.",
        "김민수: 그럼 마칩시다.",
    ]
    assert document.facts == {"speakers": ["김민수", "이영희"], "n_turns": 5, "date": "2026-03-04"}


@pytest.mark.parametrize(
    "text",
    [
        "name: madang\nversion: 1\nlicense: Apache\nauthor: x\n",
        "We met.\n\nNote: this is prose.\nNote: and this, too.\nIt goes on like this for a while.\nAnd on.\n",
    ],
)
def test_other_text_with_colons_is_no_meeting(text: str) -> None:
    assert "speakers" not in parse_document("a.txt", text.encode()).facts


def test_real_meetings(shared_data: Path) -> None:
    path = shared_data / "english" / "qmsum_val.jsonl"
    meetings = [json.loads(line)["meeting_transcripts"] for line in path.read_text(encoding="utf-8").splitlines()]
    document = parse_document(path.name, path)
    assert len(document.sections) == len(meetings)
    assert document.facts["n_turns"] == sum(map(len, meetings))
    one = parse_document("one.json", json.dumps({"meeting_transcripts": meetings[0]}).encode())
    assert [line.partition(":")[0] for line in one.text.split("\n")] == [turn["speaker"] for turn in meetings[0]]
