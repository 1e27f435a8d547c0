import { ActionIcon, Tooltip } from "@mantine/core";
import { useClipboard } from "@mantine/hooks";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import { useText } from "@/i18n";

/** Copies what `text` gives when it is pressed. */
export function CopyButton({ text: given, label, size = 28 }: { text: () => string; label?: string; size?: number }) {
  const text = useText();
  const clipboard = useClipboard({ timeout: 1500 });
  const shown = clipboard.copied ? text.app.copied : (label ?? text.app.copy);
  return (
    <Tooltip label={shown}>
      <ActionIcon size={size} aria-label={shown} onClick={() => clipboard.copy(given())}>
        {clipboard.copied ? <IconCheck size={16} /> : <IconCopy size={16} stroke={1.6} />}
      </ActionIcon>
    </Tooltip>
  );
}
