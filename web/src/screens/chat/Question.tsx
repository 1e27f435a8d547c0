import { ActionIcon, Button, Group, Textarea, Tooltip } from "@mantine/core";
import { IconPencil } from "@tabler/icons-react";
import { type KeyboardEvent, type ReactNode, useState } from "react";
import { CopyButton } from "@/components/CopyButton";
import { useText } from "@/i18n";
import classes from "./Message.module.css";

interface Props {
  content: string;
  /** The switcher between this question and those in its place. */
  branches?: ReactNode;
  /** Undefined while it cannot be edited. */
  onEdit?: ((content: string) => void) | undefined;
}

export function Question({ content, branches, onEdit }: Props) {
  const text = useText();
  const [isEditing, setEditing] = useState(false);
  if (isEditing && onEdit !== undefined) {
    const done = (edited: string) => {
      setEditing(false);
      onEdit(edited);
    };
    return <Editor content={content} onDone={done} onCancel={() => setEditing(false)} />;
  }
  return (
    <article className={classes.question} aria-label={text.chat.you}>
      <div className={classes.bubble}>{content}</div>
      <div className={classes.actions}>
        {branches}
        <CopyButton text={() => content} label={text.chat.copyQuestion} />
        {onEdit !== undefined && (
          <Tooltip label={text.chat.edit}>
            <ActionIcon size={28} aria-label={text.chat.edit} onClick={() => setEditing(true)}>
              <IconPencil size={16} stroke={1.6} />
            </ActionIcon>
          </Tooltip>
        )}
      </div>
    </article>
  );
}

interface EditorProps {
  content: string;
  onDone: (content: string) => void;
  onCancel: () => void;
}

function Editor({ content, onDone, onCancel }: EditorProps) {
  const text = useText();
  const [typed, setTyped] = useState(content);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Escape") onCancel();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && typed.trim() !== "") onDone(typed);
  };
  return (
    <div className={classes.editor}>
      <Textarea
        aria-label={text.chat.edit}
        rows={Math.min(12, Math.max(2, typed.split("\n").length + Math.floor(typed.length / 70)))}
        value={typed}
        autoFocus
        onChange={(event) => setTyped(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <Group gap="xs" justify="flex-end">
        <Button size="compact-md" variant="default" onClick={onCancel}>
          {text.app.cancel}
        </Button>
        <Button size="compact-md" disabled={typed.trim() === ""} onClick={() => onDone(typed)}>
          {text.chat.editSend}
        </Button>
      </Group>
    </div>
  );
}
