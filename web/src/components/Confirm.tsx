import { Button, Group, Modal, Text } from "@mantine/core";
import type { ReactNode } from "react";
import { useText } from "@/i18n";
import { FailureText } from "./States";

interface Props {
  title: string;
  children: ReactNode;
  action: string;
  isBusy: boolean;
  error: unknown;
  onConfirm: () => void;
  onClose: () => void;
}

/** Asks before what cannot be undone. The focus begins on the way out. */
export function Confirm({ title, children, action, isBusy, error, onConfirm, onClose }: Props) {
  const text = useText();
  return (
    <Modal opened onClose={onClose} title={title} closeButtonProps={{ "aria-label": text.app.close }}>
      <Text size="sm">{children}</Text>
      {error !== null && error !== undefined && (
        <Text size="sm" c="var(--page-bad)" role="alert" mt="sm">
          <FailureText error={error} />
        </Text>
      )}
      <Group justify="flex-end" mt="lg" gap="sm">
        <Button variant="default" onClick={onClose} data-autofocus>
          {text.app.cancel}
        </Button>
        <Button color="red.8" loading={isBusy} onClick={onConfirm}>
          {action}
        </Button>
      </Group>
    </Modal>
  );
}
