import { type KeyboardEvent, type ReactNode, useMemo, useRef, useState } from "react";
import { useFormats } from "@/i18n";
import { useTable } from "@/i18n/table";
import classes from "./Tokens.module.css";
import { texts } from "./texts";
import { bytesOf, drawnOf, groupsOf, isPartial, type ModelTokens, type Token } from "./tokens";

const MOST_SHOWN = 4000;
const N_COLOURS = 5;

/**
 * A text as its tokens. Each has a border, and a colour other than its neighbours'; which one is looked at is told
 * below, for the pointer and for the arrow keys.
 */
export function TokenText({ model, text }: { model: ModelTokens; text: string }) {
  const own = useTable(texts);
  const { count } = useFormats();
  const [active, setActive] = useState<number | null>(null);
  const list = useRef<HTMLDivElement>(null);
  const shown = useMemo(() => model.tokens.slice(0, MOST_SHOWN), [model.tokens]);
  const groups = useMemo(() => groupsOf(shown, text), [shown, text]);
  const group = groups.find((one) => one.tokens.some(({ index }) => index === active));
  const looked = active === null ? undefined : shown[active];

  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const next = event.key === "Home" ? 0 : event.key === "End" ? shown.length - 1 : null;
    if ((step === undefined && next === null) || shown.length === 0) return;
    event.preventDefault();
    const to =
      next ?? Math.max(0, Math.min(shown.length - 1, (active ?? (step === 1 ? -1 : shown.length)) + (step ?? 0)));
    setActive(to);
    list.current?.querySelector(`[data-index="${to}"]`)?.scrollIntoView({ block: "nearest" });
  };

  return (
    <>
      <div
        ref={list}
        className={classes.tokens}
        role="group"
        aria-label={own.tokensOf(model.name)}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys go through its tokens
        tabIndex={0}
        onKeyDown={move}
        onMouseOver={(event) => setActive(indexOf(event.target))}
        onMouseLeave={() => setActive(null)}
        onFocus={() => setActive((now) => now ?? (shown.length > 0 ? 0 : null))}
        onBlur={() => setActive(null)}
      >
        {groups.map((one) => (
          <GroupView key={one.tokens[0]?.index} character={one.character}>
            {one.tokens.map(({ token, index }) => (
              <TokenView key={index} token={token} index={index} isActive={index === active} />
            ))}
          </GroupView>
        ))}
      </div>
      {shown.length < model.tokens.length && (
        <p className={classes.hint}>{own.shown(count(shown.length), count(model.tokens.length))}</p>
      )}
      <p className={classes.looked} aria-live="polite">
        {looked === undefined ? (
          <span className={classes.hint}>{own.inspectHint}</span>
        ) : (
          <Looked token={looked} character={group?.character ?? null} />
        )}
      </p>
    </>
  );
}

function indexOf(target: EventTarget): number | null {
  const index = target instanceof Element ? target.closest<HTMLElement>("[data-index]")?.dataset.index : undefined;
  return index === undefined ? null : Number(index);
}

function GroupView({ character, children }: { character: string | null; children: ReactNode }) {
  if (character === null || character === "") return <>{children}</>;
  return (
    <span className={classes.shared}>
      <span className={classes.sharedName}>{character}</span>
      <span className={classes.sharedParts}>{children}</span>
    </span>
  );
}

function TokenView({ token, index, isActive }: { token: Token; index: number; isActive: boolean }) {
  const drawn = drawnOf(token);
  return (
    <>
      <span
        className={classes.token}
        data-index={index}
        data-colour={index % N_COLOURS}
        data-active={isActive || undefined}
        data-control={token.is_control || undefined}
        data-partial={isPartial(token) || undefined}
        title={`${token.id}`}
      >
        {drawn.text}
      </span>
      {drawn.breaks && <br />}
    </>
  );
}

function Looked({ token, character }: { token: Token; character: string | null }) {
  const own = useTable(texts);
  const { count } = useFormats();
  const bytes = bytesOf(token.text)
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join(" ");
  const parts = [
    `${own.bytes} ${bytes}`,
    `${own.place} ${count(token.start)}–${count(token.end)}`,
    token.is_control ? own.control : null,
    character === null ? null : own.partOf(character),
  ];
  return (
    <>
      <strong>
        {own.token} {token.id}
      </strong>{" "}
      <code>{drawnOf(token).text}</code> {parts.filter((part) => part !== null).join(" · ")}
    </>
  );
}
