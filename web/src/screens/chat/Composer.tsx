import { ActionIcon, Tooltip } from "@mantine/core";
import { IconArrowUp, IconPlayerStopFilled } from "@tabler/icons-react";
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from "react";
import { useShortcut } from "@/app/shortcuts";
import { useText } from "@/i18n";
import { CollectionPicker } from "./CollectionPicker";
import classes from "./Composer.module.css";
import { draftOf, keepDraft } from "./preferences";

interface Props {
  session: string;
  isBusy: boolean;
  isReady: boolean;
  /** Whether it was taken; else what was typed stays. */
  onSend: (text: string) => Promise<boolean>;
  onStop: () => void;
}

/** Whether this Enter ends a message, rather than a line or a syllable that an input method is composing. */
export function sends(
  event: Pick<KeyboardEvent["nativeEvent"], "key" | "shiftKey" | "isComposing" | "keyCode">,
): boolean {
  // Safari ends the composition before it tells of the key, but still gives it the number of an unfinished one.
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

export function Composer({ session, isBusy, isReady, onSend, onStop }: Props) {
  const text = useText();
  const [typed, setTyped] = useState(() => draftOf(session));
  const field = useRef<HTMLTextAreaElement>(null);
  useShortcut("/", () => field.current?.focus());

  // As high as what is in it; the style sheet says how high at most.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows the text
  useLayoutEffect(() => {
    if (field.current === null) return;
    field.current.style.height = "auto";
    field.current.style.height = `${field.current.scrollHeight}px`;
  }, [typed]);

  useEffect(() => {
    if (matchMedia("(hover: hover)").matches) field.current?.focus(); // else a keyboard would cover half the screen
  }, []);

  const write = (value: string) => {
    setTyped(value);
    keepDraft(session, value);
  };
  const canSend = isReady && !isBusy && typed.trim() !== "";
  const send = async () => {
    if (!canSend) return;
    const message = typed.trim();
    setTyped("");
    if (await onSend(message)) keepDraft(session, "");
    else write(message);
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (!sends(event.nativeEvent)) return;
    event.preventDefault();
    void send();
  };

  return (
    <div className={classes.place}>
      <form
        className={classes.composer}
        onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}
      >
        <textarea
          ref={field}
          className={classes.field}
          rows={1}
          aria-label={text.chat.message}
          placeholder={text.chat.placeholder}
          value={typed}
          onChange={(event) => write(event.currentTarget.value)}
          onKeyDown={onKeyDown}
          enterKeyHint="send"
        />
        <div className={classes.row}>
          <CollectionPicker session={session} />
          {isBusy ? (
            <Tooltip label={text.chat.stop}>
              <ActionIcon
                size={36}
                radius="xl"
                variant="filled"
                color="dark"
                aria-label={text.chat.stop}
                onClick={onStop}
              >
                <IconPlayerStopFilled size={15} />
              </ActionIcon>
            </Tooltip>
          ) : (
            <ActionIcon
              type="submit"
              size={36}
              radius="xl"
              variant="filled"
              color="celadon"
              aria-label={text.chat.send}
              disabled={!canSend}
            >
              <IconArrowUp size={19} stroke={2} />
            </ActionIcon>
          )}
        </div>
      </form>
    </div>
  );
}
