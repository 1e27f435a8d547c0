import type { Schemas } from "@/api/client";

export type Turn = Schemas["SessionMessage"];

/** A turn on the way to the end of the conversation, and which of the turns in its place it is. */
export interface Placed {
  turn: Turn;
  /** All turns that follow the same one and have the same role, the oldest first. */
  siblings: readonly string[];
}

/** Every branch of a session: what follows what. Turns come in the order they were said. */
export class Branches {
  readonly #turns = new Map<string, Turn>();
  readonly #following = new Map<string, string[]>(); // "" is the beginning

  constructor(turns: readonly Turn[]) {
    for (const turn of turns) {
      this.#turns.set(turn.id, turn);
      const before = turn.parent ?? "";
      const following = this.#following.get(before);
      if (following === undefined) this.#following.set(before, [turn.id]);
      else following.push(turn.id);
    }
  }

  get(id: string): Turn | undefined {
    return this.#turns.get(id);
  }

  /** From the beginning to this turn; empty for null and for what is not here. */
  path(end: string | null): Placed[] {
    const path: Placed[] = [];
    const seen = new Set<string>();
    let turn = end === null ? undefined : this.#turns.get(end);
    while (turn !== undefined && !seen.has(turn.id)) {
      seen.add(turn.id);
      path.push({ turn, siblings: this.#siblings(turn) });
      turn = turn.parent === null ? undefined : this.#turns.get(turn.parent);
    }
    return path.reverse();
  }

  /** The end of the branch that a turn is in: where its newest descendants lead. */
  end(id: string): string {
    let end = id;
    const seen = new Set<string>();
    for (;;) {
      seen.add(end);
      const next = this.#following.get(end)?.at(-1);
      if (next === undefined || seen.has(next)) return end;
      end = next;
    }
  }

  #siblings(turn: Turn): readonly string[] {
    const all = this.#following.get(turn.parent ?? "") ?? [];
    return all.filter((id) => this.#turns.get(id)?.role === turn.role);
  }
}
