import { type Failure, failureOf, isRecord } from "@/api/failure";
import { type Facts, factsOfAnswer } from "./facts";

export interface ToolCall {
  name: string;
  arguments: string;
}

/** What has come of an answer. Ids are the session's, known at the end. */
export interface Answer {
  text: string;
  reasoning: string;
  calls: readonly ToolCall[];
  facts: Facts | null;
  message: string | null;
  question: string | null;
  failure: Failure | null;
  isWhole: boolean;
}

export const NOTHING_YET: Answer = {
  text: "",
  reasoning: "",
  calls: [],
  facts: null,
  message: null,
  question: null,
  failure: null,
  isWhole: false,
};

/** The answer after one more event of the stream of `/v1/chat/completions`. */
export function withEvent(answer: Answer, data: string): Answer {
  if (data === "[DONE]") return { ...answer, isWhole: true };
  const chunk: unknown = JSON.parse(data);
  if (!isRecord(chunk)) return answer;
  if (isRecord(chunk.error)) return { ...answer, failure: failureOf(chunk, null) };
  const choice: unknown = Array.isArray(chunk.choices) ? chunk.choices[0] : undefined;
  if (!isRecord(choice)) return answer;
  const next = isRecord(choice.delta) ? withDelta(answer, choice.delta) : answer;
  if (typeof choice.finish_reason !== "string") return next;
  const madang = isRecord(chunk.madang) ? chunk.madang : {};
  return {
    ...next,
    facts: factsOfAnswer(chunk.madang, chunk.timings, choice.finish_reason),
    message: typeof madang.message === "string" ? madang.message : null,
    question: typeof madang.question === "string" ? madang.question : null,
  };
}

function withDelta(answer: Answer, delta: Record<string, unknown>): Answer {
  const text = typeof delta.content === "string" ? delta.content : "";
  const reasoning = typeof delta.reasoning_content === "string" ? delta.reasoning_content : "";
  const calls = Array.isArray(delta.tool_calls) ? delta.tool_calls.flatMap(callOf) : [];
  return {
    ...answer,
    text: answer.text + text,
    reasoning: answer.reasoning + reasoning,
    calls: calls.length === 0 ? answer.calls : [...answer.calls, ...calls],
  };
}

/** In the form of a stream or of a kept turn. */
export function callOf(value: unknown): ToolCall[] {
  if (!isRecord(value)) return [];
  const call = isRecord(value.function) ? value.function : value;
  if (typeof call.name !== "string") return [];
  const given = call.arguments;
  return [{ name: call.name, arguments: typeof given === "string" ? given : JSON.stringify(given ?? {}) }];
}
